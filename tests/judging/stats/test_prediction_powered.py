"""Three estimates of a mean: worked out by hand, against ppi_py, and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judging.stats.prediction_powered import three_ways

HUMAN = [4.0, 2, 5, 3, 1, 4, 3, 5]
JUDGE = [3.5, 2.5, 4.5, 3, 2, 3, 3.5, 4]
OPEN = [3.0, 2, 4, 3.5, 2.5, 4.5, 3, 3, 2, 4, 3.5, 1.5]


def both(human: list[float], judge: list[float], unlabelled: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*human, *[math.nan] * len(unlabelled)]), np.array([*judge, *unlabelled])


def test_worked_out_by_hand() -> None:
    found = three_ways(*both(HUMAN, JUDGE, OPEN))
    # Mean 27 / 8, standard deviation 1.4079, t(7) = 2.3646: 3.375 +- 1.1770.
    assert (found.labels.value, found.labels.n) == (3.375, 8)
    assert found.labels.low == pytest.approx(3.375 - 1.1770, abs=1e-4)
    assert (found.judge.value, found.judge.n) == (3.125, 20)
    # Covariance 1.0357, variances of the judge .6429 and .8390: (1.0357 / 8) / (.6429 / 8 + .8390 / 12) = .8615.
    assert found.weight == pytest.approx(0.86151, abs=1e-4)
    # The judge's means: 3.25 on the labelled groups, 3.041667 on the others.
    assert found.powered.value == pytest.approx(3.375 + 0.86151 * (3.0416667 - 3.25), abs=1e-4)
    assert found.powered.n == 20
    assert found.powered.high - found.powered.low < found.labels.high - found.labels.low
    assert found.effective == pytest.approx(15.58, abs=0.01)  # interval by Welch's degrees of freedom


def test_agrees_with_ppi_py() -> None:
    """Values of ppi_mean_pointestimate and ppi_mean_ci of ppi-python 0.2.3 on the same numbers."""
    random = np.random.default_rng(0)
    latent = random.standard_normal(4400)
    judge = 1.3 + 0.7 * latent + 0.7 * random.standard_normal(4400)
    found = three_ways(np.where(np.arange(4400) < 400, 3 + latent, math.nan), judge)
    assert found.powered.value == pytest.approx(2.96734, abs=2e-4)
    assert (found.powered.low, found.powered.high) == pytest.approx((2.89872, 3.03596), abs=1e-3)


def test_a_worthless_judge_costs_nothing() -> None:
    constant = three_ways(*both(HUMAN, [3.0] * 8, [3.0] * 12))
    assert constant.powered == constant.labels and constant.weight == 0 and constant.effective == 8


def test_a_perfect_judge_is_worth_all_groups() -> None:
    found = three_ways(*both(HUMAN, HUMAN, OPEN))
    # Weight (1.9821 / 8) / (1.9821 / 8 + .8390 / 12) = .7799; means 3.375 and 3.041667.
    assert found.powered.value == pytest.approx(3.375 + 0.7799 * (3.0416667 - 3.375), abs=1e-4)
    assert found.effective > 15


def test_labels_of_all_groups_leave_nothing_to_predict() -> None:
    found = three_ways(np.array(HUMAN), np.array(JUDGE))
    assert found.powered == found.labels and found.effective == 8


@pytest.mark.parametrize("num", [0, 1, 2, 7])
def test_too_few_labels_stay_alone(num: int) -> None:
    found = three_ways(*both(HUMAN[:num], JUDGE[:num], OPEN))
    assert (found.labels.n == num and found.powered == found.labels) or math.isnan(found.labels.value)
    assert found.judge.n == num + 12 and found.weight == 0
    assert math.isnan(found.labels.low) == (num < 2)


def test_groups_without_a_judges_score_count_as_labels_alone() -> None:
    human, judge = both([*HUMAN, 4.0], [*JUDGE, 3.5], OPEN)
    judge[0] = math.nan
    found = three_ways(human, judge, coverage=0.95)
    assert found.labels.n == 9 and found.powered.n == 20 and found.powered.coverage == 0.95


# Correlation with people, and bias in points.
JUDGES = {"biased": (0.8, 1.5), "noisy": (0.3, 0.0), "worthless": (0.0, 0.0), "opposite": (-0.6, 0.0)}


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize(("num_labels", "num_open"), [(20, 500), (50, 500), (200, 500), (10, 20), (100, 10)])
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
    assert 0.93 <= np.mean(held) <= 0.97
    assert max(widths) <= 1
    if num_open == 500:
        assert np.mean(widths) < {"biased": 0.8, "noisy": 0.99, "worthless": 1.0, "opposite": 0.9}[kind]
