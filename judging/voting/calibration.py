"""One judge's scores and people's labels on one scale -> a monotone map from the score to the label to expect.

Legend: N rows, B bins of scores. A calibration is a list of knots with straight lines between them, so that it can be
kept as JSON. It knows no groups, no files and no other judges.
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

MAX_BINS = 64  # a finer map would be noise, and a larger file
MIN_LABELS = 10  # fewer: the scores stay as they are
ISOTONIC_AT = 200  # with so many labels the steps count as much as the straight line
CONSTANT = "its scores are all the same"
FALLING = "its scores do not rise with people's"
# A line that rises by less than this share of the scale over the judge's scores does not rise.
FLAT_SHARE = 1e-9


class Calibration(BaseModel):
    """A non-decreasing map of scores, straight between `knots` (score, calibrated) and constant outside of them.

    `kind`: `isotonic` (fitted), `identity` (too few labels to fit), or `flat`: the judge tells nothing about people's
    scores, every score becomes their mean, and `note` says why. `num_rows`: labelled scores that it was made from.
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
                raise ValueError(f"knots: after ({score:g}, {value:g}) the next may not be lower")
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
    """Scores gathered into at most `MAX_BINS` bins: `bin_N` of each row (-1: unscored), mean `score_B` of each bin."""

    bin_N: npt.NDArray[np.intp]
    score_B: Floats


def calibrate(
    scores: Sequence[float | None] | Floats, labels: Sequence[float | None] | Floats, scale: Scale
) -> Calibration:
    """The calibration of one judge for one task, aspect and `scale`, on which scores and labels (N,) both are.

    Isotonic regression (Zadrozny and Elkan 2002) of the labels on the scores, mixed with the least squares line: with
    n labels the steps count n / (n + `ISOTONIC_AT`), so that few labels draw no steps and no score is ever tied to a
    lower one. Fewer than `MIN_LABELS`: identity. A line that does not rise, or a single score: flat.
    Rows without a score or a label are left out. Raises ValueError for infinite numbers and labels off the scale.
    """
    score_N, label_N = _floats(scores), _floats(labels)
    if len(score_N) != len(label_N):
        raise ValueError(f"there are {len(score_N)} scores and {len(label_N)} labels; one of each a row is needed")
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
        raise ValueError("a score or label is infinite")
    return values_N


def check_labels(label_N: Floats, scale: Scale) -> None:
    """Raises ValueError where a label lies off the scale; NaN is no label."""
    slack = 1e-9 * scale.width  # labels moved from another scale may miss an end by the last digit
    off_N = (label_N < scale.low - slack) | (label_N > scale.high + slack)
    if off_N.any():
        raise ValueError(f"the label {label_N[off_N][0]:g} lies off the scale {scale}")


def bin_scores(score_N: Floats) -> Bins:
    """Each different score a bin, or bins of about equal size where there are more than `MAX_BINS`."""
    known_N = ~np.isnan(score_N)
    bin_N = np.full(len(score_N), -1, dtype=np.intp)
    distinct_B, code_N = np.unique(score_N[known_N], return_inverse=True)
    if len(distinct_B) <= MAX_BINS:
        bin_N[known_N] = code_N
        return Bins(bin_N, distinct_B)
    # "lower": every edge is a score that occurs, so that every bin but the first has one.
    edges = np.unique(np.quantile(score_N[known_N], np.arange(1, MAX_BINS) / MAX_BINS, method="lower"))
    edges = edges[edges > distinct_B[0]]
    bin_N[known_N] = np.searchsorted(edges, score_N[known_N], side="right")
    count_B, sum_B = (np.bincount(bin_N[known_N], weights=w) for w in (None, score_N[known_N]))
    return Bins(bin_N, sum_B / count_B)


def fit_bins(score_B: Floats, count_B: Floats, label_B: Floats, scale: Scale) -> Calibration:
    """The calibration from sums a bin: mean score, number of labels, sum of the labels. Bins without a label are empty.

    Sums over parts of the data add up, so that leaving a part out costs a subtraction.
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
    """The scores as they are, cut off at the ends of the scale."""
    ends = ((scale.low, scale.low), (scale.high, scale.high))
    note = f"{num_rows} labels are too few to calibrate: {MIN_LABELS} are needed"
    return Calibration(kind="identity", num_rows=num_rows, knots=ends, note=note if num_rows < MIN_LABELS else None)


def _flat(score: float, label: float, num_rows: int, why: str, scale: Scale) -> Calibration:
    value = min(max(float(label), scale.low), scale.high)
    return Calibration(kind="flat", num_rows=num_rows, knots=((float(score), value),), note=why)
