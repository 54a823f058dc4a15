"""Verdicts of every judge -> aggregation -> `scores.parquet`, one row per record and aspect, and its summary.

Columns: id, task, dataset, group, system, aspect, label (the human score or constructed level; null: not rated),
ratings (JSON), scale_low, scale_high (the label's scale; without a label that of the others, or the task's),
candidate_chars; for each judge and for the panel `NAME.score` (points of that scale; null: unscored), `NAME.unscored`;
for judges also `NAME.mode`, `NAME.label_mass`, `NAME.reason`,
and for fitted judges `NAME.low`, `NAME.high` (the ends of the interval) and `NAME.novelty`;
`panel.num_votes`, `panel.num_abstentions`. With an integrating model also `panel.vote` (the aggregated score),
`panel.reason`, and `panel.fallback` (why the model gave no score, so that the aggregated one is kept).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.parts import parts_of
from evaluation.batch.ingest import label_scales
from evaluation.judges.aggregation import PANEL, Ballot
from judging.judge import Judge
from judging.records import Scale, Verdict

Key = tuple[str, str]  # record id, aspect
KEY = ("id", "aspect")
Integrated = Mapping[Key, Mapping[str, Any]]  # -> score, reason, error
RECORD_COLUMNS = ("id", "task", "dataset", "group", "system", "candidate", "scores", "scales", "ratings")
VERDICT_COLUMNS = (*KEY, "score", "mode", "unscored", "label_mass", "reason", "interval", "novelty")


def write_scores(
    folder: Path, judges: Mapping[str, Judge], ballot: Ballot, integrated: Integrated | None = None
) -> dict[str, Any]:
    """Write `folder/scores.parquet`, block by block, and return the summary.

    Args:
        folder: of the evaluation.
        judges: by name.
        ballot: aggregates the scores.
        integrated: output of the integrating model; its score is the panel's, or the aggregated one where it has none.
    """
    schema = _schema(judges, integrated is not None)
    counter = CoverageCounter(judges)
    verdicts = {name: VerdictsOnDisk(folder / "verdicts" / name) for name in judges}
    scales = label_scales(folder / "records")
    beside = folder / ".scores.parquet"
    with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        for part in parts_of(folder / "records"):
            rows = list(_rows(part, judges, verdicts, ballot, integrated, scales))
            counter.add(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    beside.rename(folder / "scores.parquet")
    return {**counter.summary(), "file": str(folder / "scores.parquet")}


class VerdictsOnDisk:
    """One judge's verdicts, indexed by record and aspect: an Arrow table, and sorted keys with their row numbers.

    `columns`: what to read, the KEY among them.
    """

    def __init__(self, folder: Path, columns: Sequence[str] = VERDICT_COLUMNS) -> None:
        tables, keys = [], []
        for part in parts_of(folder):
            table = pq.read_table(part, columns=list(columns))
            keys.append(_hashes(zip(*(table.column(name).to_pylist() for name in KEY), strict=True)))
            tables.append(table.drop_columns(list(KEY)))
        self._table = pa.concat_tables(tables).combine_chunks()
        unsorted = np.concatenate(keys)
        # Stable: of duplicate verdicts the one in the first part counts.
        self._places = np.argsort(unsorted, kind="stable")
        self._keys = unsorted[self._places]

    def of(self, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
        """The existing verdicts of these keys. Call it once per block: a lookup costs more than a row."""
        wanted = list(keys)
        if not len(self._keys):
            return {}
        hashes = _hashes(wanted)
        at = np.minimum(np.searchsorted(self._keys, hashes), len(self._keys) - 1)
        exists = self._keys[at] == hashes
        rows = self._table.take(pa.array(self._places[at[exists]])).to_pylist()
        return dict(zip(compress(wanted, exists), rows, strict=True))


def _hashes(keys: Iterable[Key]) -> np.ndarray:
    return np.fromiter(map(hash, keys), dtype=np.int64)


def _rows(
    part: Path,
    judges: Mapping[str, Judge],
    verdicts: Mapping[str, VerdictsOnDisk],
    ballot: Ballot,
    integrated: Integrated | None,
    label_scales: Mapping[tuple[str, str, str], Scale],
) -> Iterator[dict[str, Any]]:
    first = next(iter(judges.values()))
    aspects: dict[str, list[str]] = {}
    for task, aspect in first.templates:
        aspects.setdefault(task, []).append(aspect)
    records = pq.read_table(part, columns=list(RECORD_COLUMNS)).to_pylist()
    keys = [(record["id"], aspect) for record in records for aspect in aspects.get(record["task"], ())]
    by_judge = {name: known.of(keys) for name, known in verdicts.items()}
    for record in records:
        labels, scales, ratings = (json.loads(record[name]) for name in ("scores", "scales", "ratings"))
        for aspect in aspects.get(record["task"], ()):
            key = (record["id"], aspect)
            if key not in by_judge[first.name]:
                continue
            scale = first.templates[record["task"], aspect].scale
            shared = label_scales.get((record["task"], record["dataset"], aspect), scale)
            to = Scale(*scales[aspect]) if aspect in scales else shared
            columns = _columns(
                {name: by_judge[name][key] for name in judges}, (record["task"], aspect), scale, to, ballot
            )
            if integrated is not None:
                columns |= _overruled(columns[f"{PANEL}.score"], integrated.get(key), scale, to)
            yield {
                **{name: record[name] for name in ("id", "task", "dataset", "group", "system")},
                "aspect": aspect,
                "label": labels.get(aspect),
                "ratings": json.dumps(ratings.get(aspect, [])),
                "scale_low": to.low,
                "scale_high": to.high,
                "candidate_chars": len(record["candidate"]),
                **columns,
            }


def _columns(
    by_judge: Mapping[str, Mapping[str, Any]], key: tuple[str, str], scale: Scale, to: Scale, ballot: Ballot
) -> dict[str, Any]:
    task, aspect = key
    columns: dict[str, Any] = {}
    votes = []
    for name, row in by_judge.items():
        votes.append(Verdict(name, aspect, row["score"], row["mode"], row["unscored"]))
        columns |= {f"{name}.{key}": row[key] for key in ("mode", "unscored", "label_mass", "reason")}
        columns[f"{name}.score"] = None if row["score"] is None else scale.rescale(row["score"], to)
        if row["mode"] == "fitted":
            columns[f"{name}.novelty"] = row["novelty"]
            ends = zip(("low", "high"), row["interval"] or (), strict=False)
            columns |= {f"{name}.{end}": scale.rescale(value, to) for end, value in ends}
    score = ballot.count(task, votes)
    columns[f"{PANEL}.score"] = None if score.score is None else scale.rescale(score.score, to)
    return columns | {
        f"{PANEL}.unscored": score.unscored,
        f"{PANEL}.num_votes": score.num_votes,
        f"{PANEL}.num_abstentions": score.num_abstentions,
    }


def _overruled(
    vote_alone: float | None, integration: Mapping[str, Any] | None, scale: Scale, to: Scale
) -> dict[str, Any]:
    """The panel's columns with an integrating model; `integration` None: not queried, as there is no score."""
    columns = {f"{PANEL}.vote": vote_alone, f"{PANEL}.reason": None, f"{PANEL}.fallback": None}
    if integration is None:
        return columns
    if integration["score"] is None:
        return {**columns, f"{PANEL}.fallback": integration["error"]}
    score = scale.rescale(integration["score"], to)
    return {**columns, f"{PANEL}.reason": integration["reason"], f"{PANEL}.score": score}


