"""Calibration of one judge: a monotone map from its score to the expected human label, fitted on labelled rows.

Legend: N rows, B bins of scores. A calibration is a list of knots with linear interpolation, so that it can be saved as
JSON. It knows no groups, files or other judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from judging.records import Scale
from judging.stats.bootstrap import Floats

MAX_BINS = 64  # a finer map would fit noise
MIN_LABELS = 10  # with fewer labels the scores are not changed
ISOTONIC_AT = 200  # number of labels at which the isotonic steps count as much as the straight line
CONSTANT = "all its scores are equal"
FALLING = "its scores do not increase with the human scores"
# A line that rises by less than this share of the scale over the judge's scores counts as not increasing.
FLAT_SHARE = 1e-9


class Calibration(BaseModel):
    """A non-decreasing map of scores, linear between `knots` (score, calibrated) and constant outside of them.

    `kind`: `isotonic` (fitted), `identity` (too few labels to fit), or `flat`: the judge has no information about the
    human scores, every score becomes their mean, and `note` holds the reason. `num_rows`: labelled scores used to fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["isotonic", "identity", "flat"]
    num_rows: int = Field(ge=0)
    knots: tuple[tuple[FiniteFloat, FiniteFloat], ...] = Field(min_length=1)
    note: str | None = None

    @model_validator(mode="after")
    def _rises(self) -> Calibration:
        for (score, value), (next_score, next_value) in pairwise(self.knots):
            if next_score <= score or next_value < value:
                raise ValueError(f"knots: must not decrease after ({score:g}, {value:g})")
        return self

    def apply(self, scores: Sequence[float | None] | Floats) -> Floats:
        """Calibrated scores (N,) on the scale of the labels; None and NaN stay NaN.

        Raises ValueError for an infinite score.
        """
        score_N = _floats(scores)
        knots_K2 = np.array(self.knots)
        value_N = np.interp(score_N, knots_K2[:, 0], knots_K2[:, 1])
        return np.where(np.isnan(score_N), np.nan, value_N)


class Bins(NamedTuple):
    """Scores in at most `MAX_BINS` bins: `bin_N` of each row (-1: unscored), mean `score_B` of each bin."""

    bin_N: npt.NDArray[np.intp]
    score_B: Floats


def calibrate(
    scores: Sequence[float | None] | Floats, labels: Sequence[float | None] | Floats, scale: Scale
) -> Calibration:
    """The calibration of one judge for one task, aspect and scale.

    Isotonic regression (Zadrozny and Elkan 2002) of the labels on the scores, mixed with the least squares line: with
    n labels the steps have the weight n / (n + `ISOTONIC_AT`), so that few labels make no steps and no score is tied
    to a lower one. Fewer than `MIN_LABELS`: identity. A line that does not increase, or a single score: flat.

    Args:
        scores: the judge's scores (N,); None or NaN: unscored, the row is excluded.
        labels: human scores (N,); None or NaN: the row is excluded.
        scale: of both.

    Raises:
        ValueError: for infinite numbers and labels off the scale.
    """
    score_N, label_N = _floats(scores), _floats(labels)
    if len(score_N) != len(label_N):
        raise ValueError(f"scores and labels have different lengths: {len(score_N)} and {len(label_N)}")
    check_labels(label_N, scale)
    bins = bin_scores(np.where(np.isnan(label_N), np.nan, score_N))
    kept_N = bins.bin_N >= 0
    count_B, label_B = (
        np.bincount(bins.bin_N[kept_N], weights=weights_N, minlength=len(bins.score_B)).astype(float)
        for weights_N in (None, label_N[kept_N])
    )
    return fit_bins(bins.score_B, count_B, label_B, scale)


def _floats(column: Sequence[float | None] | Floats) -> Floats:
    """None as NaN; ValueError for an infinite number."""
    values_N = np.asarray(column, dtype=float)
    if np.isinf(values_N).any():
        raise ValueError("scores and labels must be finite numbers")
    return values_N


