"""Small input files, verdicts and run folders by hand, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artifacts import JobDir
from evaluation.batch.ingest import RECORD_SCHEMA
from evaluation.batch.scores import _schema as score_schema
from evaluation.batch.verdicts import VERDICT_SCHEMA
from evaluation.judges.few_shot import SCHEMA as EXAMPLES_SCHEMA
from judging.judge import Judge
from judging.records import Record, Scale
from judging.tasks import load_task
from judging.template import Template, rubric_template
from judging.template_io import save_templates


def row(id: str, group: str = "g", **more: Any) -> dict[str, Any]:
    """A row of an input file, as people write it."""
    texts = {"source": f"Question {group}?", "candidate": f"Answer {id}."}
    return {"id": id, "task": "qa", "group": group, **texts, "scores": {"overall": 3}, "scale": [1, 5], **more}


def jsonl(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> str:
    """Write the rows, those that are texts as they are, and return the path."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def examples_parts(
    run: Path, judge: str, means: Sequence[float | None], *, aspect: str = "overall", size: int = 4
) -> None:
    """What `evaluate` keeps of the examples shown for the texts r0, r1, ...: parts of `size` rows."""
    folder = run / "evaluate" / "examples" / judge
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [
        {"id": f"r{place}", "aspect": aspect, "examples": [], "mean_score": mean, "num_dropped": 0}
        for place, mean in enumerate(means)
    ]
    for first in range(0, len(rows), size):
        table = pa.Table.from_pylist(rows[first : first + size], schema=EXAMPLES_SCHEMA)
        pq.write_table(table, folder / f"part-{aspect}-{first}.parquet")


def judge(name: str, *keys: tuple[str, str], **more: Any) -> Judge:
    templates = {
        (task, aspect): rubric_template(load_task(task), aspect) for task, aspect in keys or [("qa", "overall")]
    }
    return Judge(name=name, mode=more.pop("mode", "expected"), templates=templates, **more)


LEARNED = "Say how good {{candidate}} is as an answer to {{source}}."


def template_at(path: Path, *aspects: str, task: str = "qa", text: str = LEARNED, **about: Any) -> Path:
    """Write a template file as `inverdict invert` leaves it, for one aspect or several, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rubrics = [rubric_template(load_task(task), aspect) for aspect in aspects or ("overall",)]
    save_templates(
        path,
        [Template(text, task, one.aspect, one.scale, one.fields, origin="inverse", about=about) for one in rubrics],
    )
    return path


def inverted(run: Path, model: str) -> Path:
    """The folder `{run}/invert/{model}` of a job that has finished, still without templates."""
    job = JobDir(run / "invert", model)
    with job.opened({}):
        job.claim()
        job.finish({})
    for source in ("inverse", "forward"):
        (job.path / source).mkdir()
    return job.path


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


def write_verdicts_file(
    folder: Path, name: str, scores: Mapping[tuple[str, str], float | str], *, thought: str | None = None
) -> None:
    """One verdict a record's id and aspect: a score, or why there is none; `reason` tells which verdict it is.

    `thought`: what a reasoning model thought before each of them.
    """
    rows = [
        {
            "id": id,
            "aspect": aspect,
            "score": None if isinstance(score, str) else float(score),
            "unscored": score if isinstance(score, str) else None,
            "mode": "parsed" if thought else "expected",
            "label_mass": 0.9,
            "reason": f"{name} on {id}",
            "reasoning": f"{thought} about {id}" if thought else None,
        }
        for (id, aspect), score in scores.items()
    ]
    (folder / "verdicts" / name).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=VERDICT_SCHEMA), folder / "verdicts" / name / "part-0.parquet")


def scores_file(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """`scores.parquet` as the job `evaluate` writes it, from rows with `id`, `group`, `label`, `scores` (by judge).

    The panel's score is the mean; `unscored` (by judge) gives the reason where the score is None, `modes` score modes.
    """
    tables = []
    for one in rows:
        scores = one["scores"]
        known = [score for score in scores.values() if score is not None]
        reasons = one.get("unscored", {})
        columns: dict[str, Any] = {
            "id": one["id"],
            "task": one.get("task", "qa"),
            "dataset": one.get("dataset", "d"),
            "group": one["group"],
            "system": one.get("system", ""),
            "aspect": one.get("aspect", "overall"),
            "label": one["label"],
            "ratings": json.dumps(one.get("ratings", [])),
            "scale_low": 1.0,
            "scale_high": one.get("high", 5.0),
            "candidate_chars": one.get("candidate_chars", 10),
        }
        for name, score in scores.items():
            columns |= {
                f"{name}.score": score,
                f"{name}.unscored": reasons.get(name, "unparsed") if score is None else None,
                f"{name}.mode": one.get("modes", {}).get(name, "expected"),
                f"{name}.label_mass": 0.9,
                f"{name}.reason": one.get("reason"),
            }
        columns |= {
            "panel.score": sum(known) / len(known) if known else None,
            "panel.unscored": None if known else "no_quorum",
            "panel.num_votes": len(known),
            "panel.num_abstentions": len(scores) - len(known),
        }
        tables.append(columns)
    names = [name.removesuffix(".score") for name in tables[0] if name.endswith(".score") and name != "panel.score"]
    schema = score_schema({name: Judge(name, "expected", {}) for name in names})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(tables, schema=schema), folder / "scores.parquet")
    return folder / "scores.parquet"
