"""Which system is better: systems ranked by mean score, all pairs compared within groups, with and without length.

Legend: N rows, G groups, S systems, M pairs of systems.
Means, differences and intervals are those of `additive_model.py`. It knows no judge, no label and no file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from judging.stats.additive_model import MIN_GROUPS, Cells, Means, shrinkage, student_p, system_means
from judging.stats.bootstrap import Floats
from judging.stats.correlation import ROUNDING
from judging.stats.estimate import Estimate
from judging.stats.rows import encode, numbers

LEVEL = 0.05  # family-wise error of the statement that two systems differ


@dataclass(frozen=True)
class SystemScore:
    """`mean` in points; `controlled`: at the average length, None where the length's slope is undetermined.

    `rank` 1 is the best mean. The true ranks of all systems lie from `rank_low` to `rank_high` in 95 % of samples.
    `won`, `tied` (0 to 1): share of its groups with others in which its score is the highest, or ties for it.
    """

    system: str
    mean: Estimate
    controlled: Estimate | None
    rank: int
    rank_low: int
    rank_high: int
    won: float
    tied: float


@dataclass(frozen=True)
class Difference:
    """`first` minus `second` in points; the first has the higher mean. `p`: of no difference, adjusted (Holm 1979).

    `won`, `tied`, `lost`: in how many shared groups the first scores higher, the same, lower. `value.n`: how many
    groups they share; without any they are compared over other systems, or over their groups (see `Ranking`).
    """

    first: str
    second: str
    value: Estimate
    controlled: Estimate | None
    p: float
    won: int
    tied: int
    lost: int

    @property
    def is_told(self) -> bool:
        """Whether the two can be told apart, at a family-wise error of `LEVEL` over all pairs."""
        return self.p <= LEVEL


@dataclass(frozen=True)
class Ranking:
    """Systems from the best mean to the worst, and all pairs in that order.

    `slope`: points for 100 characters more, None where undetermined. `is_paired`: whether systems are compared within
    groups; False where no two of them share a group, so that the systems' means are
    compared as if the groups were drawn anew for each system. `num_groups`, `num_complete`: groups with any, and with
    every one of these systems. `left_out`: systems without a score, and those that share no group with these.
    `coverage` (0 to 1): share of scored rows.
    """

    systems: Sequence[SystemScore]
    differences: Sequence[Difference]
    slope: Estimate | None
    is_paired: bool
    num_groups: int
    num_complete: int
    left_out: tuple[str, ...]
    coverage: float


# Long because of its documentation.
def rank_systems(
    group: Sequence[str],
    system: Sequence[str],
    score: Sequence[float | None] | Floats,
    length: Sequence[float] | Floats,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Ranking:
    """Compare systems by the scores of their texts.

    Intervals and tests are Student's, with the standard error of a bootstrap over groups. A difference has a degree of
    freedom less than the two systems share groups (or than the weakest link of the strongest path over other systems).
    With fewer than `MIN_GROUPS` groups neither it nor a mean has an interval, and no p is small. Tests are adjusted
    over all pairs. Ranks follow from the pairs that differ (Mogstad et al. 2024).

    Args:
        group: the source that each of the N candidates answers.
        system: who wrote it.
        score: in points, higher is better; None or NaN: unscored, left out and counted in `coverage`.
        length: of the candidate in characters.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

    Raises:
        ValueError: no row has a score.
    """
    score_N = numbers(score, "score", missing=True)
    known_N = ~np.isnan(score_N)
    if not known_N.any():
        raise ValueError("no row has a score")
    kept = np.flatnonzero(known_N)
    every = Cells.of(
        [group[row] for row in kept],
        [system[row] for row in kept],
        score_N[kept],
        np.asarray(length, dtype=float)[kept],
    )
    cells = every.only(_comparable(every))
    coverage = _coverage(system, known_N)
    plain, controlled = system_means(cells, resamples=resamples, seed=seed)
    order = sorted(range(len(cells.names)), key=lambda place: (-plain.values_K[place], cells.names[place]))
    differences = _differences(cells, plain, controlled, order, coverage)
    num_groups = len(cells.score_GS)
    return Ranking(
        _systems(cells, plain, controlled, order, differences, coverage),
        differences,
        controlled.of(len(order), num_groups, _if_enough(num_groups - 1), float(known_N.mean()))
        if controlled
        else None,
        cells.is_paired,
        num_groups,
        int(cells.has_GS.all(axis=1).sum()),
        tuple(name for name in sorted(set(map(str, system))) if name not in cells.names),
        float(known_N.mean()),
    )


def holm(p_M: Floats) -> Floats:
    """Holm's step-down adjustment of p-values for the family-wise error (Holm 1979)."""
    order_M = np.argsort(p_M, kind="stable")
    scaled_M = np.asarray(p_M, dtype=float)[order_M] * np.arange(len(p_M), 0, -1)
    adjusted_M = np.empty(len(p_M))
    adjusted_M[order_M] = np.minimum(np.maximum.accumulate(scaled_M), 1.0)
    return adjusted_M


