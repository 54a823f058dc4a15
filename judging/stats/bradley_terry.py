"""Bradley-Terry strengths of systems from pairwise comparisons, plain and with the effect of length taken out.

Legend: N pairs, G groups, S systems, C pairs of systems, B resamples, U units (C plain, N with lengths), P parameters.
P(i beats j) = 1 / (1 + exp(-(theta_i - theta_j))), a tie half a win for both (Bradley and Terry 1952). With lengths the
exponent gains `gamma * tanh(d / s)`, d the difference of the lengths and s its root mean square over all pairs; the
length-controlled win rate is what the model predicts with d = 0. That is the length term of AlpacaEval 2 (Dubois et al.
2024, arXiv 2404.04475), with one gamma for all systems and without its term for the difficulty of an instruction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from judging.stats.bootstrap import Floats, Resample, weigh
from judging.stats.estimate import Estimate
from judging.stats.pairs import NUM_RESAMPLES, Comparisons, Scored, cell_sums, estimates, scored, sides, system_rates
from judging.stats.rows import Codes

# Parameters have a normal prior with a standard deviation of 10, so that a system that always wins stays finite.
PRECISION = 0.01
# Newton squares the error: after a step of 1e-6 it is about 1e-12.
MAX_STEPS, MAX_STEP, SMALLEST_STEP = 100, 2.0, 1e-6
SLICE_CELLS = 2_000_000


Bools = npt.NDArray[np.bool_]


class Strengths(NamedTuple):
    """Of each system: `strengths` in logits, 0 on average, higher is better; `controlled`: length-controlled win rates.

    `length_effect`: gamma in logits; above 0 the judge prefers the longer text. `apart`: the systems in sets that no
    comparison connects; with more than one there are no strengths, as they could not be compared.
    """

    strengths: dict[str, Estimate]
    controlled: dict[str, Estimate]
    length_effect: Estimate | None
    apart: list[list[str]]


def bradley_terry(comparisons: Comparisons, *, resamples: int = NUM_RESAMPLES, seed: int = 0) -> Strengths:
    """The systems' strengths with intervals from a bootstrap over groups; n: pairs.

    A resample in which the comparisons do not connect all systems is left out, and counted in `dropped_share`.

    Args:
        comparisons: the pairs.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    rows = scored(comparisons)
    apart = [[rows.systems[number] for number in one] for one in components(rows)]
    if len(apart) != 1:
        return Strengths({}, {}, None, apart)
    by_system_CS = sides(rows)
    n_S = abs(by_system_CS).T @ np.bincount(rows.cell_N, minlength=len(rows.cells_C2))
    settings = {"resamples": resamples, "seed": seed}
    plain = estimates(_plain(rows, by_system_CS), list(n_S), rows, **settings)
    found = estimates(_controlled(rows, by_system_CS), [*n_S, len(rows.cell_N)], rows, **settings)
    return Strengths(
        dict(zip(rows.systems, plain, strict=True)), dict(zip(rows.systems, found[:-1], strict=True)), found[-1], apart
    )


def components(rows: Scored) -> list[list[int]]:
    """The systems in sets that comparisons connect, each sorted, the set with the first system first."""
    reach_SS = _reach(np.ones((1, len(rows.cells_C2))), rows)[0]
    sets = {tuple(map(int, np.flatnonzero(row_S))) for row_S in reach_SS}
    return sorted(map(list, sets))


def _plain(rows: Scored, by_system_CS: Floats) -> Resample:
    """theta_BS: the pairs of each pair of systems are counted once, so that resamples do not touch them."""
    count_GC, wins_GC = cell_sums(rows, np.ones_like(rows.outcome_N)), cell_sums(rows, rows.outcome_N)
    cell_U, nothing_U = np.arange(len(rows.cells_C2)), np.zeros(len(rows.cells_C2))
    design = _Design(cell_U, nothing_U, by_system_CS)
    start_P = _fitted(design, count_GC.sum(axis=0)[None], wins_GC.sum(axis=0)[None], None)[0]

    def resample(weights_BG: Floats) -> Floats:
        count_BC = weigh(weights_BG, count_GC)
        theta_BS = _fitted(design, count_BC, weigh(weights_BG, wins_GC), start_P)[:, :-1]
        return np.where(_is_connected(count_BC, rows)[:, None], theta_BS, np.nan)

    return resample


