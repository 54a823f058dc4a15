"""Held-out residuals by group -> how far a score may lie from what people would give.

Legend: N rows, G groups.
Hierarchical conformal prediction (Lee, Barber and Willett 2023): a new text comes from a new group, so each group of
the residuals counts as much as any other, and one more group, never seen, counts as well. It knows no models.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from judging.records import Scale
from judging.stats.bootstrap import Floats


def half_width(residual_N: Floats, group_N: npt.NDArray[np.intp], level: float) -> float:
    """The distance within which people's score lies with probability `level`, for a text of a new group.

    The smallest q such that the groups' mean shares of residuals within q, times G / (G + 1), reach the level.
    Infinite where there are too few groups for the level: G < level / (1 - level). Exact for residuals of a model that
    saw none of these groups; with cross-validated residuals of a model that is then fitted to all of them, approximate.

    Args:
        residual_N: people's score minus the held-out score, finite, in points of the scale.
        group_N: the group of each row.
        level: between 0 and 1.
    """
    distance_N = np.abs(np.asarray(residual_N, dtype=float))
    _, code_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    weight_N = 1 / (size_G[code_N] * (len(size_G) + 1))
    order = np.argsort(distance_N, kind="stable")
    reached = np.cumsum(weight_N[order]) >= level - 1e-12
    return float(distance_N[order][int(np.argmax(reached))]) if reached.any() else math.inf


def interval(score: float, half: float, scale: Scale) -> tuple[float, float]:
    """The score, more or less `half`, cut at the ends of the scale."""
    return max(scale.low, score - half), min(scale.high, score + half)
