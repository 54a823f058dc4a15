"""The job `evaluate` with the embedded SmolLM2 on the real vLLM, against a forward pass of transformers as oracle."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster import models
from cluster.tokens import Encoder
from evaluation.judges.judge_config import JudgeConfig, build_judge
from judging.datasets import read_records
from judging.parse import parse_reply
from judging.records import Record, Scale
from tests.engine_run import HUGE, NUM_ROWS, SOURCE, EngineRun

pytestmark = pytest.mark.engine


@pytest.fixture
def run(engine_run: EngineRun) -> Path:
    return engine_run.folder


def test_the_model_is_looked_up_once_for_all_judges_and_starts(engine_run: EngineRun) -> None:
    assert engine_run.looked_up == [SOURCE]  # four judges, the fingerprint, the tokenizer and two starts


def verdicts(run: Path, judge: str) -> dict[str, dict[str, Any]]:
    parts = (run / "run" / "evaluate" / "verdicts" / judge).glob("part-*.parquet")
    rows = [one for part in parts for one in pq.read_table(part).to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows) == NUM_ROWS
    return {row["id"]: row for row in rows}


def test_expected_scores_lie_in_the_scale_with_probability_on_the_labels(run: Path) -> None:
    found = verdicts(run, "expected")
    assert {row["unscored"] for id, row in found.items() if id != HUGE} == {None}
    for id, row in found.items():
        if id != HUGE:
            assert 1 <= row["score"] <= 5
            assert 0.3 < row["label_mass"] <= 1
            assert math.fsum(row["label_probabilities"]) == pytest.approx(1)
            assert row["num_generated_tokens"] == 1
            assert row["num_prompt_tokens"] > 100
    # A judge that always says the same has read nothing.
    assert len({round(row["score"], 6) for id, row in found.items() if id != HUGE}) == NUM_ROWS - 1


def test_another_prompt_in_the_same_start_is_another_judge(run: Path) -> None:
    found, other = verdicts(run, "expected"), verdicts(run, "other")
    for id, row in other.items():
        if id != HUGE:
            assert (row["unscored"], row["mode"]) == (None, "expected")
            assert 1 <= row["score"] <= 5
            assert row["score"] != found[id]["score"]
            assert row["num_prompt_tokens"] < found[id]["num_prompt_tokens"]


@pytest.mark.parametrize("judge", ["expected", "other", "shown", "parsed"])
def test_a_candidate_of_ten_megabytes_is_too_long_and_stops_nobody(run: Path, judge: str) -> None:
    row = verdicts(run, judge)[HUGE]
    assert (row["score"], row["unscored"]) == (None, "too_long")


def test_expected_scores_are_those_of_a_transformers_forward_pass(run: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = str(models.resolve(SOURCE).path)
    known = Encoder(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    records = [one for one in read_records([run / "in.jsonl"]) if isinstance(one, Record) and one.id != HUGE]
    wanted = {(one.task, "overall"): None for one in records}
    judge = build_judge("oracle", JudgeConfig(model="m"), wanted, {}, known.special_tokens())
    found = verdicts(run, "expected")
    for record in [*records[:4], *records[-2:]]:  # of both tasks
        asked = judge.request(record, "overall")
        prefix, label_ids = known.label_tokens(asked["reply_prefix"], asked["labels"])
        ids = known.prompt_ids(asked["prompt"], prefix, 1023)
        assert ids is not None
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        masses = torch.softmax(logits.double(), dim=0)[list(label_ids)]
        mass = float(masses.sum())
        score = float((masses * torch.arange(1, 6)).sum()) / mass
        row = found[record.id]
        assert (row["score"], row["label_mass"]) == (pytest.approx(score, abs=1e-3), pytest.approx(mass, abs=1e-3))
        assert row["num_prompt_tokens"] == len(ids)


def test_a_parsed_reply_is_the_agreed_json_or_has_a_reason_that_is_counted(run: Path) -> None:
    found = {id: row for id, row in verdicts(run, "parsed").items() if id != HUGE}
    for row in found.values():
        if row["score"] is None:
            assert row["unscored"] == "cut_off"
            assert row["detail"]
        else:
            assert row["score"] in (1, 2, 3, 4, 5)
            assert row["reason"]
            again = json.dumps({"reason": row["reason"], "overall_score": int(row["score"])})
            assert parse_reply(again, "overall", Scale(1, 5)).score == row["score"]
        assert 1 < row["num_generated_tokens"] <= 120
    assert [row for row in found.values() if row["score"] is not None]
    told = json.loads((run / "run" / "evaluate" / "manifest.json").read_text())["summary"]
    assert told["dtypes"] == {"m": "float32"}
    summary = told["judges"]["parsed"]
    unscored = [row["unscored"] for row in verdicts(run, "parsed").values() if row["unscored"]]
    assert summary["coverage"] == pytest.approx(1 - len(unscored) / NUM_ROWS)
    assert summary["unscored"] == {reason: unscored.count(reason) for reason in unscored}