def _controlled(rows: Scored, by_system_CS: Floats) -> Resample:
    """(B, S + 1): the length-controlled win rates and gamma."""
    count_GC = cell_sums(rows, np.ones_like(rows.outcome_N))
    spread = float(np.sqrt(np.mean(rows.longer_N**2)))
    design = _Design(rows.cell_N, np.tanh(rows.longer_N / (spread or 1.0)), by_system_CS)
    start_P = _fitted(design, np.ones((1, len(rows.cell_N))), rows.outcome_N[None], None)[0]

    def some(weights_BG: Floats) -> Floats:
        weights_BN = weights_BG[:, rows.group_N]
        found_BP = _fitted(design, weights_BN, weights_BN * rows.outcome_N, start_P)
        count_BC = weigh(weights_BG, count_GC)
        predicted_BC = expit(found_BP[:, :-1] @ by_system_CS.T)
        rates_BS = system_rates(count_BC * predicted_BC, count_BC, by_system_CS)
        whole_BP = np.column_stack([rates_BS, found_BP[:, -1]])
        return np.where(_is_connected(count_BC, rows)[:, None], whole_BP, np.nan)

    def resample(weights_BG: Floats) -> Floats:
        step = max(1, SLICE_CELLS // max(len(rows.cell_N), 1))
        return np.concatenate([some(weights_BG[start : start + step]) for start in range(0, len(weights_BG), step)])

    return resample


class _Design(NamedTuple):
    """The units' pairs of systems, sorted, their length term, and the systems of each pair of systems."""

    cell_U: Codes
    length_U: Floats
    sides_CS: Floats


def _fitted(design: _Design, weight_BU: Floats, wins_BU: Floats, start_P: Floats | None) -> Floats:
    """The parameters (B, S + 1; the last is gamma) with the highest posterior density, by Newton's method.

    The density is concave; steps are limited, as a full one can leave the region where it curves. Without a length term
    gamma stays 0.
    """
    cell_U, length_U, sides_CS = design
    num_systems = sides_CS.shape[1]
    starts_C = np.searchsorted(cell_U, np.arange(len(sides_CS)))
    found_BP = np.zeros((len(weight_BU), num_systems + 1))
    if start_P is not None:
        found_BP += start_P
    for _ in range(MAX_STEPS):
        logit_BU = (found_BP[:, :-1] @ sides_CS.T)[:, cell_U] + found_BP[:, -1:] * length_U
        chance_BU = expit(logit_BU)
        rest_BU, curve_BU = wins_BU - weight_BU * chance_BU, weight_BU * chance_BU * (1 - chance_BU)
        gradient_BP = -PRECISION * found_BP
        gradient_BP[:, :-1] += np.add.reduceat(rest_BU, starts_C, axis=1) @ sides_CS
        gradient_BP[:, -1] += rest_BU @ length_U
        curve_BPP = np.zeros((len(weight_BU), num_systems + 1, num_systems + 1))
        curve_BC = np.add.reduceat(curve_BU, starts_C, axis=1)
        curve_BPP[:, :-1, :-1] = (sides_CS.T * curve_BC[:, None, :]) @ sides_CS
        mixed_BS = np.add.reduceat(curve_BU * length_U, starts_C, axis=1) @ sides_CS
        curve_BPP[:, :-1, -1] = curve_BPP[:, -1, :-1] = mixed_BS
        curve_BPP[:, -1, -1] = curve_BU @ length_U**2
        curve_BPP += PRECISION * np.eye(num_systems + 1)
        step_BP = np.linalg.solve(curve_BPP, gradient_BP[:, :, None])[:, :, 0]
        largest_B = np.abs(step_BP).max(axis=1)
        found_BP += step_BP * (MAX_STEP / np.maximum(largest_B, MAX_STEP))[:, None]
        if largest_B.max() < SMALLEST_STEP:
            break
    return found_BP


def _is_connected(count_BC: Floats, rows: Scored) -> Bools:
    """Whether the comparisons connect all systems, by resample."""
    return np.asarray(_reach(count_BC, rows).all(axis=(1, 2)))


def _reach(count_BC: Floats, rows: Scored) -> Bools:
    """(B, S, S): whether comparisons lead from one system to the other."""
    num_systems = len(rows.systems)
    reach_BSS = np.zeros((len(count_BC), num_systems, num_systems))
    one_C, other_C = rows.cells_C2[:, 0], rows.cells_C2[:, 1]
    reach_BSS[:, one_C, other_C] = reach_BSS[:, other_C, one_C] = count_BC > 0
    reach_BSS[:, range(num_systems), range(num_systems)] = 1
    for _ in range(max(1, num_systems - 1).bit_length()):  # each step doubles the length of the paths
        reach_BSS = (reach_BSS @ reach_BSS > 0).astype(float)
    return reach_BSS > 0
