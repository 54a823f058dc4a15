"""Statistics of pairwise comparisons: win rates, and the accuracy of the winners against people's preferences.

Legend: N pairs, R rows, G groups, S systems, C pairs of systems. A tie counts half for both.
Every value is a mean in known bounds. Its 95 % interval is Student's, with the groups as units and a few observations
added at either bound, as one without them has no width where all pairs agree. It knows no texts, judges or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from judging.stats.additive_model import MIN_GROUPS, student_quantile
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate
from judging.stats.rows import Codes, encode, numbers

SAME = 1e-9  # two scores nearer than this are equal


class Bounds(NamedTuple):
    """Of the values of a mean, and how many observations its interval adds at each."""

    low: float
    high: float
    added: float


SHARE = Bounds(0, 1, 2)  # Agresti and Coull 1998
DIFFERENCE = Bounds(-1, 1, 0.5)  # Agresti and Min 2005: of two shares, paired


@dataclass(frozen=True)
class Comparisons:
    """Pairs of candidates of one group by two systems, one entry per pair, in any order.

    `group`: the source that both answer; `first`, `second`: their systems; `outcome`: 1 the first wins, 0 the second,
    0.5 a tie, None or NaN: unscored; `longer`: length of the first minus that of the second, in any unit.
    """

    group: Sequence[str]
    first: Sequence[str]
    second: Sequence[str]
    outcome: Sequence[float | None] | Floats
    longer: Sequence[float] | Floats

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.group, self.first, self.second, self.outcome, self.longer)}
        if len(lengths) != 1:
            raise ValueError(f"the columns have different lengths: {sorted(lengths)}")


class Scored(NamedTuple):
    """The scored pairs, sorted by the pair of systems, group, outcome and length; each system pair in one order.

    `cells_C2`: the systems of each pair of systems that was compared, the lower number first; `cell_N`: its number.
    `weight_N`: 1 among the pairs of the same two systems in the same group, so that a group with several candidates of
    a system counts once. `coverage_S`, `coverage_C`: scored pairs among all of a system, and of two systems.
    """

    systems: tuple[str, ...]
    cells_C2: Codes
    cell_N: Codes
    group_N: Codes
    outcome_N: Floats
    longer_N: Floats
    weight_N: Floats
    num_groups: int
    coverage_S: Floats
    coverage_C: Floats
    coverage: float

    @property
    def ends_N2(self) -> Codes:
        """The systems of each pair."""
        return self.cells_C2[self.cell_N]

    @property
    def num_groups_S(self) -> Codes:
        """In how many groups each system has a scored pair."""
        has_GS = np.zeros((self.num_groups, len(self.systems)), dtype=bool)
        has_GS[self.group_N[:, None], self.ends_N2] = True
        return np.asarray(has_GS.sum(axis=0))


def scored(comparisons: Comparisons) -> Scored:
    """Sorted arrays of the pairs with an outcome. Raises ValueError for an outcome outside 0 to 1 or one system."""
    outcome_N = numbers(comparisons.outcome, "outcome", missing=True)
    longer_N = numbers(comparisons.longer, "longer", missing=False)
    if ((outcome_N < 0) | (outcome_N > 1)).any():
        raise ValueError("an outcome must be from 0 to 1")
    names = np.array([comparisons.first, comparisons.second], dtype=object).reshape(2, -1).T
    if (names[:, 0] == names[:, 1]).any():
        raise ValueError("a system cannot be compared with itself")
    is_scored_N = ~np.isnan(outcome_N)
    systems = tuple(sorted(set(map(str, names[is_scored_N].ravel()))))
    code = {name: number for number, name in enumerate(systems)}
    sides_N2 = np.array([code.get(str(name), -1) for name in names.ravel()], dtype=np.intp).reshape(-1, 2)
    key_N = np.where(sides_N2.min(axis=1) < 0, -1, sides_N2.min(axis=1) * len(systems) + sides_N2.max(axis=1))
    kept = np.flatnonzero(is_scored_N)
    keys_C, cell_N = np.unique(key_N[kept], return_inverse=True)
    cells_C2 = np.stack(np.divmod(keys_C, max(len(systems), 1)), axis=1)
    # Systems in one order: the outcome and the length are turned with them.
    turned_N = (sides_N2[:, 0] > sides_N2[:, 1])[kept]
    outcome_N = np.where(turned_N, 1 - outcome_N[kept], outcome_N[kept])
    longer_N = np.where(turned_N, -longer_N[kept], longer_N[kept])
    group_N, num_groups = encode([comparisons.group[place] for place in kept])
    _, same_N, size = np.unique(group_N * len(keys_C) + cell_N, return_inverse=True, return_counts=True)
    order_N = np.lexsort((longer_N, outcome_N, group_N, cell_N))
    num_of_C = np.bincount(np.searchsorted(keys_C, key_N[np.isin(key_N, keys_C)]), minlength=len(keys_C))
    num_of_S, scored_of_S = (
        np.bincount(sides[sides >= 0], minlength=len(systems)) for sides in (sides_N2, sides_N2[kept])
    )
    return Scored(
        systems,
        cells_C2,
        cell_N[order_N],
        group_N[order_N],
        outcome_N[order_N],
        longer_N[order_N],
        1 / size[same_N][order_N],
        num_groups,
        scored_of_S / num_of_S,
        np.bincount(cell_N, minlength=len(keys_C)) / num_of_C,
        float(is_scored_N.mean()) if len(is_scored_N) else math.nan,
    )


class WinRates(NamedTuple):
    """`of`: each system's wins among its pairs (0 to 1, a tie half); `against`: of the first against the second."""

    of: dict[str, Estimate]
    against: dict[tuple[str, str], Estimate]


