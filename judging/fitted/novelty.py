"""Feature vectors of the training rows -> how unlike them a new one is, from 0 (at their middle) to 1 (beyond all).

Legend: N rows, D features, K directions, M new rows, Q quantiles.
Mahalanobis distance: along the K directions in which the training rows vary most, each by its own variance, and the
rest together as one more direction. It is given as a quantile of the distances that training rows have to fits that
have not seen their group. It knows no models and no scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from judging.stats.bootstrap import Floats

MAX_DIRECTIONS = 32
ROWS_A_DIRECTION = 4  # fewer rows do not tell a direction's variance
NUM_QUANTILES = 201


class Novelty(NamedTuple):
    """`quantile_Q`: distances at evenly spaced shares of the training rows, the first 0 % and the last 100 %."""

    center_D: Floats
    direction_KD: Floats
    deviation_K: Floats
    rest_deviation: float
    quantile_Q: Floats

    def distance(self, features_MD: Floats) -> Floats:
        """Mahalanobis distance of each row, 0 and more."""
        offset_MD = np.asarray(features_MD, dtype=float) - self.center_D
        along_MK = offset_MD @ self.direction_KD.T
        rest_M = np.maximum((offset_MD**2).sum(axis=1) - (along_MK**2).sum(axis=1), 0)
        squared_M = ((along_MK / self.deviation_K) ** 2).sum(axis=1) + rest_M / self.rest_deviation**2
        return np.asarray(np.sqrt(squared_M))

    def share_below(self, features_MD: Floats) -> Floats:
        """The share of training rows that are nearer to the middle than each row, 0 to 1; 1: beyond all of them."""
        shares_Q = np.linspace(0, 1, len(self.quantile_Q))
        distance_M = self.distance(features_MD)
        # Where training rows are all alike, one more like them is not beyond them.
        return np.where(distance_M <= self.quantile_Q[0], 0.0, np.interp(distance_M, self.quantile_Q, shares_Q))


def measure(features_ND: Floats, folds: Sequence[npt.NDArray[np.intp]]) -> Novelty:
    """What is usual among the training rows.

    Args:
        features_ND: finite features of the training rows.
        folds: rows of each fold, whole groups; a row's own distance comes from a fit without its fold.
    """
    features_ND = np.asarray(features_ND, dtype=float)
    held_out_N = np.empty(len(features_ND))
    # As many directions in every fit: distances along more of them are longer.
    fewest = len(features_ND) - max(map(len, folds))
    num = max(1, min(MAX_DIRECTIONS, fewest // ROWS_A_DIRECTION, features_ND.shape[1]))
    for fold in folds:
        training = np.setdiff1d(np.arange(len(features_ND)), fold)
        held_out_N[fold] = _shape(features_ND[training], num).distance(features_ND[fold])
    quantile_Q = np.quantile(held_out_N, np.linspace(0, 1, NUM_QUANTILES))
    return _shape(features_ND, num)._replace(quantile_Q=quantile_Q)


def _shape(features_ND: Floats, num: int) -> Novelty:
    """Centre and spread of the rows along the `num` directions in which they vary most, and in the rest."""
    num_rows = len(features_ND)
    center_D = features_ND.mean(axis=0)
    offset_ND = features_ND - center_D
    _, singular, direction_KD = np.linalg.svd(offset_ND, full_matrices=False)
    tiny = max(1e-9 * float(singular[0]), 1e-12)
    deviation_K = np.maximum(singular[:num], tiny) / np.sqrt(num_rows)
    rest = np.sqrt(float((singular[num:] ** 2).sum()) / num_rows)
    return Novelty(center_D, direction_KD[:num], deviation_K, max(float(rest), float(deviation_K[-1])), np.zeros(2))
