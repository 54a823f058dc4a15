import math

import numpy as np
import pytest

from judging.stats.human_ceiling import human_ceiling
from judging.stats.rows import Columns


def test_ceiling_by_hand() -> None:
    # Three raters, one group. Each against the mean of the others:
    # rater 1 (1 2 3) against (1.5 1.5 3): tau-b = 2/sqrt(3*2); rater 2 (1 2 3) the same; rater 3 (2 1 3) against
    # (1 2 3): (2 - 1)/3.
    columns = Columns(["q"] * 3, [1, 2, 3], [None] * 3, ratings=[(1, 1, 2), (2, 2, 1), (3, 3, 3)])
    found = human_ceiling(columns, levels=["dataset", "group"])
    assert found is not None
    expected = (2 * 2 / math.sqrt(6) + 1 / 3) / 3
    assert found["group.kendall_b"].value == pytest.approx(expected)
    assert found["dataset.kendall_b"].value == pytest.approx(expected)
    assert found["dataset.kendall_b"].n == 3 and found["dataset.kendall_b"].coverage == 1


def test_ceiling_needs_two_ratings() -> None:
    assert human_ceiling(Columns(["q", "q"], [1, 2], [1, 2])) is None
    assert human_ceiling(Columns(["q", "q"], [1, 2], [1, 2], ratings=[(1, None), None])) is None
    draws = np.random.default_rng(0)
    truth = draws.normal(size=100)
    ratings = [tuple(value + 0.5 * draws.normal(size=3)) for value in truth]
    ratings[0] = (ratings[0][0], None, None)
    groups = [f"q{row // 5}" for row in range(100)]
    found = human_ceiling(Columns(groups, truth, [None] * 100, ratings=ratings), resamples=200)
    assert found is not None
    pearson = found["dataset.pearson"]
    assert pearson.low < pearson.value < pearson.high and pearson.n == 99 and pearson.coverage == 0.99