def _coverage(system: Sequence[str], known_N: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Share of scored rows by system."""
    code_N, _ = encode(system)
    shares = np.bincount(code_N, known_N) / np.bincount(code_N)
    return dict(zip(sorted(set(map(str, system))), map(float, shares), strict=True))


def _comparable(cells: Cells) -> list[int]:
    """The largest set of systems that can be compared within groups; all systems where no two share a group."""
    joined_SS = cells.path_SS > 0
    rows_S = cells.has_GS.sum(axis=0)
    largest = max(range(len(cells.names)), key=lambda place: (joined_SS[place].sum(), rows_S[joined_SS[place]].sum()))
    return list(range(len(cells.names)) if joined_SS[largest].sum() == 1 else np.flatnonzero(joined_SS[largest]))


def _systems(
    cells: Cells,
    plain: Means,
    controlled: Means | None,
    order: Sequence[int],
    differences: Sequence[Difference],
    coverage: Mapping[str, float],
) -> list[SystemScore]:
    """All systems in the order of their means."""
    told = [one for one in differences if one.is_told]
    better, worse = Counter(one.second for one in told), Counter(one.first for one in told)
    top_GS = _is_equal(cells.score_GS, np.nanmax(cells.score_GS, axis=1)[:, None])
    is_contest_G = cells.has_GS.sum(axis=1) > 1
    is_alone_G = top_GS.sum(axis=1) == 1
    found = []
    for place in order:
        name = cells.names[place]
        num_groups = int(cells.has_GS[:, place].sum())
        num_contests = int((cells.has_GS[:, place] & is_contest_G).sum())
        is_top_G = top_GS[:, place] & is_contest_G
        won, tied = (
            (is_top_G & one).sum() / num_contests if num_contests else math.nan for one in (is_alone_G, ~is_alone_G)
        )
        value = plain.values_K[place]
        counts = (num_groups, _if_enough(num_groups - 1), coverage[name])
        found.append(
            SystemScore(
                name,
                plain.of(place, *counts),
                controlled.of(place, *counts) if controlled else None,
                1 + int(((plain.values_K > value) & ~_is_equal(plain.values_K, value)).sum()),
                1 + better[name],
                len(cells.names) - worse[name],
                float(won),
                float(tied),
            )
        )
    return found


def _if_enough(degrees: int) -> int:
    """The degrees of freedom; 0, for no interval, with fewer than `MIN_GROUPS` groups."""
    return degrees if degrees >= MIN_GROUPS - 1 else 0


def _differences(
    cells: Cells, plain: Means, controlled: Means | None, order: Sequence[int], coverage: Mapping[str, float]
) -> list[Difference]:
    """All pairs of systems in the order of their means."""
    pairs = list(combinations(order, 2))
    degrees = [_degrees(cells, *pair) for pair in pairs]
    p_M = holm(np.array([_p_value(plain, *pair, one) for pair, one in zip(pairs, degrees, strict=True)]))
    found = []
    for (first, second), known, p in zip(pairs, degrees, p_M, strict=True):
        groups = np.flatnonzero(cells.has_GS[:, first] & cells.has_GS[:, second])
        one_G, other_G = cells.score_GS[groups, first], cells.score_GS[groups, second]
        is_tie_G = _is_equal(one_G, other_G)
        both = min(coverage[cells.names[first]], coverage[cells.names[second]])
        counts = (len(groups), _if_enough(known), both)
        found.append(
            Difference(
                cells.names[first],
                cells.names[second],
                plain.difference(first, second, *counts),
                controlled.difference(first, second, *counts) if controlled else None,
                float(p),
                int((~is_tie_G & (one_G > other_G)).sum()),
                int(is_tie_G.sum()),
                int((~is_tie_G & (one_G < other_G)).sum()),
            )
        )
    return found


def _degrees(cells: Cells, first: int, second: int) -> int:
    """Degrees of freedom of a difference: of the groups that link the two; unpaired, of the groups of the rarer."""
    if cells.is_paired:
        return int(cells.path_SS[first, second]) - 1
    return int(min(cells.has_GS[:, first].sum(), cells.has_GS[:, second].sum())) - 1


def _p_value(means: Means, first: int, second: int, degrees: int) -> float:
    """Of no difference, two-sided, from Student's t; 1 where nothing can be said.

    With few groups at least that of a sign test in which all agree: they may agree, with hardly a variance, by luck.
    """
    value = abs(float(means.values_K[first] - means.values_K[second]))
    error = means.error(first, second)
    if degrees < 1 or math.isnan(error) or value <= ROUNDING * float(np.abs(means.values_K).max()):
        return 1.0
    error *= shrinkage(degrees)
    p = student_p(value, error, degrees) if error > ROUNDING * value else 0.0
    return max(p, 2.0**-degrees) if degrees < MIN_GROUPS - 1 else p


def _is_equal(one: Floats, other: Floats | float) -> npt.NDArray[np.bool_]:
    """Whether numbers are equal within rounding; NaN is equal to nothing."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(one - other) <= ROUNDING * np.maximum(np.abs(one), np.abs(other)))