def win_rates(comparisons: Comparisons) -> WinRates:
    """Win rates of each system over all its pairs, and of each pair of systems; n: groups.

    A system's rate depends on the systems that it was compared with, and weighs them by their numbers of groups: the
    pairs of the same two systems in a group count as one, their mean.
    """
    rows = scored(comparisons)
    ends_R = rows.ends_N2.T.ravel()
    values_R, group_R = np.concatenate([rows.outcome_N, 1 - rows.outcome_N]), np.tile(rows.group_N, 2)
    weight_R = np.tile(rows.weight_N, 2)
    of = {
        system: _mean(values_R[places], group_R[places], weight_R[places], SHARE, float(coverage))
        for system, places, coverage in zip(rows.systems, _places(ends_R), rows.coverage_S, strict=True)
    }
    against = {
        (rows.systems[one], rows.systems[other]): _mean(
            rows.outcome_N[places], rows.group_N[places], rows.weight_N[places], SHARE, float(coverage)
        )
        for (one, other), places, coverage in zip(rows.cells_C2, _places(rows.cell_N), rows.coverage_C, strict=True)
    }
    return WinRates(of, against)


def _places(code_R: Codes) -> list[Codes]:
    """The rows of each code from 0 to the largest, each of which has some."""
    if not len(code_R):
        return []
    return np.split(np.argsort(code_R, kind="stable"), np.cumsum(np.bincount(code_R))[:-1])


