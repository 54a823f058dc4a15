"""Small input files, verdicts and run folders by hand, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from judging.records import Record, Scale
from judging.tasks import load_task
from judging.template import rubric_template
from serve.batch import VERDICT_SCHEMA
from serve.ingest import RECORD_SCHEMA
from serve.judge import Judge


def row(id: str, group: str = "g", **more: Any) -> dict[str, Any]:
    """A row of an input file, as people write it."""
    texts = {"source": f"Question {group}?", "candidate": f"Answer {id}."}
    return {"id": id, "task": "qa", "group": group, **texts, "scores": {"overall": 3}, "scale": [1, 5], **more}


def jsonl(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> str:
    """Write the rows, those that are texts as they are, and return the path."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def judge(name: str, *keys: tuple[str, str], **more: Any) -> Judge:
    templates = {
        (task, aspect): rubric_template(load_task(task), aspect) for task, aspect in keys or [("qa", "overall")]
    }
    return Judge(name=name, mode=more.pop("mode", "expected"), templates=templates, **more)


def record(id: str, group: str = "g", *, label: float | None = 3.0, high: float = 5.0, **more: Any) -> Record:
    """A record whose aspect `overall` was rated `label` on the scale 1 to `high`."""
    rated: dict[str, Any] = (
        {} if label is None else {"scores": {"overall": label}, "scales": {"overall": Scale(1, high)}}
    )
    texts = {"source": f"Question {group}?", "candidate": f"Answer {id}."}
    return Record(**{"id": id, "task": "qa", "group": group, "system": "s", **texts, **rated, **more})


def write_records(folder: Path, *parts: Sequence[Record]) -> None:
    (folder / "records").mkdir(parents=True)
    for number, part in enumerate(parts):
        rows = [{**one.to_row(), "group_key": one.group_key} for one in part]
        pq.write_table(
            pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), folder / "records" / f"part-{number:06d}.parquet"
        )


def write_verdicts(folder: Path, name: str, scores: Mapping[tuple[str, str], float | str]) -> None:
    """One verdict a record's id and aspect: a score, or why there is none; `reason` tells which verdict it is."""
    rows = [
        {
            "id": id,
            "aspect": aspect,
            "score": None if isinstance(score, str) else float(score),
            "unscored": score if isinstance(score, str) else None,
            "mode": "expected",
            "label_mass": 0.9,
            "reason": f"{name} on {id}",
        }
        for (id, aspect), score in scores.items()
    ]
    (folder / "verdicts" / name).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=VERDICT_SCHEMA), folder / "verdicts" / name / "part-0.parquet")
