"""Feature vectors and people's scores -> a ridge regression whose depth and penalty are chosen over groups.

Legend: N rows, D features, L depths (feature sets of the same rows), P penalties, M new rows.
A judge's hidden state holds more than its answer says; a linear map reads it (arXiv 2503.17755, 2601.22588). It knows
no models, no prompts and no files. Groups are never divided between training and held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from judging.stats.bootstrap import Floats

Codes = npt.NDArray[np.intp]

MAX_FOLDS = 10
# As multiples of D, the mean eigenvalue of the Gram matrix of standardised features: free of D and of N.
PENALTIES = tuple(float(10**power) for power in np.arange(-2, 2.01, 0.5))
# A feature that varies by less than this share of the largest spread is constant.
CONSTANT_SHARE = 1e-6


class Linear(NamedTuple):
    """score = bias + features @ weight_D, in the units of the scores that it was fitted to."""

    weight_D: Floats
    bias: float

    def predict(self, features_MD: Floats) -> Floats:
        return np.asarray(features_MD, dtype=float) @ self.weight_D + self.bias


class Choice(NamedTuple):
    """What cross-validation chose: place among the depths, and the penalty as a multiple of D."""

    depth: int
    penalty: float


class CrossValidated(NamedTuple):
    """`choice` for all rows, and `score_N`: the score of each row by a fit that has not seen its group.

    In `score_N` depth and penalty are chosen anew within each fold's training groups (nested), so that an agreement
    stated of it is not flattered by the choice. `fold_choices`: what each fold chose.
    """

    choice: Choice
    score_N: Floats
    fold_choices: tuple[Choice, ...]


def fit(features_ND: Floats, score_N: Floats, penalty: float) -> Linear:
    """The ridge regression of the scores on standardised features, with an unpenalised bias.

    Args:
        features_ND: a row of finite features each; constant features get weight 0.
        score_N: finite scores, in any unit.
        penalty: multiple of the number of features that vary; positive.
    """
    center_D, scale_D, z_ND = _standardised(features_ND)
    mean = float(score_N.mean())
    [alpha_N] = _duals(z_ND @ z_ND.T, score_N - mean, [penalty * _num_varying(scale_D)])
    weight_D = (z_ND.T @ alpha_N) / scale_D
    return Linear(weight_D, mean - float(center_D @ weight_D))


def cross_validate(
    depths_LND: Sequence[Floats],
    score_N: Floats,
    group_N: Codes,
    *,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> CrossValidated:
    """Choose depth and penalty over groups, and score every row by a fit that knows nothing of its group.

    The choice is the pair whose held-out scores correlate best with people's (`within_group_correlation`).

    Args:
        depths_LND: one array (N, D) for each depth; the rows are the same.
        score_N: people's scores, finite, not all the same.
        group_N: the group of each row, 0 to G - 1; at least 3 groups.
        penalties: what to choose from, as multiples of D.
        seed: draws the folds.
    """
    depths = [np.asarray(features_ND, dtype=float) for features_ND in depths_LND]
    everything = np.arange(len(score_N))
    choice = _choose(depths, score_N, group_N, everything, penalties, seed)
    held_out_N = np.full(len(score_N), math.nan)
    chosen = []
    for number, fold in enumerate(folds(group_N, seed)):
        training = np.setdiff1d(everything, fold)
        one = _choose(depths, score_N, group_N, training, penalties, seed + 1 + number)
        fitted = fit(depths[one.depth][training], score_N[training], one.penalty)
        held_out_N[fold] = fitted.predict(depths[one.depth][fold])
        chosen.append(one)
    return CrossValidated(choice, held_out_N, tuple(chosen))


def folds(group_N: Codes, seed: int) -> list[Codes]:
    """Rows of each fold: whole groups, drawn by the seed, as even in number of groups as can be."""
    groups = np.unique(group_N)
    order = np.random.default_rng((seed, len(groups))).permutation(groups)
    parts = np.array_split(order, min(MAX_FOLDS, len(groups)))
    return [np.flatnonzero(np.isin(group_N, part)) for part in parts]


def within_group_correlation(score_N: Floats, predicted_N: Floats, group_N: Codes) -> float:
    """Pearson's r of the two after each group's mean is taken away, -1 to 1.

    Over all rows where no group has two different scores, as with groups of one row. NaN where one of them is constant:
    predictions that tell groups apart, but no rows of a group, have no correlation within groups.
    """
    one, other = _centred(score_N, group_N), _centred(predicted_N, group_N)
    if _is_flat(one, score_N):
        one, other = score_N - score_N.mean(), predicted_N - predicted_N.mean()
    if _is_flat(one, score_N) or _is_flat(other, predicted_N):
        return math.nan
    return float(one @ other) / math.sqrt(float(one @ one) * float(other @ other))


def _is_flat(centred_N: Floats, value_N: Floats) -> bool:
    """Whether what is left of the values is rounding alone."""
    return float(centred_N @ centred_N) <= 1e-18 * max(float(value_N @ value_N), 1e-300)


def _choose(
    depths: Sequence[Floats], score_N: Floats, group_N: Codes, rows: Codes, penalties: Sequence[float], seed: int
) -> Choice:
    """The best pair by the held-out scores of `rows` alone. Of equal ones the lower depth, the higher penalty."""
    best, best_value = Choice(0, max(penalties)), -math.inf
    for depth, features_ND in enumerate(depths):
        held_out_PN = np.empty((len(penalties), len(rows)))
        for fold in folds(group_N[rows], seed):
            training = np.setdiff1d(np.arange(len(rows)), fold)
            held_out_PN[:, fold] = _path(
                features_ND[rows[training]], score_N[rows[training]], features_ND[rows[fold]], penalties
            )
        for penalty, predicted_N in sorted(zip(penalties, held_out_PN, strict=True), key=lambda pair: -pair[0]):
            value = within_group_correlation(score_N[rows], predicted_N, group_N[rows])
            if value > best_value + 1e-12:
                best, best_value = Choice(depth, float(penalty)), value
    return best


def _path(features_ND: Floats, score_N: Floats, new_MD: Floats, penalties: Sequence[float]) -> Floats:
    """Predictions (P, M) for new rows under every penalty, from one eigendecomposition."""
    center_D, scale_D, z_ND = _standardised(features_ND)
    mean = float(score_N.mean())
    alphas_PN = _duals(z_ND @ z_ND.T, score_N - mean, [one * _num_varying(scale_D) for one in penalties])
    cross_MN = ((new_MD - center_D) / scale_D) @ z_ND.T
    return mean + np.stack([cross_MN @ alpha_N for alpha_N in alphas_PN])


def _standardised(features_ND: Floats) -> tuple[Floats, Floats, Floats]:
    """Centre, scale (infinite where constant, so that such a feature counts nothing) and standardised features."""
    features_ND = np.asarray(features_ND, dtype=float)
    center_D, spread_D = features_ND.mean(axis=0), features_ND.std(axis=0)
    scale_D = np.where(spread_D > CONSTANT_SHARE * max(float(spread_D.max()), 1e-300), spread_D, math.inf)
    return center_D, scale_D, (features_ND - center_D) / scale_D


def _num_varying(scale_D: Floats) -> int:
    return max(1, int(np.isfinite(scale_D).sum()))


def _duals(gram_NN: Floats, centred_N: Floats, penalties: Sequence[float]) -> list[Floats]:
    """(K + penalty I)^-1 y for every penalty."""
    value_N, vector_NN = np.linalg.eigh(gram_NN)
    projected_N = vector_NN.T @ centred_N
    return [vector_NN @ (projected_N / (np.maximum(value_N, 0) + penalty)) for penalty in penalties]


def _centred(value_N: Floats, group_N: Codes) -> Floats:
    _, code_N = np.unique(group_N, return_inverse=True)
    mean_G = np.bincount(code_N, value_N) / np.bincount(code_N)
    return np.asarray(value_N - mean_G[code_N])
