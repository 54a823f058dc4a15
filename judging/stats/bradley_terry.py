"""Bradley-Terry strengths of systems from pairwise comparisons, plain and with the effect of length taken out.

Legend: N pairs, G groups, S systems, C pairs of systems, P parameters: theta of each system, then gamma.
P(i beats j) = 1 / (1 + exp(-(theta_i - theta_j))), a tie half a win for both (Bradley and Terry 1952). With lengths the
exponent gains `gamma * tanh(d / s)`, d the difference of the lengths and s its root mean square over all pairs; the
length-controlled win rate is what the model predicts with d = 0. That is the length term of AlpacaEval 2 (Dubois et al.
2024, arXiv 2404.04475), with one gamma for all systems and without its term for the difficulty of an instruction.
Estimates have their bias reduced (Firth 1993): as if one pair per parameter, half won and half lost, were added.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from judging.stats.additive_model import MIN_GROUPS, SMALLEST_EIGENVALUE, student_quantile
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate
from judging.stats.pairs import Comparisons, Scored, scored
from judging.stats.rows import Codes

MAX_STEPS, MAX_STEP, SMALLEST_STEP = 200, 2.0, 1e-8
ROUNDING = 1e-12  # of sums of length terms, which are from -1 to 1

Bools = npt.NDArray[np.bool_]


class Strengths(NamedTuple):
    """Of each system: `strengths` in logits, higher is better; `controlled`: length-controlled win rates; n: groups.

    Strengths are 0 on average over the systems of the largest set in which each has won or tied a pair against
    the rest of it, directly or over others (Ford 1957): all systems, where nothing is open. Against others a strength
    has no end: `no_upper_end`, `no_lower_end` (an infinite `high` or `low`).
    `length_effect`: gamma in logits; above 0 the judge prefers the longer text. It is None where lengths do not
    determine it; it has an infinite end where with lengths every pair can be explained without error. In both cases
    `controlled` is empty. `apart`: the systems in sets that no comparison connects; with more than one there are no
    strengths, as they could not be compared.
    """

    strengths: dict[str, Estimate]
    controlled: dict[str, Estimate]
    length_effect: Estimate | None
    apart: list[list[str]]
    no_upper_end: list[str]
    no_lower_end: list[str]


def bradley_terry(comparisons: Comparisons) -> Strengths:
    """The systems' strengths with Student's intervals; what the pairs of a group have in common widens them.

    A system has no interval with fewer than `MIN_GROUPS` groups.

    Args:
        comparisons: the pairs.
    """
    rows = scored(comparisons)
    apart = [[rows.systems[number] for number in one] for one in components(rows)]
    if len(apart) != 1:
        return Strengths({}, {}, None, apart, [], [])
    reach_SS = _reach(rows, rows.outcome_N > 0, rows.outcome_N < 1)
    core_S = _core(reach_SS)
    no_end_2S = np.stack([~reach_SS[:, core_S].all(axis=1), ~reach_SS[core_S].all(axis=0)])
    fit = _Model(rows, None).fit()
    contrast_SS = np.eye(len(rows.systems)) - core_S / core_S.sum()
    ends_2S = _ends(contrast_SS @ fit.theta_S, fit.errors(contrast_SS), rows)
    ends_2S += np.where(no_end_2S, [[-math.inf], [math.inf]], 0)
    no_lower, no_upper = ([rows.systems[place] for place in np.flatnonzero(one_S)] for one_S in no_end_2S)
    return Strengths(
        _estimates(contrast_SS @ fit.theta_S, ends_2S, rows), *_with_length(rows, no_end_2S), apart, no_upper, no_lower
    )


def components(rows: Scored) -> list[list[int]]:
    """The systems in sets that comparisons connect, each sorted, the set with the first system first."""
    every_N = np.ones(len(rows.cell_N), dtype=bool)
    return sorted(map(list, {tuple(map(int, np.flatnonzero(one_S))) for one_S in _reach(rows, every_N, every_N)}))


def _with_length(rows: Scored, no_end_2S: Bools) -> tuple[dict[str, Estimate], Estimate | None]:
    """The length-controlled win rates and gamma."""
    spread = float(np.sqrt(np.mean(rows.longer_N**2)))
    length_N = np.tanh(rows.longer_N / (spread or 1.0))
    model = _Model(rows, length_N)
    no_lower, no_upper = (_explains_all(rows, sign * length_N) for sign in (-1, 1))
    if not model.is_determined or (no_lower and no_upper):
        return {}, None
    fit = model.fit()
    gamma, half = float(fit.values_P[-1]), _quantile(rows.num_groups) * math.sqrt(fit.covariance_PP[-1, -1])
    low, high = (half + (math.inf if is_open else 0) for is_open in (no_lower, no_upper))
    effect = Estimate(gamma, gamma - low, gamma + high, rows.num_groups, rows.coverage)
    if no_lower or no_upper:
        return {}, effect
    return _rates(fit, rows, no_end_2S), effect


def _rates(fit: _Fit, rows: Scored, no_end_2S: Bools) -> dict[str, Estimate]:
    """The win rates that the strengths predict for the compared pairs of systems."""
    one_C, other_C = rows.cells_C2.T
    size_C = np.bincount(rows.cell_N, rows.weight_N)
    chance_C = expit(fit.theta_S[one_C] - fit.theta_S[other_C])
    size_S, wins_S = (
        np.bincount(rows.cells_C2.T.ravel(), np.concatenate(both))
        for both in ((size_C, size_C), (size_C * chance_C, size_C * (1 - chance_C)))
    )
    rate_S = wins_S / size_S
    slope_SS = _laplacian(rows, size_C * chance_C * (1 - chance_C)) / size_S[:, None]
    # On the logit scale, so that the ends are from 0 to 1.
    ends_2S = expit(_ends(logit(rate_S), fit.errors(slope_SS) / (rate_S * (1 - rate_S)), rows))
    return _estimates(rate_S, np.where(no_end_2S & ~np.isnan(ends_2S), [[0], [1]], ends_2S), rows)


def _ends(values_S: Floats, errors_S: Floats, rows: Scored) -> Floats:
    """Both ends of Student's intervals (2, S)."""
    half_S = errors_S * [_quantile(int(number)) for number in rows.num_groups_S]
    return np.stack([values_S - half_S, values_S + half_S])