def _mean(values_R: Floats, group_R: Codes, weight_R: Floats, bounds: Bounds, coverage: float) -> Estimate:
    """The weighted mean with Student's interval; n: groups. NaN ends with fewer than `MIN_GROUPS` of them.

    An added observation weighs as much as rows that say the same: a row where rows of a group are independent, and a
    whole group where they are equal, or where nothing varies. The degrees of freedom are those of as many groups of one
    size as have the same variance (Kish 1965).
    """
    _, group_R = np.unique(group_R, return_inverse=True)
    size_G = np.bincount(group_R, weight_R)
    total = size_G.sum()
    if not len(size_G):
        return Estimate(math.nan, math.nan, math.nan, 0, coverage)
    value = float(weight_R @ values_R / total)
    if len(size_G) < MIN_GROUPS:
        return Estimate(value, math.nan, math.nan, len(size_G), coverage)
    rest_R = weight_R * (values_R - value)
    spread, of_groups = float(rest_R @ (values_R - value)), float((np.bincount(group_R, rest_R) ** 2).sum())
    largest = float((size_G**2).sum() / total)
    size = largest if spread < SAME else min(max(of_groups / spread, float((weight_R**2).sum() / total)), largest)
    added = bounds.added * size
    whole = total + 2 * added
    middle = (total * value + added * (bounds.low + bounds.high)) / whole
    of_groups = float((np.bincount(group_R, weight_R * (values_R - middle)) ** 2).sum())
    of_added = added * size * ((middle - bounds.low) ** 2 + (bounds.high - middle) ** 2)
    half = student_quantile(max(total / largest - 1, 1)) * math.sqrt(of_groups + of_added) / whole
    low, high = max(middle - half, bounds.low), min(middle + half, bounds.high)
    return Estimate(value, float(low), float(high), len(size_G), coverage)


def preference_accuracy(
    outcome: Sequence[float | None] | Floats,
    human: Sequence[float | None] | Floats,
    points: Sequence[float | None] | Floats,
    group: Sequence[str],
) -> dict[str, Estimate]:
    """Accuracy of the winners against people's preferences, beside that of pointwise scores on the same pairs.

    Pairs that people tie are left out. A pair counts 1 where both prefer the same text, 0 where they prefer different
    ones, and 0.5 where the model ties: always a tie, and a coin, both have 0.5.

    Args:
        outcome: of the comparison (N,): above 0.5 the first wins, below the second; None or NaN: unscored.
        human: the people's score of the first minus that of the second (N,); None or NaN: not rated.
        points: the judge's score of the first minus that of the second (N,), each rated alone.
        group: the group of each pair (N,).

    Returns:
        `pairs`: over all pairs that people do not tie; `points` and `pairs_minus_points`: over those of them that are
        scored both ways, so that the difference is paired. n: pairs. Empty where people prefer a text in no pair.
    """
    human_N = numbers(human, "human", missing=True)
    decided_N = ~np.isnan(human_N) & (np.abs(human_N) > SAME)
    if not decided_N.any():
        return {}
    pairs_N = _credit(numbers(outcome, "outcome", missing=True) - 0.5, human_N)[decided_N]
    points_N = _credit(numbers(points, "points", missing=True), human_N)[decided_N]
    both_N = ~np.isnan(pairs_N) & ~np.isnan(points_N)
    kept = [str(group[place]) for place in np.flatnonzero(decided_N)]
    return {
        "pairs": mean(pairs_N, kept),
        "points": mean(np.where(both_N, points_N, math.nan), kept),
        "pairs_minus_points": mean(np.where(both_N, pairs_N - points_N, math.nan), kept, DIFFERENCE),
    }


def mean(values: Sequence[float | None] | Floats, group: Sequence[str], bounds: Bounds = SHARE) -> Estimate:
    """The mean of the values that are numbers, each row with the same weight; n: rows.

    Args:
        values: within the bounds (R,); None or NaN: unscored.
        group: the group of each row (R,).
        bounds: of the values.
    """
    values_R = numbers(values, "values", missing=True)
    kept = np.flatnonzero(~np.isnan(values_R))
    group_R, _ = encode([group[place] for place in kept])
    coverage = len(kept) / len(values_R) if len(values_R) else math.nan
    return replace(_mean(values_R[kept], group_R, np.ones(len(kept)), bounds, coverage), n=len(kept))


def _credit(difference_N: Floats, human_N: Floats) -> Floats:
    """1 for the same sign, 0.5 for no difference, 0 for the opposite sign; NaN where the difference is."""
    difference_N = np.where(np.abs(difference_N) <= SAME, 0.0, difference_N)
    return np.where(np.isnan(difference_N), np.nan, (1 + np.sign(difference_N) * np.sign(human_N)) / 2)
