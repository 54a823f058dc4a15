"""One `evaluate` with the embedded SmolLM2 on the real vLLM, which all engine tests of batch and online read."""

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from cluster import models
from cluster.__main__ import main
from tests.evaluation.making import template_at
from tests.serve.serving import free_port

ROOT = Path(__file__).parents[1]
SOURCE = "embedded:smollm2-135m-instruct"
HUGE = "huge"  # id of the record with a candidate of 10 MB
NUM_QA, NUM_SUMMARISATION = 5, 2
NUM_ROWS = NUM_QA + NUM_SUMMARISATION + 1


class EngineRun(NamedTuple):
    folder: Path  # holds c.yaml, in.jsonl and run/
    config: Path
    port: int  # free, for a server of the same configuration
    looked_up: list[str]  # sources of models that the job looked up, one entry each time

    def rows(self) -> list[dict[str, Any]]:
        """The records as they stand in the file."""
        return [json.loads(line) for line in (self.folder / "in.jsonl").read_text(encoding="utf-8").splitlines()]


def evaluated(folder: Path) -> EngineRun:
    """Four judges of one model in two starts of an engine; one row is too long for all of them."""
    for task in ("qa", "summarisation"):
        text = "Is {{candidate}} any good for {{source}}?"
        template_at(folder / "prompts" / f"{task}.txt", "overall", task=task, text=text)
    lines = (ROOT / "examples" / "constructed.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    few = [
        *islice((row for row in rows if row["task"] == "qa"), NUM_QA),
        *islice((row for row in rows if row["task"] == "summarisation"), NUM_SUMMARISATION),
    ]
    huge = {**few[0], "id": HUGE, "candidate": "word " * 2_000_000}
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (*few, huge)), encoding="utf-8")
    port = free_port()
    config = {
        "run": str(folder / "run"),
        "data": {
            "records": [str(folder / "in.jsonl")],
            "pool": [str(ROOT / "examples" / "pool.jsonl")],
            "labels": "constructed",
        },
        "models": {
            "m": {
                "source": SOURCE,
                "max_model_len": 1024,
                "kv_cache_gib": 0.5,
                "dtype": "float32",
                "engine_metrics": True,
            }
        },
        "evaluate": {
            "judges": {
                "expected": {"model": "m"},
                "other": {"model": "m", "prompt": str(folder / "prompts")},
                "shown": {"model": "m", "icl": {"arm": "bm25", "k": 2}},
                "parsed": {"model": "m", "score_mode": "parsed", "max_tokens": 120},
            }
        },
        "serve": {"port": port},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    looked_up: list[str] = []
    look_up = models._look_up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "_look_up", lambda *args: looked_up.append(args[0]) or look_up(*args))
        assert main(["evaluate", str(folder / "c.yaml")]) == 3
    return EngineRun(folder, folder / "c.yaml", port, looked_up)
