"""Few labels and a judge on everything -> a mean with its interval: labels alone, judge alone, both (PPI++).

Legend: G groups. Prediction-powered inference (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453) corrects the
judge's mean over all groups by its error on the labelled ones. The judge's weight is the one with the narrowest
interval, so that a judge that is worthless costs nothing. Groups are the units, whose labelled part must be drawn at
random. Where that error is hardly seen, in few groups or in few that differ, the estimate is that of the labels alone.
It knows no systems and no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from judging.stats.additive_model import MIN_GROUPS, student_p, student_quantile
from judging.stats.bootstrap import Floats
from judging.stats.correlation import ROUNDING
from judging.stats.estimate import Estimate

# With fewer labelled groups, or open ones, or labelled ones that differ in label and in the judge's error, intervals
# of both hold the mean less often than those of the labels alone (tests/judging/stats/test_prediction_powered.py).
MIN_LABELLED = 10
MIN_OPEN = 6
MIN_DIFFERENT = 5


@dataclass(frozen=True)
class ThreeWays:
    """Three estimates of one mean, in points.

    `labels`: from the labelled groups alone. `judge`: from the judge's scores of all groups, biased where the judge
    is. `powered`: from both, unbiased. `weight`: of the judge in it; 0: none, `powered` is then `labels`.
    `effective`: the number of labelled groups that would give as narrow an interval without a judge. `p`: of
    `powered`, that the mean is 0; 1 where there is no interval.
    """

    labels: Estimate
    judge: Estimate
    powered: Estimate
    weight: float
    effective: float
    p: float

    def negative(self) -> ThreeWays:
        """The same of the mean with the other sign."""
        labels, judge, powered = (one.negative() for one in (self.labels, self.judge, self.powered))
        return replace(self, labels=labels, judge=judge, powered=powered)


def three_ways(human_G: Floats, judge_G: Floats, *, coverage: float = 1.0) -> ThreeWays:
    """Estimate the mean over groups, three ways; intervals by Student's t.

    Args:
        human_G: people's score of each group, NaN where it has no label.
        judge_G: the judge's score of each group, NaN where it has none; such a group counts for `labels` only.
        coverage: share of scored rows, for the estimates.
    """
    human_G, judge_G = np.asarray(human_G, dtype=float), np.asarray(judge_G, dtype=float)
    labelled_G, scored_G = ~np.isnan(human_G), ~np.isnan(judge_G)
    labels = _mean(human_G[labelled_G], 1.0)
    judge = _mean(judge_G[scored_G], coverage)
    both_G = labelled_G & scored_G
    human_L, judge_L, judge_U = human_G[both_G], judge_G[both_G], judge_G[scored_G & ~labelled_G]
    num_labelled, num_open = len(human_L), len(judge_U)
    of_labels = human_G[labelled_G]
    p = student_p(labels.value, _error(of_labels), labels.n - 1) if labels.n >= MIN_GROUPS else 1.0
    nothing = ThreeWays(labels, judge, labels, 0.0, float(labels.n), p)
    if num_labelled < MIN_LABELLED or num_open < MIN_OPEN:
        return nothing
    covariance = np.cov(human_L, judge_L)
    wrong_L = human_L - math.copysign(1, covariance[0, 1]) * judge_L
    if min(_num_different(human_L), _num_different(wrong_L)) < MIN_DIFFERENT:
        return nothing
    # Variance of mean(human_L) + weight (mean(judge_U) - mean(judge_L)), smallest at this weight.
    bend = covariance[1, 1] / num_labelled + judge_U.var(ddof=1) / num_open
    weight = float(covariance[0, 1] / num_labelled / bend) if bend > 0 else 0.0
    value = float(human_L.mean() + weight * (judge_U.mean() - judge_L.mean()))
    # The weight was fitted to the labelled groups, and the interval is taken where it is narrower than theirs: each
    # leaves them one degree of freedom less.
    degrees_left = num_labelled - 3
    left = float((human_L - weight * judge_L).var(ddof=1)) * (num_labelled - 1) / degrees_left / num_labelled
    of_open = weight**2 * float(judge_U.var(ddof=1)) / num_open
    error, degrees = math.sqrt(left + of_open), _degrees(left, degrees_left, of_open, num_open - 1)
    half = student_quantile(degrees) * error
    half_of_labels = (labels.high - labels.low) / 2
    if not half < half_of_labels:
        return nothing
    powered = Estimate(value, value - half, value + half, num_labelled + num_open, coverage)
    effective = labels.n * (half_of_labels / half) ** 2 if half > 0 else math.inf
    return ThreeWays(labels, judge, powered, weight, effective, student_p(value, error, degrees))


def _mean(values_G: Floats, coverage: float) -> Estimate:
    """Mean and Student's interval; NaN ends with fewer than `MIN_GROUPS` values."""
    num = len(values_G)
    if num == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, coverage)
    value = float(values_G.mean())
    half = student_quantile(num - 1) * _error(values_G) if num >= MIN_GROUPS else math.nan
    return Estimate(value, value - half, value + half, num, coverage)


def _error(values_G: Floats) -> float:
    """Standard error of the mean; NaN with fewer than two values."""
    return float(values_G.std(ddof=1)) / math.sqrt(len(values_G)) if len(values_G) > 1 else math.nan


def _num_different(values_G: Floats) -> int:
    """How many values, in points, are not the most common one, within rounding."""
    sorted_G = np.sort(values_G)
    is_new_G = np.diff(sorted_G) > ROUNDING
    return len(values_G) - int(np.bincount(np.concatenate([[0], np.cumsum(is_new_G)])).max())


def _degrees(one: float, of_one: int, other: float, of_other: int) -> float:
    """Degrees of freedom of the sum of two estimated variances (Welch and Satterthwaite)."""
    spread = one**2 / of_one + other**2 / of_other
    return (one + other) ** 2 / spread if spread > 0 else of_one
