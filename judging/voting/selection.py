"""Selects the best of several judges for one task and aspect: by agreement on labelled rows, then by cost.

Computed from the scores of all judges on the same labelled rows. It reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Floats
from judging.stats.correlation import equalised
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns


@dataclass(frozen=True)
class Candidate:
    """One judge on the labelled rows.

    `agreement`: by the criterion. `minus_best`: its difference to the best judge, paired over groups (None: it is the
    best). `cost`: of a row, in the caller's unit. `out`: why it cannot be selected, or None.
    """

    agreement: Estimate
    minus_best: Estimate | None
    cost: float
    out: str | None = None


@dataclass(frozen=True)
class Choice:
    """The selected judge (None: none can be) and the reason in one sentence; `candidates` by judge, sorted."""

    judge: str | None
    why: str
    candidates: Mapping[str, Candidate]


def choose_judge(
    columns: Columns,
    scores: Mapping[str, Sequence[float | None] | Floats],
    costs: Mapping[str, float],
    *,
    criterion: str = "group.spearman",
    min_coverage: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
) -> Choice:
    """The cheapest judge among those that are not significantly worse than the best one.

    The best has the highest `criterion`; another is significantly worse where the 95 % interval of its paired
    difference lies below 0. With fewer than two groups there is no interval, and the best is selected. Ties are broken
    by cost, then by name.

    Args:
        columns: the labelled rows; `columns.score` is not used.
        scores: score column (N,) by judge; None or NaN: unscored.
        costs: of a row, by judge, in one unit.
        criterion: a statistic of `estimate.of_order`, by dotted name.
        min_coverage: share of the rows that a judge must have scored.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    level = criterion.split(".")[0]
    settings: dict[str, Any] = {"levels": (level,), "resamples": resamples, "seed": seed}
    found = {}
    for name in sorted(scores):
        one = agreement(replace(columns, score=scores[name]), shuffles=0, **settings)[criterion]
        found[name] = Candidate(one, None, costs[name], _why_out(one, min_coverage))
    fit = [name for name, one in found.items() if one.out is None]
    if not fit:
        return Choice(None, "the agreement of no judge could be measured", found)
    values = dict(zip(fit, equalised(np.array([[found[name].agreement.value for name in fit]]))[0], strict=True))
    best = min(fit, key=lambda name: (-values[name], costs[name], name))
    for name in found:
        if name != best and found[name].out is None:
            ahead = compare(replace(columns, score=scores[name]), scores[best], **settings)[criterion]
            found[name] = replace(found[name], minus_best=ahead)
    good = [name for name in fit if name == best or _may_be_as_good(found[name].minus_best)]
    chosen = min(good, key=lambda name: (costs[name], -values[name], name))
    return Choice(chosen, _why(chosen, best, len(fit), criterion), found)


def _why_out(one: Estimate, min_coverage: float) -> str | None:
    if math.isnan(one.coverage) or one.coverage < min_coverage:
        return f"its coverage is {one.coverage:.0%} of the rows, below {min_coverage:.0%}"
    return "its agreement is undefined" if math.isnan(one.value) else None


def _may_be_as_good(minus_best: Estimate | None) -> bool:
    return minus_best is not None and minus_best.high >= 0  # False where there is no interval (NaN)


def _why(chosen: str, best: str, num_fit: int, criterion: str) -> str:
    if num_fit == 1:
        return "it is the only judge with a defined agreement"
    if chosen == best:
        return f"it has the highest {criterion}, and no cheaper judge is as good within the interval"
    return f"it is the cheapest of those not significantly worse than {best}, which has the highest {criterion}"
