"""Small instruction files, rated examples, units and candidates by hand, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from judging.records import Record, Scale
from judging.tasks import load_task
from judging.template import Template
from train.inversion.one_shot import Unit
from train.inversion.prompt_candidates import Candidate


def jsonl(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> str:
    """Write the rows, those that are texts as they are, and return the path."""
    lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def rated(
    id: str, scores: Mapping[str, float], *, task: str = "qa", scale: tuple[float, float] = (1, 5), **more: Any
) -> Record:
    """A record that people rated, all aspects on one scale; its group and texts are its own unless said otherwise."""
    texts = {"source": f"Question {id}?", "candidate": f"Answer {id}."}
    return Record(
        **{"id": id, "task": task, "group": f"g-{id}", **texts, **more},
        scores=dict(scores),
        scales=dict.fromkeys(scores, Scale(*scale)),
    )


def unit(*examples: Record, aspects: tuple[str, ...] | None = None) -> Unit:
    """The unit of these examples; without `aspects`, all that the first one was rated on."""
    return Unit(examples[0].task, aspects or tuple(examples[0].scores), examples)


TEXT = "How good is {{candidate}} as an answer to {{source}}?"


def candidate(
    number: int, made_for: Unit, *, text: str = TEXT, problems: tuple[str, ...] = (), **found: str
) -> Candidate:
    """A candidate with templates of that text; `found`: how each field's text was found."""
    templates = {
        aspect: Template(text, made_for.task, aspect, made_for.scale_of(aspect), load_task(made_for.task).fields)
        for aspect in made_for.aspects
    }
    how = found or {spec.name: "exact" for spec in made_for.fields}
    return Candidate(number, made_for.examples[0].id, "raw", text, how, (), problems, templates)
