"""`inverdict run` killed at random points: the same command ends with the same artefacts."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cluster.__main__ import main
from cluster.terminal import say
from tests.cluster.fake_endpoint import Answer, Endpoint, said, serving
from tests.evaluation.making import jsonl, row
from tests.killing import killed_when
from tests.train.test_distill import numbered

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
NUM_KILLS = 10


def answer(body: dict[str, Any]) -> Answer:
    """The same to the same prompt: a label by the prompt's length, or a sentence."""
    prompt = body["messages"][-1]["content"]
    time.sleep(0.1)
    if body.get("logprobs"):
        label = str(1 + sum(map(ord, prompt)) % 5)
        return Answer(said(label, tokens=[(label, {one: -0.1 if one == label else -3.0 for one in "12345"})]))
    return Answer(said(f"An answer to {prompt}"))


def configuration(folder: Path, model: dict[str, Any], **sizes: int) -> str:
    folder.mkdir()
    size = {"records": 80, "instructions": 80, "block_rows": 2, "max_tokens": 1024, **sizes}
    numbers = range(size["records"])
    rows = [row(f"r{number:02d}", f"g{number}", scores={"overall": 1 + number % 5}) for number in numbers]
    config = {
        "run": str(folder / "run"),
        "instructions": {"files": [jsonl(folder / "instructions.jsonl", numbered(size["instructions"]))]},
        "data": {"records": [jsonl(folder / "in.jsonl", rows)]},
        "models": {"m": model},
        "distill": {"models": ["m"], "block_rows": size["block_rows"], "max_tokens": size["max_tokens"]},
        "evaluate": {"judges": {"m": {"model": "m"}}, "block_rows": size["block_rows"]},
        "report": {"resamples": 100},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def artefacts(folder: Path) -> tuple[list[Any], list[Any], Any]:
    """Answers, scores and statistics, without times and places."""
    run = folder / "run"
    answers = [one for part in run.glob("distill/m/part-*") for one in pq.read_table(part).to_pylist()]
    scores = pq.read_table(run / "evaluate" / "scores.parquet").to_pylist()
    metrics = json.loads((run / "report" / "metrics.json").read_text().replace(str(folder), "HERE"))
    del metrics["written"]
    return sorted(answers, key=lambda one: str(one["id"])), sorted(scores, key=lambda one: str(one["id"])), metrics


def asked(endpoint: Endpoint) -> Counter[str]:
    return Counter(body["messages"][-1]["content"] for body in list(endpoint.requests))


def test_a_driver_killed_at_ten_points_ends_with_the_same_artefacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as endpoint:
        endpoint.answer = answer
        model = {"backend": "http", "base_url": endpoint.base_url, "model": "m"}
        assert main(["run", configuration(tmp_path / "calm", model)]) == 0
        once = asked(endpoint)
        # Each instruction and each record is asked once.
        assert once.total() == len(once) == 160

        endpoint.requests.clear()
        config = configuration(tmp_path / "killed", model)
        points = sorted(random.Random(7).sample(range(1, len(once)), NUM_KILLS))
        for point in points:
            killed_when("run", config, lambda point=point: len(asked(endpoint)) >= point)  # type: ignore[misc]
        assert main(["run", config]) == 0
        found = asked(endpoint)
    assert artefacts(tmp_path / "killed") == artefacts(tmp_path / "calm")
    assert set(found) == set(once)
    twice = found.total() - len(once)
    with capsys.disabled():
        say(f"\nkilled at {points} of {len(once)} answers: {twice} asked again ({twice / len(once):.0%})")
    # A kill may cost the blocks that are under way, never what is on disk: far from all of it again.
    assert twice < NUM_KILLS * len(once) / 4


@pytest.mark.engine
def test_the_same_with_a_real_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three kills: while the engine starts, with answers on disk, with some of the verdicts on disk."""
    model = {"source": "embedded:smollm2-135m-instruct", "max_model_len": 1024}
    sizes = {"records": 140, "instructions": 40, "block_rows": 4, "max_tokens": 24}
    assert main(["run", configuration(tmp_path / "calm", model, **sizes)]) == 0
    config = configuration(tmp_path / "killed", model, **sizes)
    run = tmp_path / "killed" / "run"

    def parts() -> dict[Path, int]:
        found = [*run.glob("distill/m/part-*.parquet"), *run.glob("evaluate/verdicts/m/part-*.parquet")]
        return {part: part.stat().st_mtime_ns for part in found}

    def on_disk() -> int:
        return sum(pq.read_metadata(part).num_rows for part in parts())

    kept: list[int] = []
    for is_time in (
        (run / "distill" / "m" / "fingerprint.json").exists,
        lambda: on_disk() > 0,
        lambda: on_disk() > sizes["instructions"],
    ):
        before = parts()
        killed_when("run", config, is_time)
        assert before.items() <= parts().items()  # what lay there is not made again
        kept.append(on_disk())
    assert kept[0] == 0 and sizes["instructions"] < kept[2] < sizes["instructions"] + sizes["records"]
    before = parts()
    assert main(["run", config]) == 0
    assert before.items() <= parts().items()
    found, calm = artefacts(tmp_path / "killed"), artefacts(tmp_path / "calm")
    assert [(one["id"], one["response"]) for one in found[0]] == [(one["id"], one["response"]) for one in calm[0]]
    assert [one["id"] for one in found[1]] == [one["id"] for one in calm[1]]
    # Other prompts beside it in the engine's batch move a float's last digits.
    scores = [[one["m.score"] for one in side[1]] for side in (found, calm)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    with capsys.disabled():
        largest = max(abs(a - b) for a, b in zip(*scores, strict=True))
        say(f"\nkilled three times, {kept} of 180 rows on disk then; largest difference of a score {largest:.1g}")
