"""Cells of systems and groups -> least-squares means of the systems, in the sample and in resamples of groups.

Legend: G groups, S systems, B resamples. A cell is a system in a group: the mean of its rows there.
score = group + system (+ slope * length): with every system in every group the means are plain means, and a system
that lacks the easy groups is not punished for it. Where no two systems share a group, they are compared without the
groups' part. Standard errors come from a bootstrap over groups. It knows no ranks and no tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from judging.stats.bootstrap import Floats, Resample, replicates, weigh
from judging.stats.estimate import Estimate
from judging.stats.rows import encode

CHARACTERS = 100  # the unit of lengths, so that a slope is in points for 100 characters more
SMALLEST_EIGENVALUE = 1e-9  # of equations with a diagonal of ones; below it they have no solution
MIN_GROUPS = 6  # for an interval; with fewer, a sign test in which all groups agree does not reach the level of 5 %


@dataclass(frozen=True)
class Cells:
    """Mean score of each system in each group, and mean length in `CHARACTERS`, less the mean of all; NaN: no rows."""

    names: Sequence[str]
    score_GS: Floats
    length_GS: Floats

    @staticmethod
    def of(group: Sequence[str], system: Sequence[str], score_N: Floats, length_N: Floats) -> Cells:
        """The cells of N scored rows; systems in alphabetical order.

        Args:
            group: of each row.
            system: of each row.
            score_N: without NaN.
            length_N: in characters.
        """
        group_N, num_groups = encode(group)
        system_N, num_systems = encode(system)
        cell_N = group_N * num_systems + system_N
        count = np.bincount(cell_N, minlength=num_groups * num_systems).astype(float)
        count[count == 0] = math.nan
        score, length = (np.bincount(cell_N, one, minlength=len(count)) / count for one in (score_N, length_N))
        length_GS = (length - np.nanmean(length)).reshape(num_groups, num_systems) / CHARACTERS
        return Cells(sorted(set(map(str, system))), score.reshape(num_groups, num_systems), length_GS)

    @cached_property
    def has_GS(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.score_GS)

    @cached_property
    def shared_SS(self) -> npt.NDArray[np.intp]:
        """In how many groups two systems both are."""
        has_GS = self.has_GS.astype(float)
        return np.asarray(has_GS.T @ has_GS, dtype=np.intp)

    @cached_property
    def path_SS(self) -> npt.NDArray[np.intp]:
        """The weakest link of the strongest path between two systems, in shared groups; 0: no path joins them."""
        path_SS = self.shared_SS.copy()
        for between in range(len(self.names)):
            path_SS = np.maximum(path_SS, np.minimum(path_SS[:, [between]], path_SS[[between], :]))
        return path_SS

    @property
    def is_paired(self) -> bool:
        """Whether all systems can be compared within groups, directly or over further systems."""
        return bool((self.path_SS > 0).all())

    def only(self, places: Sequence[int]) -> Cells:
        """The cells of these systems, and the groups that have any of them."""
        chosen = list(places)
        kept_G = self.has_GS[:, chosen].any(axis=1)
        score_GS, length_GS = (one[:, chosen][kept_G] for one in (self.score_GS, self.length_GS))
        return Cells([self.names[place] for place in chosen], score_GS, length_GS)


@dataclass(frozen=True)
class Means:
    """Means of the systems, then the slope if length is in the model, with their covariance over resamples (K, K).

    `dropped_share` (0 to 1): resamples that did not determine all of them. Covariances are NaN with fewer than two
    groups or two such resamples.
    """

    values_K: Floats
    covariance_KK: Floats
    dropped_share: float

    def of(self, place: int, num_groups: int, degrees: int, coverage: float) -> Estimate:
        """The estimate of one mean, or of the slope, which comes last, with Student's interval.

        Args:
            place: of the system.
            num_groups: n of the estimate.
            degrees: of freedom; below 1 there is no interval.
            coverage: share of scored rows.
        """
        error = math.sqrt(max(float(self.covariance_KK[place, place]), 0.0))
        return self._estimate(float(self.values_K[place]), error, num_groups, degrees, coverage)

    def difference(self, first: int, second: int, num_groups: int, degrees: int, coverage: float) -> Estimate:
        """The estimate of the first mean minus the second.

        Args:
            first: place of a system.
            second: of another.
            num_groups: n of the estimate.
            degrees: of freedom; below 1 there is no interval.
            coverage: share of scored rows.
        """
        value = float(self.values_K[first] - self.values_K[second])
        return self._estimate(value, self.error(first, second), num_groups, degrees, coverage)

    def error(self, first: int, second: int) -> float:
        """The standard deviation of the first mean minus the second over resamples; NaN: unknown."""
        between = self.covariance_KK
        return math.sqrt(max(float(between[first, first] + between[second, second] - 2 * between[first, second]), 0.0))

    def _estimate(self, value: float, error: float, num_groups: int, degrees: int, coverage: float) -> Estimate:
        half = student_quantile(degrees) * error * shrinkage(degrees) if degrees > 0 else math.nan
        return Estimate(value, value - half, value + half, num_groups, coverage, 0, self.dropped_share)


def student_quantile(degrees: float, level: float = 0.95) -> float:
    """Half the width of Student's interval of that level, in standard errors."""
    from scipy.special import stdtrit  # scipy.stats takes seconds to import

    return float(stdtrit(degrees, (1 + level) / 2))


def student_p(value: float, error: float, degrees: float) -> float:
    """The p-value of 0, two-sided, of an estimate with that standard error; 1 where it is undefined."""
    from scipy.special import stdtr  # scipy.stats takes seconds to import

    if value == 0 or math.isnan(value) or math.isnan(error):
        return 1.0
    return float(2 * stdtr(degrees, -abs(value) / error)) if error > 0 else 0.0


