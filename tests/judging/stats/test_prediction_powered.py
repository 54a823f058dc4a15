"""Three estimates of a mean: worked out by hand, against ppi_py, and by simulated coverage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from judging.stats.prediction_powered import three_ways

# 24 groups: eight of them three times.
HUMAN = [4.0, 2, 5, 3, 1, 4, 3, 5] * 3
JUDGE = [3.5, 2.5, 4.5, 3, 2, 3, 3.5, 4] * 3
OPEN = [3.0, 2, 4, 3.5, 2.5, 4.5, 3, 3, 2, 4, 3.5, 1.5]


def both(human: list[float], judge: list[float], unlabelled: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*human, *[math.nan] * len(unlabelled)]), np.array([*judge, *unlabelled])


def test_worked_out_by_hand() -> None:
    found = three_ways(*both(HUMAN, JUDGE, OPEN))
    # Mean 27 / 8, variance 3 * 13.875 / 23 = 1.8098, t(23) = 2.0687: 3.375 +- .5681.
    assert (found.labels.value, found.labels.n) == (3.375, 24)
    assert found.labels.low == pytest.approx(3.375 - 0.5681, abs=1e-4)
    # (24 * 3.25 + 36.5) / 36
    assert (found.judge.value, found.judge.n) == (pytest.approx(3.1805556), 36)
    # Covariance 3 * 7.25 / 23 = .9457, variances of the judge 3 * 4.5 / 23 = .5870 and .8390:
    # (.9457 / 24) / (.5870 / 24 + .8390 / 12) = .4175.
    assert found.weight == pytest.approx(0.41751, abs=1e-4)
    # The judge's means: 3.25 on the labelled groups, 3.041667 on the others.
    assert found.powered.value == pytest.approx(3.375 + 0.41751 * (3.0416667 - 3.25), abs=1e-4)
    assert found.powered.n == 36 and found.p < 1e-9
    # Variance (1.8098 - 2 * .4175 * .9457 + .4175^2 * .5870) / 24 * 23 / 21 + .4175^2 * .8390 / 12 = .0512 + .0122,
    # with .0634^2 / (.0512^2 / 21 + .0122^2 / 11) = 29 degrees of freedom: 2.045 * .2518.
    assert found.powered.high - found.powered.value == pytest.approx(0.515, abs=1e-3)
    assert found.effective == pytest.approx(24 * (0.5681 / (found.powered.high - found.powered.value)) ** 2, abs=0.01)


def test_agrees_with_ppi_py() -> None:
    """Values of ppi_mean_pointestimate and ppi_mean_ci of ppi-python 0.2.3 on the same numbers."""
    random = np.random.default_rng(0)
    latent = random.standard_normal(4400)
    judge = 1.3 + 0.7 * latent + 0.7 * random.standard_normal(4400)
    found = three_ways(np.where(np.arange(4400) < 400, 3 + latent, math.nan), judge)
    assert found.powered.value == pytest.approx(2.96734, abs=2e-4)
    assert (found.powered.low, found.powered.high) == pytest.approx((2.89872, 3.03596), abs=1e-3)


def test_a_worthless_judge_costs_nothing() -> None:
    constant = three_ways(*both(HUMAN, [3.0] * 24, [3.0] * 12))
    assert constant.powered == constant.labels and constant.weight == 0 and constant.effective == 24


def test_a_judge_that_is_nearly_perfect_is_worth_more_groups() -> None:
    judge = [one + 0.01 * (place % 3) for place, one in enumerate(HUMAN)]
    assert three_ways(*both(HUMAN, judge, OPEN)).effective > 30


def test_an_error_that_is_hardly_seen_is_not_taken_for_none() -> None:
    """With four labels unlike the others, or four errors of the judge, the labels stay alone; with five they do not."""
    for num, is_used in ((4, False), (5, True)):
        judge = [one + (place < num) for place, one in enumerate(HUMAN)]
        assert (three_ways(*both(HUMAN, judge, OPEN)).weight > 0) is is_used
        opposite = [6 - one for one in judge]
        assert (three_ways(*both(HUMAN, opposite, [6 - one for one in OPEN])).weight < 0) is is_used
        rare = [5.0 if place < num else 4.0 for place in range(24)]
        judge = [one + 0.1 * (place % 7 - 3) for place, one in enumerate(rare)]
        assert (
            three_ways(*both(rare, judge, [4.1, 3.9, 5, 4.2, 4, 3.8, 5.1, 4, 4.1, 3.9, 4, 5])).weight > 0
        ) is is_used


def test_labels_of_all_groups_leave_nothing_to_predict() -> None:
    found = three_ways(np.array(HUMAN), np.array(JUDGE))
    assert found.powered == found.labels and found.effective == 24


@pytest.mark.parametrize("num", [0, 1, 2, 5, 6, 9])
def test_too_few_labels_stay_alone(num: int) -> None:
    found = three_ways(*both(HUMAN[:num], JUDGE[:num], OPEN))
    assert (found.labels.n == num and found.powered == found.labels) or math.isnan(found.labels.value)
    assert found.judge.n == num + 12 and found.weight == 0
    assert math.isnan(found.labels.low) == (num < 6)  # of labels in two groups that agree an interval would be a point
    assert (found.p == 1) == (num < 6)


def test_groups_without_a_judges_score_count_as_labels_alone() -> None:
    human, judge = both([*HUMAN, 4.0], [*JUDGE, 3.5], OPEN)
    judge[0] = math.nan
    found = three_ways(human, judge, coverage=0.95)
    assert found.labels.n == 25 and found.powered.n == 36 and found.powered.coverage == 0.95


def test_the_p_value_is_that_of_the_interval() -> None:
    human, judge = both(HUMAN, JUDGE, OPEN)
    end = three_ways(human, judge).powered.low
    assert three_ways(human - end, judge).p == pytest.approx(0.05)  # 0 is the end of the 95 % interval


# Correlation with people, and bias in points.
JUDGES = {"biased": (0.8, 1.5), "noisy": (0.3, 0.0), "worthless": (0.0, 0.0), "opposite": (-0.6, 0.0)}


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize(("num_labels", "num_open"), [(10, 500), (20, 500), (50, 500), (200, 500), (25, 20), (100, 10)])
def test_intervals_hold_the_mean_and_are_never_wider(kind: str, num_labels: int, num_open: int) -> None:
    correlation, bias = JUDGES[kind]
    random = np.random.default_rng(num_labels)
    held, widths = [], []
    for _ in range(1000):
        latent = random.standard_normal(num_labels + num_open)
        noise = math.sqrt(1 - correlation**2) * random.standard_normal(len(latent))
        human = np.where(np.arange(len(latent)) < num_labels, 3 + latent, math.nan)
        found = three_ways(human, 3 + bias + correlation * latent + noise)
        held.append(found.powered.low <= 3 <= found.powered.high)
        widths.append((found.powered.high - found.powered.low) / (found.labels.high - found.labels.low))
    assert (0.93 if num_labels > 10 else 0.92) <= np.mean(held) <= 0.97
    assert max(widths) <= 1
    if num_open == 500:
        assert np.mean(widths) < {"biased": 0.8, "noisy": 0.99, "worthless": 1.0, "opposite": 0.9}[kind]


def skewed(random: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray, float]:
    human = random.choice([1.0, 2, 3, 4, 5], size=num, p=[0.02, 0.03, 0.05, 0.2, 0.7])
    return human, np.clip(human + random.normal(0, 0.6, num), 1, 5), 4.53


def mostly_equal(random: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray, float]:
    human = random.choice([-1.0, 0, 0, 0, 0, 0, 0, 1, 1, 2], size=num)
    return human, human + random.choice([-1.0, 0, 0, 0, 1], size=num), 0.3


def mostly_right(random: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray, float]:
    human = (random.random(num) < 0.9).astype(float)
    return human, np.where(random.random(num) < 0.9, human, 1 - human), 0.9


@pytest.mark.parametrize("draw", [skewed, mostly_equal, mostly_right])
@pytest.mark.parametrize("num_labels", [10, 20, 50, 100])
def test_with_few_values_the_judge_costs_no_coverage(draw: Callable[..., Any], num_labels: int) -> None:
    """Student's interval of the labels alone holds too seldom where labels are skewed: .86 to .88 with 20 groups.

    Where nine of ten labels are equal it does in .63 of the samples of 10 groups.
    """
    held = []
    for number in range(1000):
        human, judge, mean = draw(np.random.default_rng((number, num_labels)), 300)
        known = np.where(np.arange(300) < num_labels, human, math.nan)
        found = three_ways(known, judge)
        held.append([one.low - 1e-9 <= mean <= one.high + 1e-9 for one in (found.labels, found.powered)])
    of_labels, of_both = np.mean(held, axis=0)
    assert of_both >= of_labels - 0.015 and of_labels >= {10: 0.6, 100: 0.92}.get(num_labels, 0.84)