def _quantile(num_groups: int) -> float:
    """Half the width of an interval in standard errors; NaN with too few groups."""
    return student_quantile(num_groups - 1) if num_groups >= MIN_GROUPS else math.nan


def _estimates(values_S: Floats, ends_2S: Floats, rows: Scored) -> dict[str, Estimate]:
    columns = zip(rows.systems, values_S, *ends_2S, rows.num_groups_S, rows.coverage_S, strict=True)
    return {
        system: Estimate(float(value), float(low), float(high), int(number), float(coverage))
        for system, value, low, high, number, coverage in columns
    }


class _Fit(NamedTuple):
    """The parameters with their covariance; 0 for what is fixed: the first system, and gamma without lengths."""

    values_P: Floats
    covariance_PP: Floats

    @property
    def theta_S(self) -> Floats:
        return self.values_P[:-1]

    def errors(self, contrast_SS: Floats) -> Floats:
        """Standard errors of contrast_SS @ theta_S."""
        return np.asarray(np.sqrt(((contrast_SS @ self.covariance_PP[:-1, :-1]) * contrast_SS).sum(axis=1)))


class _Model:
    """The pairs with the design x_P of each: 1 and -1 for its systems, and the length term."""

    def __init__(self, rows: Scored, length_N: Floats | None) -> None:
        self.rows = rows
        self.length_N = np.zeros(len(rows.cell_N)) if length_N is None else length_N
        # The first system stays 0, since only differences matter, and so does gamma without lengths.
        self.free = slice(1, len(rows.systems) + (length_N is not None))

    @property
    def is_determined(self) -> bool:
        """Whether lengths vary, and not only with the systems."""
        information_PP = self._information(self.rows.weight_N)
        scale_P = np.sqrt(np.diagonal(information_PP))
        if not scale_P.all():
            return False
        return bool(np.linalg.eigvalsh(information_PP / scale_P / scale_P[:, None])[0] > SMALLEST_EIGENVALUE)

    def fit(self) -> _Fit:
        """Firth's estimate by Newton's method, and its covariance (a sandwich with groups as units).

        Steps are limited, as a full one can leave the region where the likelihood curves.
        """
        rows, values_P = self.rows, np.zeros(len(self.rows.systems) + 1)
        first_N, second_N = rows.ends_N2.T
        for _ in range(MAX_STEPS):
            chance_N = expit(values_P[first_N] - values_P[second_N] + values_P[-1] * self.length_N)
            curve_N = chance_N * (1 - chance_N)
            # Firth's added pair is split among the pairs by their leverage.
            added_N = (
                rows.weight_N * curve_N * self._variance(np.linalg.inv(self._information(rows.weight_N * curve_N)))
            )
            rest_N = rows.weight_N * (rows.outcome_N - chance_N)
            inverse_PP = np.linalg.inv(self._information((rows.weight_N + added_N) * curve_N))
            gradient_P = self._sums(rest_N + added_N * (0.5 - chance_N), np.zeros_like(first_N), 1)[0]
            step_P = inverse_PP @ gradient_P
            largest = float(np.abs(step_P).max())
            values_P[self.free] += step_P * min(1.0, MAX_STEP / max(largest, MAX_STEP))
            if largest < SMALLEST_STEP:
                break
        of_group_GP = self._sums(rest_N, rows.group_N, rows.num_groups)
        spread_PP = of_group_GP.T @ of_group_GP * rows.num_groups / max(rows.num_groups - 1, 1)
        # Without the added pair's own part nothing varies where all pairs agree.
        spread_PP += self._information(added_N * (chance_N**2 + (1 - chance_N) ** 2) / 2)
        covariance_PP = np.zeros((len(values_P), len(values_P)))
        covariance_PP[self.free, self.free] = inverse_PP @ spread_PP @ inverse_PP
        return _Fit(values_P, covariance_PP)

    def _information(self, weight_N: Floats) -> Floats:
        """Weighted sum of x_P x_P' of what is free."""
        whole_PP = np.zeros((len(self.rows.systems) + 1,) * 2)
        whole_PP[:-1, :-1] = _laplacian(self.rows, np.bincount(self.rows.cell_N, weight_N))
        first_N, second_N = self.rows.ends_N2.T
        mixed_N = weight_N * self.length_N
        mixed_S = np.bincount(first_N, mixed_N, len(whole_PP) - 1) - np.bincount(second_N, mixed_N, len(whole_PP) - 1)
        whole_PP[:-1, -1] = whole_PP[-1, :-1] = mixed_S
        whole_PP[-1, -1] = mixed_N @ self.length_N
        return whole_PP[self.free, self.free]

    def _sums(self, weight_N: Floats, group_N: Codes, num_groups: int) -> Floats:
        """Weighted sums of x_P of what is free, by group (G, P)."""
        width = len(self.rows.systems) + 1
        whole_GP = np.zeros(num_groups * width)
        for sign, end_N in zip((1, -1), self.rows.ends_N2.T, strict=True):
            whole_GP += sign * np.bincount(group_N * width + end_N, weight_N, len(whole_GP))
        whole_GP += np.bincount(group_N * width + width - 1, weight_N * self.length_N, len(whole_GP))
        return whole_GP.reshape(num_groups, width)[:, self.free]

    def _variance(self, covariance_PP: Floats) -> Floats:
        """x_P' covariance x_P of each pair."""
        whole_PP = np.zeros((len(self.rows.systems) + 1,) * 2)
        whole_PP[self.free, self.free] = covariance_PP
        own_P, gamma_P = np.diagonal(whole_PP), whole_PP[-1]
        one_C, other_C = self.rows.cells_C2.T
        of_cell_C = own_P[one_C] + own_P[other_C] - 2 * whole_PP[one_C, other_C]
        mixed_C = 2 * (gamma_P[one_C] - gamma_P[other_C])
        cell_N = self.rows.cell_N
        return np.asarray(of_cell_C[cell_N] + self.length_N * mixed_C[cell_N] + self.length_N**2 * own_P[-1])