def shrinkage(degrees: int) -> float:
    """How much larger a standard error is than the deviation over resamples of degrees + 1 groups."""
    return math.sqrt((degrees + 1) / degrees)


def system_means(cells: Cells, *, resamples: int, seed: int) -> tuple[Means, Means | None]:
    """Fit the model to the cells and to resamples of their groups.

    Args:
        cells: at least one.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

    Returns:
        Without length in the model, and with it: means at the average length of a cell, then the slope; None where
        lengths say nothing beside groups and systems.
    """
    fit = _model(cells)
    num_groups, num = cells.score_GS.shape
    values_K = fit(np.ones((1, num_groups)))[0]
    replicates_BK = np.full((1, len(values_K)), math.nan)
    if num_groups > 1:
        replicates_BK = replicates(fit, num_groups, resamples=resamples, seed=seed)
    plain, controlled = (_means(values_K[part], replicates_BK[:, part]) for part in (slice(num), slice(num, None)))
    return plain, None if np.isnan(controlled.values_K).any() else controlled


def _means(values_K: Floats, replicates_BK: Floats) -> Means:
    known_BK = replicates_BK[~np.isnan(replicates_BK).any(axis=1)]
    dropped_share = 1 - len(known_BK) / len(replicates_BK)
    if len(known_BK) < 2:
        return Means(values_K, np.full((len(values_K), len(values_K)), math.nan), dropped_share)
    return Means(values_K, np.atleast_2d(np.cov(known_BK, rowvar=False)), dropped_share)


def _model(cells: Cells) -> Resample:
    """W_BG -> means of the S systems without length, then with length and the slope: S + S + 1 values."""
    gram_GKK, right_GK = _equations(cells)
    num = right_GK.shape[1]
    upper = np.triu_indices(num)
    flat = np.concatenate([gram_GKK[:, upper[0], upper[1]], right_GK], axis=1)
    # By group the means of its cells: score, then 1 or 0 for each system and length.
    size_G1 = cells.has_GS.sum(axis=1, keepdims=True)
    parts = [cells.score_GS, *(cells.has_GS[:, [place]] for place in range(num - 1)), cells.length_GS]
    mean_GK = np.concatenate([np.nansum(part, axis=1, keepdims=True) / size_G1 for part in parts], axis=1)

    def fitted(weights_BG: Floats) -> Floats:
        sums = weigh(weights_BG, flat)
        gram_BKK = np.empty((len(weights_BG), num, num))
        gram_BKK[:, upper[0], upper[1]] = gram_BKK[:, upper[1], upper[0]] = sums[:, : len(upper[0])]
        if cells.is_paired:  # effects have a sum of 0: only their differences are determined
            gram_BKK[:, :-1, :-1] += 1
        average_BK = weigh(weights_BG, mean_GK) / weights_BG.sum(axis=1, keepdims=True)
        both = []
        for size in (num - 1, num):
            found_BK = _solved(gram_BKK[:, :size, :size], sums[:, len(upper[0]) :][:, :size])
            if cells.is_paired:  # effects -> means: around the score of an average group
                level_B = average_BK[:, 0] - (average_BK[:, 1 : size + 1] * found_BK).sum(axis=1)
                found_BK[:, : num - 1] += level_B[:, None]
            both.append(found_BK)
        return np.concatenate(both, axis=1)

    return fitted


def _equations(cells: Cells) -> tuple[Floats, Floats]:
    """Each group's part of the normal equations, gram_GKK and right_GK; K: the systems, then length."""
    has_GS = cells.has_GS.astype(float)
    num = has_GS.shape[1]
    size_G1 = has_GS.sum(axis=1, keepdims=True)
    score_GS, length_GS = np.nan_to_num(cells.score_GS), np.nan_to_num(cells.length_GS)
    gram_GKK = np.zeros((len(has_GS), num + 1, num + 1))
    gram_GKK[:, range(num), range(num)] = has_GS
    if cells.is_paired:  # what all cells of a group have in common says nothing about systems
        gram_GKK[:, :num, :num] -= has_GS[:, :, None] * has_GS[:, None, :] / size_G1[..., None]
        score_GS, length_GS = (
            has_GS * (one - one.sum(axis=1, keepdims=True) / size_G1) for one in (score_GS, length_GS)
        )
    gram_GKK[:, :num, num] = gram_GKK[:, num, :num] = length_GS
    gram_GKK[:, num, num] = (length_GS**2).sum(axis=1)
    return gram_GKK, np.concatenate([score_GS, (length_GS * score_GS).sum(axis=1, keepdims=True)], axis=1)


def _solved(gram_BKK: Floats, right_BK: Floats) -> Floats:
    """Solutions (B, K) of symmetric equations; NaN where there is not exactly one."""
    scale_BK = np.sqrt(np.maximum(np.diagonal(gram_BKK, axis1=1, axis2=2), 0))
    scale_BK = np.where(scale_BK > 1e-12, scale_BK, np.inf)
    unit_BKK = gram_BKK / scale_BK[:, :, None] / scale_BK[:, None, :]
    has_one_B = np.linalg.eigvalsh(unit_BKK)[:, 0] > SMALLEST_EIGENVALUE
    found_BK = np.full(right_BK.shape, math.nan)
    scaled_BK1 = (right_BK / scale_BK)[has_one_B][..., None]
    found_BK[has_one_B] = np.linalg.solve(unit_BKK[has_one_B], scaled_BK1)[..., 0] / scale_BK[has_one_B]
    return found_BK
