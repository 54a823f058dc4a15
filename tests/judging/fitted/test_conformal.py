"""Conformal intervals: quantiles by hand, and the coverage that is promised on simulated groups."""

import math

import numpy as np
import pytest

from judging.fitted.conformal import half_width, interval
from judging.records import Scale


def test_groups_count_alike_and_one_more_is_never_seen() -> None:
    # Groups a (0.1, 0.5), b (0.3), c (0.2, 0.2, 0.2, 0.9): weights 1/8, 1/8; 1/4; 1/16 each, of 4 = 3 + 1 groups.
    residual = np.array([0.1, -0.5, 0.3, 0.2, 0.2, -0.2, 0.9])
    group = np.array([0, 0, 1, 2, 2, 2, 2])
    # In order: .1 (.125), .2 three times (.3125), .3 (.5625), .5 (.6875), .9 (.75); then the group that is not there.
    for level, expected in (
        (0.1, 0.1),
        (0.125, 0.1),
        (0.3, 0.2),
        (0.5, 0.3),
        (0.6, 0.5),
        (0.75, 0.9),
        (0.76, math.inf),
    ):
        assert half_width(residual, group, level) == expected


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_people_s_scores_lie_inside_as_often_as_promised(level: float) -> None:
    """Residuals share a level of their group. 400 trials of 25 groups: standard error sqrt(.9 * .1 / 400) = .015."""
    random = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        effect, spread = random.normal(0, 0.7, 26), random.uniform(0.3, 1, 26)
        group = np.repeat(np.arange(25), 4)
        residual = effect[group] + spread[group] * random.normal(size=100)
        new = effect[25] + spread[25] * random.normal()
        inside.append(abs(new) <= half_width(residual, group, level))
    assert level - 0.045 < np.mean(inside) < level + 0.07


def test_an_interval_ends_at_the_scale() -> None:
    assert interval(4.5, 1.0, Scale(1, 5)) == (3.5, 5)
    assert interval(3.0, math.inf, Scale(1, 5)) == (1, 5)
