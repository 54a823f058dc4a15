"""The rows of the record browser, one per record and aspect, as columns: of a finished evaluation, or of one under way.

Columns: id, task, dataset, group, system, aspect, label, ratings, scale_low, scale_high, source, candidate, fields, and
for each judge (and the panel, once the evaluation is finished) those of `scores.parquet`, such as `NAME.score`; of a
reasoning judge also `NAME.reasoning`.
Nothing is written: a damaged part is left out, and removed by the job that computes it again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.parts import parts_of, readable
from evaluation.batch.ingest import label_scales
from evaluation.batch.scores import VERDICT_COLUMNS
from evaluation.judges.aggregation import PANEL
from evaluation.reporting.progress import with_times
from judging.records import Scale
from judging.tasks import load_task

TEXTS = ("source", "candidate", "fields")
MAX_PARTS = 4096  # of verdicts, kept in memory while an evaluation is under way
Key = tuple[str, str]  # record id, aspect
Part = tuple[str, Path, int]  # judge, file, time of its last change in ns


@dataclass(frozen=True)
class Rows:
    """Columns of equal length, the judges' names (last the panel's), and in words what was left out."""

    columns: Mapping[str, Sequence[Any]]
    judges: tuple[str, ...]
    note: str = ""

    def __len__(self) -> int:
        return len(self.columns["id"])


def finished_rows(evaluation: Path, limit: int, why: str) -> Rows:
    """The rows of `scores.parquet`; of more than `limit`, those that `selected` keeps.

    Args:
        evaluation: the job's folder.
        limit: the largest number of rows.
        why: whose limit that is.

    Raises:
        UserError: the file is damaged.
    """
    path = evaluation / "scores.parquet"
    with readable(path, evaluation, "evaluate"):
        file = pq.ParquetFile(path)
        names = [name.removesuffix(".score") for name in file.schema_arrow.names if name.endswith(".score")]
        numbers = ["label", "scale_low", "scale_high", *(f"{name}.score" for name in names)]
        modes = [f"{name}.mode" for name in names if name != PANEL]
        rows, top = selected(_disagreement(file.read(columns=[*numbers, *modes]), names), limit)
        scores = _taken(file, rows)
    columns = {name: scores.column(name).to_pylist() for name in scores.column_names}
    texts = records_of(evaluation / "records", set(columns["id"]), ("id", *TEXTS))
    columns |= {name: [texts[id][name] if id in texts else "" for id in columns["id"]] for name in TEXTS}
    parsed = [name for name in names if "parsed" in columns.get(f"{name}.mode", ())]
    columns |= _thoughts(columns, {name: parts_of(evaluation / "verdicts" / name) for name in parsed})
    lost = sum(id not in texts for id in columns["id"])
    said = f"The texts of {counted(lost, 'row')} cannot be read." if lost else ""
    return Rows(columns, tuple(names), f"{_note(file.metadata.num_rows, len(rows), top, why)} {said}".strip())


def counted(number: int, what: str) -> str:
    """ "1 row", "2,000 rows"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _note(total: int, shown: int, top: int, why: str) -> str:
    if total == shown:
        return ""
    largest = f"the {'row' if top == 1 else f'{top:,} rows'} with the largest disagreement and " if top else ""
    return f"Of {counted(total, 'row')} this page has {largest}{shown - top:,} drawn at random ({why})."


