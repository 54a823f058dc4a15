"""Rated records by hand and whole configurations, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from judging.records import Record, Scale

SCRIPTED: dict[str, Any] = {"backend": "scripted"}
SUBJECTS = ("rivers", "bread", "planets", "chess", "violins", "glaciers", "bees", "bridges")


def rated(number: int, **changes: Any) -> Record:
    """Record number so and so: two of a group, eight subjects, scores of 1 to 5."""
    subject = SUBJECTS[number // 2 % len(SUBJECTS)]
    made: dict[str, Any] = {
        "id": f"r{number}",
        "task": "qa",
        "group": f"g{number // 2}",
        "source": f"What is known about {subject} in the year {1800 + number // 2}?",
        "candidate": f"Answer {number} says this of {subject}: " + " ".join(f"w{number}x{n}" for n in range(9)),
        "scores": {"overall": float(1 + number * 3 % 5)},
        "scales": {"overall": Scale(1, 5)},
        **changes,
    }
    return Record(**made)


def pool_of(count: int) -> dict[str, Record]:
    return {record.id: record for record in map(rated, range(count))}


def line(record: Record) -> dict[str, Any]:
    scale = next(iter(record.scales.values()), None)
    return {
        **{name: getattr(record, name) for name in ("id", "task", "group", "source", "candidate", "dataset")},
        "scores": dict(record.scores),
        "scale": [scale.low, scale.high] if scale else None,
    }


def jsonl(path: Path, records: Iterable[Record]) -> str:
    path.write_text("".join(json.dumps(line(record)) + "\n" for record in records), encoding="utf-8")
    return str(path)


def configuration(folder: Path, records: Iterable[Record], **sections: Mapping[str, Any]) -> str:
    """A configuration file whose pool and records are `records`; `sections` are added, `data` and `models` merged."""
    folder.mkdir(exist_ok=True)
    file = jsonl(folder / "rated.jsonl", records)
    config = {
        "run": str(folder / "run"),
        **sections,
        "data": {"records": [file], "pool": [file], **sections.get("data", {})},
        "models": {"m": SCRIPTED, **sections.get("models", {})},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")