def _schema(judges: Mapping[str, Judge], is_integrated: bool = False) -> pa.Schema:
    text = [(name, pa.string()) for name in ("id", "task", "dataset", "group", "system", "aspect")]
    numbers = [
        ("label", pa.float64()),
        ("ratings", pa.string()),
        ("scale_low", pa.float64()),
        ("scale_high", pa.float64()),
    ]
    fields = [*text, *numbers, ("candidate_chars", pa.int64())]
    for name in judges:
        fields += [(f"{name}.score", pa.float64()), (f"{name}.unscored", pa.string()), (f"{name}.mode", pa.string())]
        fields += [(f"{name}.label_mass", pa.float64()), (f"{name}.reason", pa.string())]
        if judges[name].mode == "fitted":
            fields += [(f"{name}.{column}", pa.float64()) for column in ("low", "high", "novelty")]
    fields += [(f"{PANEL}.score", pa.float64()), (f"{PANEL}.unscored", pa.string())]
    if is_integrated:
        fields += [
            (f"{PANEL}.vote", pa.float64()),
            (f"{PANEL}.reason", pa.string()),
            (f"{PANEL}.fallback", pa.string()),
        ]
    return pa.schema([*fields, (f"{PANEL}.num_votes", pa.int64()), (f"{PANEL}.num_abstentions", pa.int64())])


class CoverageCounter:
    """Counts coverage and reasons for missing scores, block by block."""

    def __init__(self, judges: Iterable[str]) -> None:
        self._unscored: dict[str, Counter[str]] = {name: Counter() for name in (*judges, PANEL)}
        self._num_scores = 0
        self._num_records = 0

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._num_scores += len(rows)
        self._num_records += len({row["id"] for row in rows})
        for name, reasons in self._unscored.items():
            reasons.update(row[f"{name}.unscored"] for row in rows if row[f"{name}.unscored"])

    def summary(self) -> dict[str, Any]:
        judges = {
            name: {"coverage": 1 - reasons.total() / self._num_scores, "unscored": dict(reasons)}
            for name, reasons in self._unscored.items()
        }
        return {"num_records": self._num_records, "num_scores": self._num_scores, "judges": judges}
