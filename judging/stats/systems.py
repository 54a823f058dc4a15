"""Which system is better: systems ranked by mean score, all pairs compared within groups, with and without length.

Legend: N rows, G groups, S systems, M pairs of systems.
Means, differences and intervals are those of `additive_model.py`. It knows no judge, no label and no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from judging.stats.additive_model import Cells, Means, system_means
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
    groups; False where some share no group with the others, even over further systems, so that the groups' means are
    compared as if the groups were drawn anew for each system. `num_complete`: groups with every system.
    """

    systems: Sequence[SystemScore]
    differences: Sequence[Difference]
    slope: Estimate | None
    is_paired: bool
    num_groups: int
    num_complete: int


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

    A difference is tested by Student's t with the bootstrap's standard error, with one degree of freedom less than the
    two share groups, adjusted over all pairs. Ranks follow from the pairs that differ (Mogstad et al. 2024).

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
    cells = Cells.of(
        [group[row] for row in kept],
        [system[row] for row in kept],
        score_N[kept],
        np.asarray(length, dtype=float)[kept],
    )
    coverage = _coverage(system, known_N)
    plain, controlled = system_means(cells, resamples=resamples, seed=seed)
    order = sorted(range(len(cells.names)), key=lambda place: (-plain.values_K[place], cells.names[place]))
    differences = _differences(cells, plain, controlled, order, coverage)
    return Ranking(
        [_system(cells, place, plain, controlled, differences, coverage) for place in order],
        differences,
        controlled.of(len(order), len(cells.score_GS), float(known_N.mean())) if controlled else None,
        cells.is_paired,
        len(cells.score_GS),
        int(cells.has_GS.all(axis=1).sum()),
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


def _system(
    cells: Cells,
    place: int,
    plain: Means,
    controlled: Means | None,
    differences: Sequence[Difference],
    coverage: Mapping[str, float],
) -> SystemScore:
    name, has_G = cells.names[place], cells.has_GS[:, place]
    rivals_G = has_G & (cells.has_GS.sum(axis=1) > 1)
    best_G = np.nanmax(cells.score_GS, axis=1)
    top_GS = _is_equal(cells.score_GS, best_G[:, None])
    is_top_G = top_GS[:, place] & rivals_G
    is_alone_G = is_top_G & (top_GS.sum(axis=1) == 1)
    num_rivals = int(rivals_G.sum())
    num_groups = int(has_G.sum())
    higher = (plain.values_K > plain.values_K[place]) & ~_is_equal(plain.values_K, plain.values_K[place])
    return SystemScore(
        name,
        plain.of(place, num_groups, coverage[name]),
        controlled.of(place, num_groups, coverage[name]) if controlled else None,
        1 + int(higher.sum()),
        1 + sum(one.is_told and one.second == name for one in differences),
        len(cells.names) - sum(one.is_told and one.first == name for one in differences),
        float(is_alone_G.sum() / num_rivals) if num_rivals else math.nan,
        float((is_top_G & ~is_alone_G).sum() / num_rivals) if num_rivals else math.nan,
    )


def _differences(
    cells: Cells, plain: Means, controlled: Means | None, order: Sequence[int], coverage: Mapping[str, float]
) -> list[Difference]:
    """All pairs of systems in the order of their means."""
    pairs = list(combinations(order, 2))
    shared = [np.flatnonzero(cells.has_GS[:, first] & cells.has_GS[:, second]) for first, second in pairs]
    p_M = holm(np.array([_p_value(plain, *pair, _degrees(cells, *pair)) for pair in pairs]))
    found = []
    for (first, second), groups, p in zip(pairs, shared, p_M, strict=True):
        one_G, other_G = cells.score_GS[groups, first], cells.score_GS[groups, second]
        is_tie_G = _is_equal(one_G, other_G)
        both = min(coverage[cells.names[first]], coverage[cells.names[second]])
        found.append(
            Difference(
                cells.names[first],
                cells.names[second],
                plain.difference(first, second, len(groups), both),
                controlled.difference(first, second, len(groups), both) if controlled else None,
                float(p),
                int((~is_tie_G & (one_G > other_G)).sum()),
                int(is_tie_G.sum()),
                int((~is_tie_G & (one_G < other_G)).sum()),
            )
        )
    return found


def _degrees(cells: Cells, first: int, second: int) -> int:
    """Degrees of freedom of a difference: shared groups less one; without pairing those of the rarer system."""
    has_GS = cells.has_GS
    if (num_shared := int((has_GS[:, first] & has_GS[:, second]).sum())) > 1:
        return num_shared - 1
    return max(0, int(min(has_GS[:, first].sum(), has_GS[:, second].sum())) - 1)


def _p_value(means: Means, first: int, second: int, degrees: int) -> float:
    """Of no difference, two-sided, from Student's t; 1 where nothing can be said.

    With few groups at least that of a sign test in which all agree: they may agree, with hardly a variance, by luck.
    """
    from scipy.special import stdtr  # scipy.stats takes seconds to import

    value = abs(float(means.values_K[first] - means.values_K[second]))
    apart_B = means.apart_B(first, second)
    apart_B = apart_B[~np.isnan(apart_B)]
    if degrees < 1 or len(apart_B) < 2 or value <= ROUNDING * float(np.abs(means.values_K).max()):
        return 1.0
    # A resample of n groups has the variance (n - 1) / n of a fresh sample.
    error = float(apart_B.std(ddof=1)) * math.sqrt((degrees + 1) / degrees)
    p = float(2 * stdtr(degrees, -value / error)) if error > ROUNDING * value else 0.0
    return max(p, of_signs) if (of_signs := 2.0**-degrees) > LEVEL else p


def _is_equal(one: Floats, other: Floats | float) -> npt.NDArray[np.bool_]:
    """Whether numbers are equal within rounding; NaN is equal to nothing."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(one - other) <= ROUNDING * np.maximum(np.abs(one), np.abs(other)))
