"""`pairs.parquet` -> win rates, strengths, position bias and accuracy of each judge and the panel, by slice.

A slice is one task, data set and aspect. The pointwise scores of the same texts come from `scores.parquet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from evaluation.batch.pairs import FOLDER
from evaluation.batch.pairs_table import TABLE
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import part_title
from evaluation.measure.slices import FEW_GROUPS, reasons_of
from judging.stats.bias import first_preference, order_flip_share
from judging.stats.bradley_terry import Strengths, bradley_terry
from judging.stats.estimate import Estimate
from judging.stats.pairs import Comparisons, WinRates, preference_accuracy, win_rates

OUTCOMES = {"first": 1.0, "tie": 0.5, "second": 0.0}
Rows = Sequence[Mapping[str, Any]]
Points = Mapping[tuple[str, str], Mapping[str, Any]]  # record id, aspect -> a row of scores.parquet


@dataclass(frozen=True)
class Judged:
    """What one judge, or the panel, says about the pairs of a slice.

    `order_changed`: share of pairs where each order prefers another text; `first_position`: preference for the position
    (-1 to 1); None for the panel. `accuracy`: see `preference_accuracy`; empty without human scores.
    """

    wins: WinRates
    strengths: Strengths
    order_changed: Estimate | None
    first_position: Estimate | None
    accuracy: Mapping[str, Estimate]
    tie_share: float
    coverage: float
    unscored: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        strengths = self.strengths
        return {
            "coverage": self.coverage,
            "unscored": dict(self.unscored),
            "tie_share": self.tie_share,
            "order_changed": self.order_changed.to_json() if self.order_changed else None,
            "first_position": self.first_position.to_json() if self.first_position else None,
            "win_rates": _json(self.wins.of),
            "win_rates_of_two": [
                {"system": one, "against": other, "win_rate": found.to_json()}
                for (one, other), found in self.wins.against.items()
            ],
            "strengths": _json(strengths.strengths),
            "length_controlled_win_rates": _json(strengths.controlled),
            "length_effect": strengths.length_effect.to_json() if strengths.length_effect else None,
            "not_connected": strengths.apart if len(strengths.apart) > 1 else [],
            "accuracy": _json(self.accuracy),
        }


@dataclass(frozen=True)
class PairSlice:
    """The comparisons of one task, data set and aspect, by judge; the panel last."""

    task: str
    dataset: str
    aspect: str
    num_pairs: int
    num_groups: int
    num_rated: int
    systems: tuple[str, ...]
    judges: Mapping[str, Judged]

    @property
    def title(self) -> str:
        return part_title(self.task, self.dataset, self.aspect)

    @property
    def shape(self) -> str:
        is_few = self.num_groups < FEW_GROUPS
        few = f"; fewer than {FEW_GROUPS} groups, so the intervals are too narrow" if is_few else ""
        return f"{self.num_pairs} pairs, {self.num_groups} groups, {len(self.systems)} systems{few}"

    def ranking(self) -> list[str]:
        """The systems by the panel's win rate, the highest first; those without a scored pair last."""
        wins = self.judges[PANEL].wins.of
        return sorted(self.systems, key=lambda name: (-wins[name].value if name in wins else 1.0, name))

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "dataset": self.dataset,
            "aspect": self.aspect,
            "num_pairs": self.num_pairs,
            "num_groups": self.num_groups,
            "num_rated": self.num_rated,
            "systems": list(self.systems),
            "judges": {name: found.to_json() for name, found in self.judges.items()},
        }


def compared_pairs(run: Path, *, resamples: int, seed: int) -> list[PairSlice]:
    """The slices of a run's finished pairs, in the order of their first row.

    Args:
        run: the run folder.
        resamples: bootstrap resamples of groups.
        seed: of the bootstrap.
    """
    slices: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in pq.read_table(run / "evaluate" / FOLDER / TABLE).to_pylist():
        slices.setdefault((row["task"], row["dataset"], row["aspect"]), []).append(row)
    points = _points(run / "evaluate" / "scores.parquet", slices)
    return [_slice(key, rows, points, resamples=resamples, seed=seed) for key, rows in slices.items()]


def _points(file: Path, slices: Mapping[tuple[str, str, str], Rows]) -> Points:
    """The pointwise scores of the compared texts."""
    names = [name for name in pq.read_schema(file).names if name.endswith(".score")]
    wanted = {(row[end], row["aspect"]) for rows in slices.values() for row in rows for end in ("first", "second")}
    rows = pq.read_table(file, columns=["id", "aspect", *names]).to_pylist()
    return {key: row for row in rows if (key := (row["id"], row["aspect"])) in wanted}


def _slice(key: tuple[str, str, str], rows: Rows, points: Points, *, resamples: int, seed: int) -> PairSlice:
    names = [name.removesuffix(".winner") for name in rows[0] if name.endswith(".winner")]
    return PairSlice(
        *key,
        num_pairs=len(rows),
        num_groups=len({row["group"] for row in rows}),
        num_rated=sum(row["first_label"] is not None for row in rows),
        systems=tuple(sorted({row[f"{end}_system"] for row in rows for end in ("first", "second")})),
        judges={name: _judged(name, rows, points, resamples=resamples, seed=seed) for name in names},
    )


def _judged(name: str, rows: Rows, points: Points, *, resamples: int, seed: int) -> Judged:
    settings = {"resamples": resamples, "seed": seed}
    group = [row["group"] for row in rows]
    outcome = [None if (won := row[f"{name}.winner"]) is None else OUTCOMES[won] for row in rows]
    comparisons = Comparisons(
        group=group,
        first=[row["first_system"] for row in rows],
        second=[row["second_system"] for row in rows],
        outcome=outcome,
        longer=[row["first_chars"] - row["second_chars"] for row in rows],
    )
    orders: list[Estimate | None] = [None, None]
    if name != PANEL:
        # The position's scores, from 1 (the text shown first) to 2: the pair's first text is shown second when turned.
        given = [None if (first := row[f"{name}.given"]) is None else 2 - first for row in rows]
        turned = [None if (first := row[f"{name}.turned"]) is None else 1 + first for row in rows]
        orders = [measure(given, turned, group, **settings) for measure in (order_flip_share, first_preference)]
    num_scored = sum(one is not None for one in outcome)
    return Judged(
        wins=win_rates(comparisons, **settings),
        strengths=bradley_terry(comparisons, **settings),
        order_changed=orders[0],
        first_position=orders[1],
        accuracy=preference_accuracy(
            outcome,
            [_difference(row["first_label"], row["second_label"]) for row in rows],
            [_point_difference(name, row, points) for row in rows],
            group,
            **settings,
        ),
        tie_share=outcome.count(0.5) / num_scored if num_scored else 0.0,
        coverage=num_scored / len(rows),
        unscored=reasons_of(rows, name),
    )


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _point_difference(name: str, row: Mapping[str, Any], points: Points) -> float | None:
    first, second = (points.get((row[end], row["aspect"]), {}).get(f"{name}.score") for end in ("first", "second"))
    return _difference(first, second)


def _json(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.to_json() for name, one in found.items()}
