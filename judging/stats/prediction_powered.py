"""Few labels and a judge on everything -> a mean with a valid interval: labels alone, judge alone, both (PPI++).

Legend: G groups. Prediction-powered inference (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453) corrects the
judge's mean over all groups by its error on the labelled ones. The judge's weight is the one with the narrowest
interval, so that a judge that is worthless costs nothing. Groups are the units, whose labelled part must be drawn at
random. It knows no systems and no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from judging.stats.additive_model import student_quantile
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate

MIN_LABELLED = 8  # with fewer labelled groups, or open ones, intervals of both together hold the mean too seldom
MIN_OPEN = 6


@dataclass(frozen=True)
class ThreeWays:
    """Three estimates of one mean, in points.

    `labels`: from the labelled groups alone. `judge`: from the judge's scores of all groups, biased where the judge
    is. `powered`: from both, unbiased. `weight`: of the judge in it; 0: none, `powered` is then `labels`.
    `effective`: the number of labelled groups that would give as narrow an interval without a judge.
    """

    labels: Estimate
    judge: Estimate
    powered: Estimate
    weight: float
    effective: float


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
    nothing = ThreeWays(labels, judge, labels, 0.0, float(labels.n))
    if num_labelled < MIN_LABELLED or num_open < MIN_OPEN:
        return nothing
    covariance = np.cov(human_L, judge_L)
    # Variance of mean(human_L) + weight (mean(judge_U) - mean(judge_L)), smallest at this weight.
    bend = covariance[1, 1] / num_labelled + judge_U.var(ddof=1) / num_open
    weight = float(covariance[0, 1] / num_labelled / bend) if bend > 0 else 0.0
    value = float(human_L.mean() + weight * (judge_U.mean() - judge_L.mean()))
    # The weight was fitted to the labelled groups, which leaves them one degree of freedom less.
    left = float((human_L - weight * judge_L).var(ddof=1)) * (num_labelled - 1) / (num_labelled - 2) / num_labelled
    of_open = weight**2 * float(judge_U.var(ddof=1)) / num_open
    half = student_quantile(_degrees(left, num_labelled - 2, of_open, num_open - 1)) * math.sqrt(left + of_open)
    half_of_labels = (labels.high - labels.low) / 2
    if not half < half_of_labels:
        return nothing
    powered = Estimate(value, value - half, value + half, num_labelled + num_open, coverage)
    return ThreeWays(labels, judge, powered, weight, labels.n * (half_of_labels / half) ** 2 if half > 0 else math.inf)


def _mean(values_G: Floats, coverage: float) -> Estimate:
    """Mean and Student's interval; NaN ends with fewer than two values."""
    num = len(values_G)
    if num == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, coverage)
    value = float(values_G.mean())
    half = student_quantile(num - 1) * float(values_G.std(ddof=1)) / math.sqrt(num) if num > 1 else math.nan
    return Estimate(value, value - half, value + half, num, coverage)


def _degrees(one: float, of_one: int, other: float, of_other: int) -> float:
    """Degrees of freedom of the sum of two estimated variances (Welch and Satterthwaite)."""
    spread = one**2 / of_one + other**2 / of_other
    return (one + other) ** 2 / spread if spread > 0 else of_one