def _laplacian(rows: Scored, weight_C: npt.NDArray[Any]) -> Floats:
    """(S, S): the sum over pairs of systems of weight * x x', x 1 for the first system and -1 for the second."""
    one_C, other_C = rows.cells_C2.T
    found_SS = np.zeros((len(rows.systems),) * 2)
    found_SS[one_C, other_C] = found_SS[other_C, one_C] = -weight_C
    np.fill_diagonal(found_SS, -found_SS.sum(axis=1))
    return found_SS


def _reach(rows: Scored, down_N: Bools, up_N: Bools) -> Bools:
    """Whether a path leads from one system to the other (S, S), by pairs from the first to the second or back."""
    first_N, second_N = rows.ends_N2.T
    reach_SS = np.eye(len(rows.systems))
    reach_SS[first_N[down_N], second_N[down_N]] = reach_SS[second_N[up_N], first_N[up_N]] = 1
    for _ in range(max(1, len(rows.systems) - 1).bit_length()):  # each step doubles the length of the paths
        reach_SS = (reach_SS @ reach_SS > 0).astype(float)
    return reach_SS > 0


def _core(reach_SS: Bools) -> Bools:
    """The largest set of systems that all reach each other, the first one of several; all systems if that is one."""
    both_SS = reach_SS & reach_SS.T
    largest_S = both_SS[both_SS.sum(axis=1).argmax()]
    return largest_S if largest_S.sum() > 1 else np.ones_like(largest_S)


def _explains_all(rows: Scored, length_N: Floats) -> bool:
    """Whether some strengths and these length terms together are against no outcome, so that gamma has no upper end.

    Each outcome says that the difference of two strengths is at most a length. There are such strengths where these
    bounds have no cycle with a negative sum (Floyd and Warshall).
    """
    first_N, second_N = rows.ends_N2.T
    most_SS = np.full((len(rows.systems),) * 2, math.inf)
    np.fill_diagonal(most_SS, 0.0)
    won_N, lost_N = rows.outcome_N > 0, rows.outcome_N < 1
    np.minimum.at(most_SS, (second_N[won_N], first_N[won_N]), length_N[won_N])
    np.minimum.at(most_SS, (first_N[lost_N], second_N[lost_N]), -length_N[lost_N])
    for between in range(len(most_SS)):
        most_SS = np.minimum(most_SS, most_SS[:, [between]] + most_SS[[between], :])
    return bool((np.diagonal(most_SS) >= -ROUNDING).all())