def selected(disagreement: np.ndarray, limit: int) -> tuple[np.ndarray, int]:
    """The numbers of the rows to keep, sorted, and how many of them were chosen for their disagreement.

    Of more rows than `limit`, half are those with the largest disagreement, the others a random sample of the rest.

    Args:
        disagreement: of each row, 0 to 1; NaN where it is unknown.
        limit: the largest number of rows.
    """
    if len(disagreement) <= limit:
        return np.arange(len(disagreement)), 0
    top = min(limit // 2, int((~np.isnan(disagreement)).sum()))
    by_size = np.argsort(-np.nan_to_num(disagreement, nan=-1.0), kind="stable")
    drawn = np.random.default_rng(0).choice(by_size[top:], limit - top, replace=False)
    return np.sort(np.concatenate([by_size[:top], drawn])), top


def _disagreement(scores: pa.Table, names: Sequence[str]) -> np.ndarray:
    """The larger of two, as a share of the scale: the judges' highest minus lowest score, and panel against label.

    As in `templates/records.js`: fewer than two judges with a score do not disagree, and text features do not count.
    """
    width = _numbers(scores, "scale_high") - _numbers(scores, "scale_low")
    voices = [
        _numbers(scores, f"{name}.score")
        for name in names
        if name != PANEL and "feature" not in scores.column(f"{name}.mode").unique().to_pylist()
    ]
    spread = np.full(len(width), np.nan)
    if len(voices) > 1:
        known = np.isfinite(voices).sum(axis=0)
        spread = np.where(known > 1, np.fmax.reduce(voices) - np.fmin.reduce(voices), np.nan)
    error = np.abs(_numbers(scores, f"{PANEL}.score") - _numbers(scores, "label"))
    found: np.ndarray = np.fmax(spread, error) / width
    return found


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, NaN where it is null."""
    found: np.ndarray = table.column(name).to_numpy(zero_copy_only=False).astype(float)
    return found


def _taken(file: pq.ParquetFile, rows: np.ndarray) -> pa.Table:
    """The rows of these numbers, with one batch in memory besides them."""
    is_wanted, first, batches = np.zeros(file.metadata.num_rows, dtype=bool), 0, []
    is_wanted[rows] = True
    for batch in file.iter_batches():
        batches.append(batch.filter(pa.array(is_wanted[first : first + len(batch)])))
        first += len(batch)
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def rows_so_far(evaluation: Path, judges: Sequence[str], limit: int) -> Rows:
    """The rows that at least one judge has judged while `evaluate` is under way, the newest first; no panel yet.

    Args:
        evaluation: the job's folder.
        judges: their names.
        limit: the largest number of rows.

    Raises:
        InputError: a record's task cannot be read from here.
    """
    parts, note = _newest([(name, *one) for name in judges for one in with_times(evaluation / "verdicts" / name)])
    newest: dict[Key, int] = {}
    for _, part, time in sorted(parts, key=lambda one: -one[2]):
        for row in part_rows(part, time):
            if len(newest) < limit:
                newest.setdefault((row["id"], row["aspect"]), len(newest))
    verdicts: dict[Key, dict[str, Mapping[str, Any]]] = {key: {} for key in newest}
    parsed: dict[str, dict[Path, None]] = {}
    for name, part, time in parts:
        for row in part_rows(part, time):
            if (key := (row["id"], row["aspect"])) in verdicts:
                verdicts[key].setdefault(name, row)
                if row["mode"] == "parsed":
                    parsed.setdefault(name, {})[part] = None
    records = records_of(evaluation / "records", {id for id, _ in newest}, None)
    scales = label_scales(evaluation / "records")
    rows = [_row(records[key[0]], key[1], by_judge, scales) for key, by_judge in verdicts.items() if key[0] in records]
    names = dict.fromkeys(name for row in rows for name in row)
    if len(newest) == limit:
        note = f"The {limit:,} newest rows are shown until the evaluation is finished. {note}".strip()
    columns = {name: [row.get(name) for row in rows] for name in names} if rows else {"id": [], "aspect": []}
    columns |= _thoughts(columns, parsed)
    return Rows(columns, tuple(judges), note)


def _newest(parts: list[Part]) -> tuple[list[Part], str]:
    """At most `MAX_PARTS`: the newest, with those of the other judges that have the same name and so the same rows."""
    if len(parts) <= MAX_PARTS:
        return parts, ""
    by_age = sorted(parts, key=lambda one: -one[2])
    names = {part.name for _, part, _ in by_age[: MAX_PARTS // len({name for name, _, _ in parts})]}
    note = f"Of more than {MAX_PARTS:,} parts of verdicts the newest are read: a score in another is not shown yet."
    return [one for one in parts if one[1].name in names], note


def _row(
    record: Mapping[str, Any],
    aspect: str,
    verdicts: Mapping[str, Mapping[str, Any]],
    label_scales: Mapping[tuple[str, str, str], Scale],
) -> dict[str, Any]:
    """One row like those of `scores.parquet`, in points of the human scale."""
    labels, scales, ratings = (json.loads(record[name]) for name in ("scores", "scales", "ratings"))
    scale = load_task(record["task"]).scale_of(aspect)
    shared = label_scales.get((record["task"], record["dataset"], aspect), scale)
    to = Scale(*scales[aspect]) if aspect in scales else shared
    row: dict[str, Any] = {
        **{name: record[name] for name in ("id", "task", "dataset", "group", "system", *TEXTS)},
        "aspect": aspect,
        "label": labels.get(aspect),
        "ratings": json.dumps(ratings.get(aspect, [])),
        "scale_low": to.low,
        "scale_high": to.high,
    }
    for name, verdict in verdicts.items():
        low, high = verdict["interval"] or (None, None)
        points = {"score": verdict["score"], "low": low, "high": high}
        row |= {f"{name}.{key}": verdict[key] for key in ("mode", "unscored", "label_mass", "reason", "novelty")}
        row |= {f"{name}.{key}": None if one is None else scale.rescale(one, to) for key, one in points.items()}
    return row


def _thoughts(columns: Mapping[str, Sequence[Any]], parts: Mapping[str, Iterable[Path]]) -> dict[str, list[str | None]]:
    """`NAME.reasoning`, from the parts of each judge's verdicts: what its model thought before it answered."""
    made = {}
    for name, some in parts.items():
        found: dict[Key, str | None] = dict.fromkeys(zip(columns["id"], columns["aspect"], strict=True))
        for part in some:
            try:
                table = pq.read_table(part, columns=["id", "aspect", "reasoning"])
            except (pa.ArrowException, OSError):  # damaged, gone, or without the column
                continue
            for row in table.filter(pc.is_valid(table.column("reasoning"))).to_pylist():
                if (key := (row["id"], row["aspect"])) in found:
                    found[key] = row["reasoning"]
        if any(found.values()):
            made[f"{name}.reasoning"] = list(found.values())
    return made


@lru_cache(maxsize=MAX_PARTS)
def part_rows(part: Path, time: int) -> tuple[Mapping[str, Any], ...]:
    """The verdicts of one part; none where it is damaged or gone. `time`: of its last change."""
    try:
        return tuple(pq.read_table(part, columns=list(VERDICT_COLUMNS)).to_pylist())
    except (pa.ArrowException, OSError):
        return ()


def records_of(folder: Path, ids: Collection[str], columns: Sequence[str] | None) -> dict[str, Mapping[str, Any]]:
    """The records of these ids, by id; those of a damaged or missing part are left out.

    Args:
        folder: with the parts.
        ids: the records' ids.
        columns: to read; None for all.
    """
    found = {}
    for part in parts_of(folder):
        try:
            table = pq.read_table(part, columns=list(columns) if columns else None)
        except (pa.ArrowException, OSError):
            continue
        kept = table.filter(pa.array([id in ids for id in table.column("id").to_pylist()], pa.bool_()))
        found.update({row["id"]: row for row in kept.to_pylist()})
    return found
