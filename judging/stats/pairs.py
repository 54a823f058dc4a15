"""Statistics of pairwise comparisons: win rates, and the accuracy of the winners against people's preferences.

Legend: N pairs, G groups, S systems, C pairs of systems, B resamples, K statistics. A tie counts half for both.
Every value comes with a 95 % interval from a bootstrap over groups. It knows no texts, no judges and no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from judging.stats.bootstrap import Floats, Resample, intervals, weigh
from judging.stats.correlation import ratio
from judging.stats.estimate import Estimate
from judging.stats.rows import Codes, encode, numbers

NUM_RESAMPLES = 2000
SAME = 1e-9  # two scores nearer than this are equal


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
    """

    systems: tuple[str, ...]
    cells_C2: Codes
    cell_N: Codes
    group_N: Codes
    outcome_N: Floats
    longer_N: Floats
    num_groups: int
    coverage: float


def scored(comparisons: Comparisons) -> Scored:
    """Sorted arrays of the pairs with an outcome. Raises ValueError for an outcome outside 0 to 1 or one system."""
    outcome_N = numbers(comparisons.outcome, "outcome", missing=True)
    keep_N = ~np.isnan(outcome_N)
    coverage = float(keep_N.mean()) if len(keep_N) else math.nan
    kept = np.flatnonzero(keep_N)
    outcome_N, longer_N = outcome_N[kept], numbers(comparisons.longer, "longer", missing=False)[kept]
    if ((outcome_N < 0) | (outcome_N > 1)).any():
        raise ValueError("an outcome must be from 0 to 1")
    group_N, num_groups = encode([comparisons.group[place] for place in kept])
    names = [(str(comparisons.first[place]), str(comparisons.second[place])) for place in kept]
    if any(one == other for one, other in names):
        raise ValueError("a system cannot be compared with itself")
    systems = tuple(sorted({name for both in names for name in both}))
    code = {name: number for number, name in enumerate(systems)}
    sides_N2 = np.array([[code[one], code[other]] for one, other in names], dtype=np.intp).reshape(-1, 2)
    # Systems in one order: the outcome and the length are turned with them.
    turned_N = sides_N2[:, 0] > sides_N2[:, 1]
    outcome_N = np.where(turned_N, 1 - outcome_N, outcome_N)
    longer_N = np.where(turned_N, -longer_N, longer_N)
    cells_C2, cell_N = np.unique(np.sort(sides_N2, axis=1), axis=0, return_inverse=True)
    cell_N = cell_N.reshape(-1)
    order_N = np.lexsort((longer_N, outcome_N, group_N, cell_N))
    columns = (cell_N[order_N], group_N[order_N], outcome_N[order_N], longer_N[order_N])
    return Scored(systems, cells_C2, *columns, num_groups, coverage)


class WinRates(NamedTuple):
    """`of`: each system's wins among its pairs (0 to 1, a tie half); `against`: of the first against the second."""

    of: dict[str, Estimate]
    against: dict[tuple[str, str], Estimate]


def win_rates(comparisons: Comparisons, *, resamples: int = NUM_RESAMPLES, seed: int = 0) -> WinRates:
    """Win rates of each system over all its pairs, and of each pair of systems; n: pairs.

    A system's rate depends on the systems that it was compared with, and weighs them by their numbers of pairs.

    Args:
        comparisons: the pairs.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    rows = scored(comparisons)
    num_cells = len(rows.cells_C2)
    count_GC, wins_GC = (cell_sums(rows, values_N) for values_N in (np.ones_like(rows.outcome_N), rows.outcome_N))
    by_system_CS = sides(rows)

    def resample(weights_BG: Floats) -> Floats:
        count_BC, wins_BC = weigh(weights_BG, count_GC), weigh(weights_BG, wins_GC)
        return np.concatenate([system_rates(wins_BC, count_BC, by_system_CS), ratio(wins_BC, count_BC)], axis=1)

    n_C = count_GC.sum(axis=0)
    found = estimates(resample, [*(abs(by_system_CS).T @ n_C), *n_C], rows, resamples=resamples, seed=seed)
    names = [(rows.systems[one], rows.systems[other]) for one, other in rows.cells_C2]
    return WinRates(
        dict(zip(rows.systems, found, strict=False)), dict(zip(names, found[len(found) - num_cells :], strict=True))
    )


def system_rates(wins_BC: Floats, count_BC: Floats, sides_CS: Floats) -> Floats:
    """Each system's wins among its pairs (B, S), from the wins of the first system of each pair of systems."""
    first_CS, second_CS = np.clip(sides_CS, 0, 1), np.clip(-sides_CS, 0, 1)
    wins_BS = wins_BC @ first_CS + (count_BC - wins_BC) @ second_CS
    return ratio(wins_BS, count_BC @ (first_CS + second_CS))