def check_labels(label_N: Floats, scale: Scale) -> None:
    """Raises ValueError where a label lies outside the scale; NaN is a missing label."""
    slack = 1e-9 * scale.width  # rounding of labels rescaled from another scale
    off_N = (label_N < scale.low - slack) | (label_N > scale.high + slack)
    if off_N.any():
        raise ValueError(f"the label {label_N[off_N][0]:g} lies outside the scale {scale}")


def bin_scores(score_N: Floats) -> Bins:
    """One bin per distinct score, or bins of about equal size where there are more than `MAX_BINS`."""
    known_N = ~np.isnan(score_N)
    bin_N = np.full(len(score_N), -1, dtype=np.intp)
    distinct_B, code_N = np.unique(score_N[known_N], return_inverse=True)
    if len(distinct_B) <= MAX_BINS:
        bin_N[known_N] = code_N
        return Bins(bin_N, distinct_B)
    # "lower": every edge is an existing score, so that no bin but the first can be empty.
    edges = np.unique(np.quantile(score_N[known_N], np.arange(1, MAX_BINS) / MAX_BINS, method="lower"))
    edges = edges[edges > distinct_B[0]]
    bin_N[known_N] = np.searchsorted(edges, score_N[known_N], side="right")
    count_B, sum_B = (np.bincount(bin_N[known_N], weights=w) for w in (None, score_N[known_N]))
    return Bins(bin_N, sum_B / count_B)


def fit_bins(score_B: Floats, count_B: Floats, label_B: Floats, scale: Scale) -> Calibration:
    """The calibration from sums per bin; those of parts of the data add up, so that a fold is left out cheaply.

    Args:
        score_B: mean score of each bin.
        count_B: number of labels; bins without one are ignored.
        label_B: sum of the labels.
        scale: of scores and labels.
    """
    kept_B = count_B > 0
    score_B, count_B, label_B = score_B[kept_B], count_B[kept_B], label_B[kept_B]
    num_rows = round(count_B.sum())
    if num_rows < MIN_LABELS:
        return identity(scale, num_rows)
    mean_score, mean_label = float(np.average(score_B, weights=count_B)), float(label_B.sum() / num_rows)
    if len(score_B) == 1:
        return _flat(mean_score, mean_label, num_rows, CONSTANT, scale)
    away_B = score_B - mean_score
    slope = (away_B * (label_B - count_B * mean_label)).sum() / (count_B * away_B**2).sum()
    if slope * (score_B[-1] - score_B[0]) <= FLAT_SHARE * scale.width:
        return _flat(mean_score, mean_label, num_rows, FALLING, scale)
    from scipy.optimize import isotonic_regression

    steps_B = isotonic_regression(label_B / count_B, weights=count_B).x
    # The ends of the scale become knots too: beyond the outer bins the line still orders the scores.
    at_K, steps_K = score_B, steps_B
    if scale.low < score_B[0]:
        at_K, steps_K = np.concatenate([[scale.low], at_K]), np.concatenate([steps_B[:1], steps_K])
    if scale.high > score_B[-1]:
        at_K, steps_K = np.concatenate([at_K, [scale.high]]), np.concatenate([steps_K, steps_B[-1:]])
    share = num_rows / (num_rows + ISOTONIC_AT)
    value_K = share * steps_K + (1 - share) * (mean_label + slope * (at_K - mean_score))
    # maximum.accumulate: rounding alone can make a step fall by the last digit.
    value_K = np.maximum.accumulate(np.clip(value_K, scale.low, scale.high))
    knots = tuple(zip(at_K.tolist(), value_K.tolist(), strict=True))
    return Calibration(kind="isotonic", num_rows=num_rows, knots=knots)


def identity(scale: Scale, num_rows: int) -> Calibration:
    """The scores unchanged, clipped to the scale."""
    ends = ((scale.low, scale.low), (scale.high, scale.high))
    note = f"too few labels to calibrate: {num_rows} of at least {MIN_LABELS}"
    return Calibration(kind="identity", num_rows=num_rows, knots=ends, note=note if num_rows < MIN_LABELS else None)


def _flat(score: float, label: float, num_rows: int, why: str, scale: Scale) -> Calibration:
    value = min(max(float(label), scale.low), scale.high)
    return Calibration(kind="flat", num_rows=num_rows, knots=((float(score), value),), note=why)
