"""Verdicts on pairs in both orders -> preferences, winners and the panel's vote -> `pairs.parquet` and its summary.

One row per pair and aspect: id, task, dataset, group, aspect; `first`, `second` (ids) with `_system`, `_chars` and
`_label` (the human scores on one scale; null: one of the two is not rated). For each judge `NAME.given`, `NAME.turned`
(0 to 1: how far the first text is preferred where it is shown first, and where it is shown second), `NAME.first_wins`
(their mean), `NAME.winner` (first, second, tie), `NAME.order_changed` (each order prefers another text) and
`NAME.unscored`; for the panel `panel.first_wins`, `panel.winner`, `panel.unscored`. Where both texts are the same, all
have a tie without orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.batch.config import Evaluation
from evaluation.batch.pair_records import both_keys, pairs_by_part, pairs_section
from evaluation.batch.scores import CoverageCounter, Key, VerdictsOnDisk
from evaluation.batch.verdicts import most_frequent_details
from evaluation.judges.aggregation import PANEL, Ballot, CascadeConfig, pair_rule
from judging.comparison import both_orders, winner
from judging.judge import Judge
from judging.pairing import Pair
from judging.records import Verdict

TABLE = "pairs.parquet"
VERDICT_COLUMNS = ("id", "aspect", "score", "mode", "unscored", "label_mass", "label_probabilities")
ENDS = ("first", "second")


def write_pairs(evaluation: Evaluation, judges: Mapping[str, Judge], folder: Path) -> dict[str, Any]:
    """Write `pairs.parquet`, block by block, and return its summary.

    Args:
        evaluation: the run of the job; its records are on disk.
        judges: those that compared, by name.
        folder: of the pairs; the verdicts are in `verdicts/`.
    """
    schema, counter = _schema(judges), CoverageCounter(judges)
    verdicts = {name: VerdictsOnDisk(folder / "verdicts" / name, VERDICT_COLUMNS) for name in judges}
    beside = folder / f".{TABLE}"
    with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        for _, pairs in pairs_by_part(evaluation):
            rows = list(_rows(evaluation, pairs, verdicts))
            counter.add(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    beside.rename(folder / TABLE)
    counted = counter.summary()
    for name, judge in counted["judges"].items():
        if judge["unscored"] and name in judges:
            judge["details"] = most_frequent_details(folder / "verdicts" / name)
    return {
        "num_pairs": counted["num_records"],
        "num_scores": counted["num_scores"],
        "judges": counted["judges"],
        "file": str(folder / TABLE),
    }


def _rows(
    evaluation: Evaluation, pairs: Sequence[Pair], known: Mapping[str, VerdictsOnDisk]
) -> Iterator[dict[str, Any]]:
    margin = pairs_section(evaluation).tie.margin
    by_pair = [(pair, *orders) for pair in pairs for orders in both_keys(evaluation, pair)]
    keys = [key for _, *orders in by_pair for key in orders]
    by_judge = {name: one.of(keys) for name, one in known.items()}
    for pair, *orders in by_pair:
        aspect = orders[0][1]
        if pair.unscored:
            columns = {f"{name}.unscored": pair.unscored for name in (*known, PANEL)}
        elif pair.is_identical:
            tie = {**_preferred(0.5, margin), "unscored": None}
            columns = {f"{name}.{key}": value for name in (*known, PANEL) for key, value in tie.items()}
        else:
            said = {name: [_verdict(name, aspect, found[key]) for key in orders] for name, found in by_judge.items()}
            columns = _columns(said, pair.first.task, evaluation.ballot, margin)
        yield {**_pair_columns(pair, aspect), **columns}


def sure_pairs(evaluation: Evaluation, cascade: CascadeConfig, folder: Path) -> Iterator[list[Key]]:
    """Both orders of the pairs of which the first judge of the cascade is sure, one block per part of the records.

    It is sure where both of its verdicts are, and both orders prefer the same text.

    Args:
        evaluation: the run of the job; its records are on disk.
        cascade: names the judge, and decides which verdicts are sure.
        folder: of the pairs; the judge's verdicts are in `verdicts/`.
    """
    known = VerdictsOnDisk(folder / "verdicts" / cascade.first, VERDICT_COLUMNS)
    for _, pairs in pairs_by_part(evaluation):
        by_pair = [orders for pair in pairs if pair.is_asked for orders in both_keys(evaluation, pair)]
        rows = known.of(key for orders in by_pair for key in orders)
        said = {key: _verdict(cascade.first, key[1], row) for key, row in rows.items()}
        yield [
            key
            for given, turned in by_pair
            if cascade.is_sure_of_pair(said[given], said[turned])
            for key in (given, turned)
        ]


def _pair_columns(pair: Pair, aspect: str) -> dict[str, Any]:
    first = pair.first
    columns: dict[str, Any] = {"id": pair.id, "task": first.task, "dataset": first.dataset, "group": first.group}
    columns["aspect"] = aspect
    for end, record, label in zip(ENDS, pair, pair.labels(aspect) or (None, None), strict=True):
        columns |= {end: record.id, f"{end}_system": record.system}
        columns |= {f"{end}_chars": len(record.candidate), f"{end}_label": label}
    return columns


def _verdict(name: str, aspect: str, row: Mapping[str, Any]) -> Verdict:
    probabilities = row["label_probabilities"]
    return Verdict(
        name,
        aspect,
        row["score"],
        row["mode"],
        row["unscored"],
        label_mass=row["label_mass"],
        label_probabilities=None if probabilities is None else tuple(probabilities),
    )


def _columns(said: Mapping[str, Sequence[Verdict]], task: str, ballot: Ballot, margin: float) -> dict[str, Any]:
    """The columns of the judges, from their verdicts in both orders, and of the panel."""
    columns: dict[str, Any] = {}
    votes = []
    for name, orders in said.items():
        found = both_orders(*orders)
        votes.append(found.verdict)
        columns |= {f"{name}.{key}": value for key, value in _preferred(found.verdict.score, margin).items()}
        columns |= {
            f"{name}.given": None if found.given is None else 1 - found.given,
            f"{name}.turned": None if found.turned is None else 1 - found.turned,
            f"{name}.order_changed": None if found.is_consistent is None else not found.is_consistent,
            f"{name}.unscored": found.verdict.unscored,
        }
    score = ballot.count(task, votes, rule=pair_rule(ballot.config.rule))
    columns |= {f"{PANEL}.{key}": value for key, value in _preferred(score.score, margin).items()}
    return {**columns, f"{PANEL}.unscored": score.unscored}


def _preferred(second: float | None, margin: float) -> dict[str, Any]:
    if second is None:
        return {"first_wins": None, "winner": None}
    return {"first_wins": 1 - second, "winner": winner(second, margin)}


def _schema(judges: Iterable[str]) -> pa.Schema:
    fields = [(name, pa.string()) for name in ("id", "task", "dataset", "group", "aspect")]
    for end in ENDS:
        fields += [(end, pa.string()), (f"{end}_system", pa.string())]
        fields += [(f"{end}_chars", pa.int64()), (f"{end}_label", pa.float64())]
    for name in judges:
        fields += [(f"{name}.given", pa.float64()), (f"{name}.turned", pa.float64())]
        fields += [(f"{name}.order_changed", pa.bool_())]
    for name in (*judges, PANEL):
        fields += [(f"{name}.first_wins", pa.float64()), (f"{name}.winner", pa.string())]
        fields += [(f"{name}.unscored", pa.string())]
    return pa.schema(fields)