def cell_sums(rows: Scored, values_N: Floats) -> Floats:
    """Sums over the pairs of each group and pair of systems (G, C)."""
    num_cells = len(rows.cells_C2)
    places_N = rows.group_N * num_cells + rows.cell_N
    sums = np.bincount(places_N, weights=values_N, minlength=rows.num_groups * num_cells)
    return np.asarray(sums, dtype=float).reshape(rows.num_groups, num_cells)


def sides(rows: Scored) -> Floats:
    """(C, S): 1 for the first system of each pair of systems, -1 for the second."""
    sides_CS: Floats = np.zeros((len(rows.cells_C2), len(rows.systems)))
    places_C = np.arange(len(rows.cells_C2))
    sides_CS[places_C, rows.cells_C2[:, 0]], sides_CS[places_C, rows.cells_C2[:, 1]] = 1, -1
    return sides_CS


def estimates(resample: Resample, n: Sequence[float], rows: Scored, *, resamples: int, seed: int) -> list[Estimate]:
    """The values of `resample` with their intervals.

    Args:
        resample: values_BK under group weights.
        n: pairs of each value (K,).
        rows: the pairs.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    if not rows.num_groups:
        return []
    values_K = resample(np.ones((1, rows.num_groups)))[0]
    ends = intervals(resample, values_K, rows.num_groups, resamples=resamples, seed=seed)
    return [
        Estimate(float(value), one.low, one.high, int(number), rows.coverage, 0, one.dropped_share)
        for value, one, number in zip(values_K, ends, n, strict=True)
    ]


def preference_accuracy(
    outcome: Sequence[float | None] | Floats,
    human: Sequence[float | None] | Floats,
    points: Sequence[float | None] | Floats,
    group: Sequence[str],
    *,
    resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Accuracy of the winners against people's preferences, beside that of pointwise scores on the same pairs.

    Pairs that people tie are left out. A pair counts 1 where both prefer the same text, 0 where they prefer different
    ones, and 0.5 where the model ties: always a tie, and a coin, both have 0.5.

    Args:
        outcome: of the comparison (N,): above 0.5 the first wins, below the second; None or NaN: unscored.
        human: the people's score of the first minus that of the second (N,); None or NaN: not rated.
        points: the judge's score of the first minus that of the second (N,), each rated alone.
        group: the group of each pair (N,).
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

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
    columns = {
        "pairs": pairs_N,
        "points": np.where(both_N, points_N, np.nan),
        "pairs_minus_points": np.where(both_N, pairs_N - points_N, np.nan),
    }
    kept = [str(group[place]) for place in np.flatnonzero(decided_N)]
    return means(columns, kept, resamples=resamples, seed=seed)


def means(
    columns: Mapping[str, Floats], group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """The mean of each column over its rows that are numbers, by name; the columns share the resamples of groups.

    Args:
        columns: by name, (N,) each; NaN: unscored.
        group: the group of each row (N,).
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    values_NK = np.column_stack(list(columns.values()))
    known_NK = ~np.isnan(values_NK)
    group_N, num_groups = encode(group)
    shape = (num_groups, values_NK.shape[1])
    sums_GK, count_GK = np.zeros(shape), np.zeros(shape)
    np.add.at(sums_GK, group_N, np.where(known_NK, values_NK, 0.0))
    np.add.at(count_GK, group_N, known_NK.astype(float))
    resample: Resample = lambda weights_BG: ratio(weigh(weights_BG, sums_GK), weigh(weights_BG, count_GK))  # noqa: E731
    value_K = resample(np.ones((1, num_groups)))[0]
    ends = intervals(resample, value_K, num_groups, resamples=resamples, seed=seed)
    return {
        name: Estimate(float(value), one.low, one.high, int(n), n / len(values_NK), 0, one.dropped_share)
        for name, value, one, n in zip(columns, value_K, ends, known_NK.sum(axis=0), strict=True)
    }


def _credit(difference_N: Floats, human_N: Floats) -> Floats:
    """1 for the same sign, 0.5 for no difference, 0 for the opposite sign; NaN where the difference is."""
    difference_N = np.where(np.abs(difference_N) <= SAME, 0.0, difference_N)
    return np.where(np.isnan(difference_N), np.nan, (1 + np.sign(difference_N) * np.sign(human_N)) / 2)
