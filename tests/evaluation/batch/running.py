"""Records, configurations and results of `evaluate` with engines that need no model, for the tests of this folder."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from evaluation.batch.verdicts import VERDICT_SCHEMA
from tests.evaluation.making import jsonl


def configuration(folder: Path, rows: list[dict[str, Any]], models: dict[str, Any], **evaluate: Any) -> str:
    """Write the records and the configuration; every model judges under its own name unless `judges` says otherwise."""
    evaluate.setdefault("judges", {name: {"model": name} for name in models})
    config = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "in.jsonl", rows)]},
        "models": models,
        "evaluate": evaluate,
        "report": {"resamples": 100},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def scores(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "run" / "evaluate" / "scores.parquet").to_pylist()
    return found


def verdicts(folder: Path, judge: str) -> list[dict[str, Any]]:
    parts = (folder / "run" / "evaluate" / "verdicts" / judge).glob("part-*.parquet")
    return [one for part in parts for one in pq.read_table(part, schema=VERDICT_SCHEMA).to_pylist()]
