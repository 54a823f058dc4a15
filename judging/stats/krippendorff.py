"""Krippendorff's alpha of ratings of units by raters (NaN: not rated).

Legend: U units, R raters, P pairable values (all ratings of units that have at least two). It knows no files.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Metric = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(ratings_UR: npt.ArrayLike, metric: Metric = "interval") -> float:
    """Agreement of raters beyond chance: 1 - observed disagreement / disagreement expected by chance.

    1: raters agree on every unit; 0: no better than chance; below 0: worse than chance (no lower bound of -1 in
    general). NaN: no unit has two ratings, or all pairable ratings are equal. Units with one rating are left out.
    Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011. Its ordinal distance of two values is
    the distance of their midranks among all pairable values, so ordinal alpha is interval alpha of the midranks.
    """
    ratings_UR = np.asarray(ratings_UR, float)
    if ratings_UR.ndim != 2:
        raise ValueError(f"ratings must have the shape (units, raters), not {ratings_UR.shape}")
    if metric not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"the metric must be one of nominal, ordinal, interval, not {metric!r}")
    known_UR = ~np.isnan(ratings_UR)
    known_UR &= known_UR.sum(axis=1, keepdims=True) >= 2
    unit_P, values_P = np.nonzero(known_UR)[0], ratings_UR[known_UR]
    if len(values_P) == 0 or values_P.min() == values_P.max():
        return float("nan")
    if metric == "nominal":
        return _nominal(unit_P, values_P)
    if metric == "ordinal":
        _, code_P, counts_V = np.unique(values_P, return_inverse=True, return_counts=True)
        values_P = (np.cumsum(counts_V) - counts_V / 2)[code_P]
    return _interval(unit_P, values_P)


def _interval(unit_P: npt.NDArray[np.intp], values_P: npt.NDArray[np.float64]) -> float:
    # The sum of (a - b)^2 over all ordered pairs of m values is 2 m sum(a^2) - 2 sum(a)^2; a shift changes nothing.
    values_P = (values_P - values_P.mean()) / np.abs(values_P - values_P.mean()).max()
    size_U, sum_U = np.bincount(unit_P), np.bincount(unit_P, weights=values_P)
    squares_U = np.bincount(unit_P, weights=values_P**2)
    within_U = (2 * size_U * squares_U - 2 * sum_U**2) / np.maximum(size_U - 1, 1)
    total = len(values_P)
    observed = within_U.sum() / total
    expected = (2 * total * squares_U.sum() - 2 * sum_U.sum() ** 2) / (total * (total - 1))
    return float(1 - observed / expected)


def _nominal(unit_P: npt.NDArray[np.intp], values_P: npt.NDArray[np.float64]) -> float:
    # Ordered pairs of unequal values among m values: m^2 minus the squared count of each value.
    _, code_P, counts_V = np.unique(values_P, return_inverse=True, return_counts=True)
    size_U = np.bincount(unit_P)
    cells, counts_Q = np.unique(unit_P * len(counts_V) + code_P, return_counts=True)
    same_U = np.bincount(cells // len(counts_V), weights=counts_Q.astype(float) ** 2, minlength=len(size_U))
    within_U = (size_U.astype(float) ** 2 - same_U) / np.maximum(size_U - 1, 1)
    total = len(values_P)
    expected = (float(total) ** 2 - (counts_V.astype(float) ** 2).sum()) / (total * (total - 1))
    return float(1 - within_U.sum() / total / expected)
