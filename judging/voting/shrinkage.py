"""Weights of judges by least squares with shrinkage towards equal weights; its strength is cross-validated.

Legend: R rows, U judges, F folds, S strengths. Only sums of products over rows are needed, so that a fold is left out
by adding up the others. It knows no calibrations and no names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from judging.stats.bootstrap import Floats
from judging.voting.stacked_vote import Method

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)  # relative to the mean variance of the scores


class Shrunk(NamedTuple):
    """The weights (U,), and the strength of their shrinkage towards 1 / U (infinity: they are equal)."""

    weights_U: Floats
    strength: float


class Moments(NamedTuple):
    """Sums over rows of products of scores and label, all minus a common centre."""

    scores_UU: Floats
    label_U: Floats
    label_label: float
    num_rows: int

    def mean_error(self, weights_U: Floats) -> float:
        """Mean squared error of the weights on these rows."""
        total = self.label_label - 2 * self.label_U @ weights_U + weights_U @ self.scores_UU @ weights_U
        return float(total) / self.num_rows


def moments(away_RU: Floats, label_R: Floats) -> Moments:
    """From complete rows of scores and labels, both minus the centre."""
    return Moments(away_RU.T @ away_RU, away_RU.T @ label_R, float(label_R @ label_R), len(label_R))


def shrunk_weights(parts: Sequence[Moments], method: Method) -> Shrunk:
    """Weights from all folds (`parts`); equal weights where there are fewer than two.

    The strength is the strongest whose error on held-out folds is within one standard error of the best, paired over
    folds (Breiman et al. 1984).
    """
    if len(parts) < 2:
        size = len(parts[0].label_U)
        return Shrunk(np.full(size, 1 / size), np.inf)
    error_FS = np.array([_errors(part, [other for other in parts if other is not part], method) for part in parts])
    best = int(error_FS.mean(axis=0).argmin())
    worse_FS = error_FS - error_FS[:, [best]]
    allowed_S = worse_FS.std(axis=0, ddof=1) / np.sqrt(len(parts))
    strength = STRENGTHS[max(np.flatnonzero(worse_FS.mean(axis=0) <= allowed_S))]
    return Shrunk(weights(_sum(parts), strength, method), strength)


def weights(known: Moments, strength: float, method: Method) -> Floats:
    """argmin over w of the squared error + strength * mean variance of the scores * |w - 1/U|^2 (times the rows).

    Args:
        known: the sums over the rows.
        strength: of the shrinkage; infinity: equal weights.
        method: `nnls` for weights of at least 0, or `ridge`.
    """
    size = len(known.label_U)
    equal_U = np.full(size, 1 / size)
    unit = np.trace(known.scores_UU) / size
    if np.isinf(strength) or unit <= 0:
        return equal_U
    matrix_UU = known.scores_UU + strength * unit * np.eye(size)
    right_U = known.label_U + strength * unit * equal_U
    if method == "ridge":
        solved_U: Floats = np.linalg.solve(matrix_UU, right_U)
        return solved_U
    from scipy.optimize import nnls

    # |L'w - L^-1 r|^2 is the same quadratic form as w'Mw - 2 r'w, with M = L L'.
    root_UU = np.linalg.cholesky(matrix_UU)
    found_U: Floats = nnls(root_UU.T, np.linalg.solve(root_UU, right_U))[0]
    return found_U if found_U.any() else equal_U


def _errors(left_out: Moments, rest: Sequence[Moments], method: Method) -> list[float]:
    known = _sum(rest)
    return [left_out.mean_error(weights(known, strength, method)) for strength in STRENGTHS]


def _sum(parts: Sequence[Moments]) -> Moments:
    return Moments(
        np.sum([part.scores_UU for part in parts], axis=0),
        np.sum([part.label_U for part in parts], axis=0),
        sum(part.label_label for part in parts),
        sum(part.num_rows for part in parts),
    )
