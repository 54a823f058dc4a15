"""`inverdict run` killed at ten random points: the same command ends with the same artefacts."""

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
from cluster.runtime import say
from tests.cluster.fake_endpoint import Answer, Endpoint, said, serving
from tests.killing import killed_when
from tests.serve.making import jsonl, row
from tests.train.test_distill import numbered

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
NUM_KILLS = 10
NUM_RECORDS, NUM_INSTRUCTIONS = 80, 80
BLOCK_ROWS = 2


def answer(body: dict[str, Any]) -> Answer:
    """The same to the same prompt: a label by the prompt's length, or a sentence."""
    prompt = body["messages"][-1]["content"]
    time.sleep(0.1)
    if body.get("logprobs"):
        label = str(1 + sum(map(ord, prompt)) % 5)
        return Answer(said(label, tokens=[(label, {one: -0.1 if one == label else -3.0 for one in "12345"})]))
    return Answer(said(f"An answer to {prompt}"))


def configuration(folder: Path, endpoint: Endpoint) -> str:
    folder.mkdir()
    rows = [row(f"r{number:02d}", f"g{number}", scores={"overall": 1 + number % 5}) for number in range(NUM_RECORDS)]
    config = {
        "run": str(folder / "run"),
        "instructions": {"files": [jsonl(folder / "instructions.jsonl", numbered(NUM_INSTRUCTIONS))]},
        "data": {"records": [jsonl(folder / "in.jsonl", rows)]},
        "models": {"m": {"backend": "http", "base_url": endpoint.base_url, "model": "m"}},
        "distill": {"models": ["m"], "block_rows": BLOCK_ROWS},
        "evaluate": {"judges": {"m": {"model": "m"}}, "block_rows": BLOCK_ROWS},
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
        assert main(["run", configuration(tmp_path / "calm", endpoint)]) == 0
        once = asked(endpoint)
        # Each instruction and each record is asked once.
        assert once.total() == len(once) == NUM_RECORDS + NUM_INSTRUCTIONS

        endpoint.requests.clear()
        config = configuration(tmp_path / "killed", endpoint)
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
