"""Novelty: Mahalanobis distances by hand, unlike rows are far, like rows are spread evenly over the quantiles."""

import numpy as np
import pytest

from judging.fitted.novelty import Novelty, measure
from judging.fitted.ridge import folds


def test_distances_by_hand() -> None:
    # Along x a deviation of 2, along y the rest, with a deviation of 1.
    known = Novelty(np.array([1.0, 1.0]), np.array([[1.0, 0.0]]), np.array([2.0]), 1.0, np.array([0.0, 1.0, 5.0]))
    assert known.distance(np.array([[1, 1], [5, 1], [1, 4], [3, 2]])) == pytest.approx([0, 2, 3, 2**0.5])
    # Quantiles at 0, 50 and 100 %: a distance of 2 is a quarter of the way from 1 to 5.
    assert known.share_below(np.array([[1, 1], [5, 1], [99, 1]])) == pytest.approx([0, 0.625, 1])


def test_like_rows_are_spread_evenly_and_unlike_ones_are_beyond_all() -> None:
    random = np.random.default_rng(0)
    mix = random.normal(size=(20, 300))
    rows = random.normal(size=(240, 20)) @ mix + 0.1 * random.normal(size=(240, 300))
    group = np.repeat(np.arange(40), 6)
    known = measure(rows, folds(group, 0))
    like = random.normal(size=(500, 20)) @ mix + 0.1 * random.normal(size=(500, 300))
    shares = known.share_below(like)
    # Evenly spread: mean 1/2, a tenth above .9. The standard error of a share of 500 is .013, that of 240 rows .02.
    assert abs(shares.mean() - 0.5) < 0.06
    assert 0.04 < (shares > 0.9).mean() < 0.17
    assert (known.share_below(like + 8 * random.normal(size=300)) == 1).mean() > 0.99


def test_the_fewest_rows_that_are_fitted_give_honest_shares_too() -> None:
    random = np.random.default_rng(1)
    above, means = [], []
    for _ in range(30):
        rows, like = random.normal(size=(60, 100)), random.normal(size=(200, 100))
        shares = measure(rows, folds(np.repeat(np.arange(12), 5), 0)).share_below(like)
        above.append((shares > 0.9).mean())
        means.append(shares.mean())
    # A tenth and a half; of 60 quantiles the standard error of a share is .04, of the mean of 30 draws .01.
    assert 0.07 < np.mean(above) < 0.15
    assert 0.46 < np.mean(means) < 0.55


def test_rows_that_are_all_alike_have_no_distance_and_anything_else_is_new() -> None:
    known = measure(np.ones((30, 5)), folds(np.repeat(np.arange(10), 3), 0))
    assert known.distance(np.ones((1, 5))) == pytest.approx([0])
    assert known.share_below(np.ones((1, 5))) == pytest.approx([0])
    assert known.share_below(np.array([[1, 1, 1, 1, 1.5]])) == pytest.approx([1])
