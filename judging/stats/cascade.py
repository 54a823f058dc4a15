"""Cascades: a small judge first, the panel only where it is uncertain; cost and agreement at each threshold.

Computed from existing scores and costs, from no row escalated to all. It reads no files. Legend: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def label_entropy(probabilities: Sequence[float]) -> float:
    """Shannon entropy over the labels, divided by that of equal probabilities: 0 (certain) to 1 (uniform).

    `probabilities` sum to 1; with a single label it is 0.
    """
    if len(probabilities) < 2:
        return 0.0
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0) / math.log(len(probabilities))


@dataclass(frozen=True)
class Point:
    """The cascade at one threshold: rows whose uncertainty lies above `threshold` go to the panel.

    `share` of the rows that do; `cost` a row in the caller's unit, and as a share of the panel's; agreement by the
    criterion, and its difference to the panel's, paired over groups.
    """

    threshold: float
    share: float
    cost: float
    cost_share: float
    agreement: Estimate
    minus_panel: Estimate


def cascade(
    columns: Columns,
    first: Sequence[float | None] | Floats,
    panel: Sequence[float | None] | Floats,
    uncertainty: Sequence[float | None] | Floats,
    *,
    first_cost: float,
    panel_cost: float,
    criterion: str = "group.spearman",
    shares: Sequence[float] = SHARES,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Point]:
    """The curve, from the fewest escalated rows to the most.

    Args:
        columns: the rows with human scores; `columns.score` is not used.
        first: scores (N,) of the first judge.
        panel: scores (N,) of the panel, on the same scale.
        uncertainty: of the first judge (N,); None or NaN, as where it has no score: the row is always escalated.
        first_cost: of one row, in the caller's unit.
        panel_cost: of one row; includes the first judge, whose verdict the panel keeps.
        criterion: the statistic, by dotted name.
        shares: escalated shares whose quantiles of the uncertainty are the thresholds; equal ones give one point.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    first_N, panel_N, unsure_N = (_floats(column) for column in (first, panel, uncertainty))
    unsure_N = np.where(np.isnan(unsure_N) | np.isnan(first_N), np.inf, unsure_N)
    level = criterion.split(".")[0]
    settings: dict[str, Any] = {"levels": (level,), "resamples": resamples, "seed": seed}
    found: dict[float, Point] = {}
    for share in sorted(shares):
        threshold = _threshold(unsure_N, share)
        if threshold in found:
            continue
        escalated_N = unsure_N > threshold
        score = replace(columns, score=np.where(escalated_N, panel_N, first_N))
        part = float(escalated_N.mean()) if len(escalated_N) else 0.0
        cost = first_cost + part * (panel_cost - first_cost)
        found[threshold] = Point(
            threshold,
            part,
            cost,
            cost / panel_cost,
            agreement(score, shuffles=0, **settings)[criterion],
            compare(score, panel_N, **settings)[criterion],
        )
    return sorted(found.values(), key=lambda point: point.share)


def _threshold(unsure_N: Floats, share: float) -> float:
    """The uncertainty above which `share` of the rows lie, as nearly as its steps allow."""
    if share >= 1:
        return -math.inf
    order = np.sort(unsure_N)
    place = len(order) - 1 - math.floor(share * len(order) + 1e-9)
    known = order[np.isfinite(order)]
    return float(min(order[place], known[-1])) if len(known) else -math.inf


def _floats(column: Sequence[float | None] | Floats) -> Floats:
    return np.array([np.nan if value is None else value for value in column], dtype=float)
