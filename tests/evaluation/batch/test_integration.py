"""The integrating model in batch: the same score as online, the aggregated score where it fails, resumed, counted."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cluster.__main__ import main
from cluster.config import load
from cluster.jobs import sections
from evaluation.batch.evaluate import main as evaluate
from tests.evaluation.making import jsonl, row
from tests.refusals import refused
from tests.serve.online import SCRIPTED, Local, client, configured

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
JUDGES = {"first": {"model": "a"}, "second": {"model": "b", "score_mode": "parsed"}}
# A record whose text holds the word gets no score from the integrating model.
INTEGRATOR = {**SCRIPTED, "rules": [{"contains": "hopeless", "reply": "I cannot say."}]}


def written(folder: Path, **evaluate: Any) -> tuple[str, dict[str, Any]]:
    """A configuration with twelve records, the last of which is hopeless."""
    records = [row(f"r{number}", f"g{number // 3}") for number in range(11)]
    records.append(row("r11", "g3", candidate="hopeless"))
    raw = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "records.jsonl", records)]},
        "models": {"a": SCRIPTED, "b": SCRIPTED, "i": INTEGRATOR},
        "evaluate": {"judges": JUDGES, "integrator": {"model": "i"}, "block_rows": 3, **evaluate},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(raw))
    return str(folder / "c.yaml"), raw


def scores(folder: Path) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in pq.read_table(folder / "run" / "evaluate" / "scores.parquet").to_pylist()}


async def test_batch_and_online_integrate_alike_and_fall_back_alike(tmp_path: Path) -> None:
    path, raw = written(tmp_path)
    assert main(["evaluate", path]) == 0
    found = scores(tmp_path)
    service = Local(configured(tmp_path, **{key: value for key, value in raw.items() if key != "run"}))
    async with client(service) as http:
        for line in (tmp_path / "records.jsonl").read_text().splitlines():
            one = json.loads(line)
            body = {"task": "qa", "fields": {"source": one["source"], "candidate": one["candidate"]}}
            (told,) = (await http.post("/v1/judge", json=body)).json()["results"]
            batch = found[one["id"]]
            assert batch["panel.vote"] == pytest.approx(sum(vote["score"] for vote in told["votes"]) / 2)
            assert batch["panel.fallback"] == told["integrated"]["error"]
            if one["id"] == "r11":
                assert (batch["panel.fallback"], batch["panel.score"]) == ("unparsed", batch["panel.vote"])
                assert told["score"] == pytest.approx(batch["panel.vote"])
            else:
                assert batch["panel.reason"].startswith("Scripted reason")
                assert batch["panel.score"] in (1, 2, 3, 4, 5)


def test_only_a_lost_part_is_queried_again(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    assert main(["evaluate", path]) == 0
    before = scores(tmp_path)
    folder = tmp_path / "run" / "evaluate"
    lost, *others = sorted((folder / "integrator").glob("part-*.parquet"))
    times = {part: part.stat().st_mtime_ns for part in others}
    lost.write_bytes(b"half")
    (folder / "manifest.json").unlink()
    assert main(["evaluate", path]) == 0
    assert scores(tmp_path) == before
    assert {part: part.stat().st_mtime_ns for part in others} == times


def test_rows_without_an_aggregated_score_are_not_queried(tmp_path: Path) -> None:
    path, raw = written(tmp_path, vote={"min_votes": 2}, max_unscored_share=1)
    raw["models"]["a"] = {**SCRIPTED, "rules": [{"contains": "Answer r1.", "error": "error"}]}
    Path(path).write_text(yaml.safe_dump(raw))
    assert main(["evaluate", path]) == 0
    found = scores(tmp_path)["r1"]
    assert (found["panel.score"], found["panel.unscored"], found["panel.vote"]) == (None, "no_quorum", None)
    assert (found["panel.reason"], found["panel.fallback"]) == (None, None)


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path, integrator={"model": "none"})
    with refused("unknown_model", "evaluate.integrator.model", naming="'none'"):
        evaluate(load(Path(path), [], sections()))
    assert not (tmp_path / "run").exists()
