"""Feature vectors and people's scores -> a ridge regression whose depth and penalty are chosen over groups.

Legend: N rows, D features, L depths (feature sets of the same rows), P penalties, M new rows, T targets.
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


class Target(NamedTuple):
    """What one regression learns. `depths_LND`: one array (N, D) of finite features for each depth, of the same rows.

    `score_N`: people's scores, finite. `group_N`: the group of each row; targets that are cross-validated together
    share their numbers of groups.
    """

    depths_LND: Sequence[Floats]
    score_N: Floats
    group_N: Codes

    def rows(self, keep_N: npt.NDArray[np.bool_]) -> Target:
        """The target with these rows only."""
        depths = [np.asarray(features_ND, dtype=float)[keep_N] for features_ND in self.depths_LND]
        return Target(depths, self.score_N[keep_N], self.group_N[keep_N])


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
    targets: Sequence[Target], *, penalties: Sequence[float] = PENALTIES, seed: int = 0
) -> list[CrossValidated]:
    """Choose one depth for all targets and a penalty for each over groups; score every row by a fit without its group.

    The choice has the best correlation of held-out scores with people's (`within_group_correlation`), in the mean over
    targets.

    Args:
        targets: what to learn from the same depths, each with scores that are not all the same.
        penalties: what to choose from, as multiples of D.
        seed: draws the folds.
    """
    choices = choose(targets, penalties, seed)
    held_out = [np.full(len(target.score_N), math.nan) for target in targets]
    fold_choices: list[list[Choice]] = [[] for _ in targets]
    for number, fold in enumerate(group_folds(_groups(targets), seed)):
        out = [np.isin(target.group_N, fold) for target in targets]
        training = [target.rows(~out_N) for target, out_N in zip(targets, out, strict=True)]
        for place, one in enumerate(choose(training, penalties, seed + 1 + number)):
            known, out_N = training[place], out[place]
            fitted = fit(known.depths_LND[one.depth], known.score_N, one.penalty)
            held_out[place][out_N] = fitted.predict(np.asarray(targets[place].depths_LND[one.depth])[out_N])
            fold_choices[place].append(one)
    return [CrossValidated(*found) for found in zip(choices, held_out, map(tuple, fold_choices), strict=True)]


def group_folds(groups: Codes, seed: int) -> list[Codes]:
    """The distinct groups in at most `MAX_FOLDS` parts, drawn by the seed, as even as can be."""
    order = np.random.default_rng((seed, len(groups))).permutation(groups)
    return np.array_split(order, min(MAX_FOLDS, len(groups)))


def folds(group_N: Codes, seed: int) -> list[Codes]:
    """Rows of each fold: whole groups."""
    return [np.flatnonzero(np.isin(group_N, part)) for part in group_folds(np.unique(group_N), seed)]


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


def _groups(targets: Sequence[Target]) -> Codes:
    return np.unique(np.concatenate([target.group_N for target in targets]))


def choose(targets: Sequence[Target], penalties: Sequence[float], seed: int) -> list[Choice]:
    """The best depth for all and the best penalty of each target by `within_group_correlation` of held-out scores.

    Of equal ones the lower depth and the higher penalty.

    Args:
        targets: see `cross_validate`.
        penalties: see there.
        seed: draws the folds.
    """
    descending = sorted(penalties, reverse=True)
    parts = group_folds(_groups(targets), seed)
    values_TLP = np.array([_correlations(target, parts, descending) for target in targets])
    depth = _first_best(values_TLP.max(axis=2).mean(axis=0))
    return [Choice(depth, float(descending[_first_best(values_LP[depth])])) for values_LP in values_TLP]


def _first_best(values: Floats) -> int:
    """The first place whose value no other exceeds by more than rounding."""
    return int(np.argmax(values >= values.max() - 1e-12))


def _correlations(target: Target, parts: Sequence[Codes], penalties: Sequence[float]) -> Floats:
    """Correlation of held-out scores with people's (L, P) for each depth and penalty; -1 where there is none."""
    values_LP = np.full((len(target.depths_LND), len(penalties)), -1.0)
    for depth, features_ND in enumerate(target.depths_LND):
        held_out_PN = np.full((len(penalties), len(target.score_N)), math.nan)
        for part in parts:
            out_N = np.isin(target.group_N, part)
            if out_N.any() and not out_N.all():
                held_out_PN[:, out_N] = _path(
                    features_ND[~out_N], target.score_N[~out_N], features_ND[out_N], penalties
                )
        for place, predicted_N in enumerate(held_out_PN):
            value = within_group_correlation(target.score_N, predicted_N, target.group_N)
            if not math.isnan(value):
                values_LP[depth, place] = value
    return values_LP


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
