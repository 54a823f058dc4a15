import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from judging.stats import bootstrap
from judging.stats.bootstrap import (
    Resample,
    acceleration,
    bca_interval,
    intervals,
    jackknife,
    jackknife_weights,
    paired,
    percentile_interval,
    replicates,
    weight_chunk,
)


def mean_of(values: np.ndarray) -> Resample:
    return lambda weights: (weights @ values / weights.sum(axis=1))[:, None]


@given(st.integers(1, 60), st.integers(1, 10), st.integers(0, 5))
def test_weights_are_draws_with_replacement(num_groups: int, num_rows: int, seed: int) -> None:
    weights = weight_chunk(num_groups, num_rows, (seed,))
    assert weights.shape == (num_rows, num_groups)
    assert (weights.sum(axis=1) == num_groups).all() and (weights >= 0).all() and (weights % 1 == 0).all()
    np.testing.assert_array_equal(weights, weight_chunk(num_groups, num_rows, (seed,)))


def test_weights_are_multinomial() -> None:
    # A count of 10 draws over 10 groups has mean 1 and variance 10 * 0.1 * 0.9 = 0.9; 20,000 rows, so 4 sigma is small.
    weights = weight_chunk(10, 20_000, (3,))
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(weights.var(axis=0), 0.9, atol=0.05)


def test_weigh_is_a_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, values = np.random.default_rng(0).normal(size=(2, 40, 40))
    monkeypatch.setattr(bootstrap, "BLAS_CELLS", 40 * 40 * 3)
    np.testing.assert_allclose(bootstrap.weigh(weights, values), weights @ values, atol=1e-12)


def test_fewer_resamples_are_the_first_of_more() -> None:
    values = np.arange(30.0)
    many = replicates(mean_of(values), 30, resamples=300, seed=5)
    np.testing.assert_array_equal(replicates(mean_of(values), 30, resamples=130, seed=5), many[:130])
    assert not np.array_equal(replicates(mean_of(values), 30, resamples=300, seed=6), many)


def test_jackknife_leaves_out_every_group_once() -> None:
    assert (np.concatenate(list(jackknife_weights(5))) == 1 - np.eye(5)).all()
    blocks = np.concatenate(list(jackknife_weights(25, max_blocks=10)))
    assert blocks.shape == (10, 25) and ((1 - blocks).sum(axis=0) == 1).all()


def test_acceleration_by_hand() -> None:
    # Values 1 2 6: means without one are 4, 3.5, 1.5, their mean 3; d = -1, -.5, 1.5; sum d^3 = 2.25, sum d^2 = 3.5.
    deleted = jackknife(mean_of(np.array([1.0, 2.0, 6.0])), 3)[:, 0]
    np.testing.assert_allclose(deleted, [4, 3.5, 1.5])
    assert acceleration(deleted) == pytest.approx(2.25 / (6 * 3.5**1.5))
    assert acceleration(np.array([2.0, 2.0])) == 0 and acceleration(np.array([np.nan])) == 0


def test_percentile_drops_nan_and_says_so() -> None:
    interval = percentile_interval(np.array([*range(101), *[np.nan] * 101], float))
    assert interval == pytest.approx((2.5, 97.5, 0.5))
    nothing = percentile_interval(np.array([np.nan]))
    assert np.isnan(nothing.low) and nothing.dropped_share == 1


def test_bca_same_as_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    ours = intervals(mean_of(values), np.array([values.mean()]), 40, resamples=20_000, method="bca")[0]
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02 * (theirs.high - theirs.low))
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * (theirs.high - theirs.low))


def test_bca_edges() -> None:
    same = bca_interval(0.5, np.full(100, 0.5), np.full(10, 0.5))
    assert same == (0.5, 0.5, 0.0)
    beyond = bca_interval(2.0, np.linspace(0, 1, 100), np.linspace(0, 1, 10))
    assert 0 <= beyond.low <= beyond.high <= 1
    assert np.isnan(bca_interval(np.nan, np.zeros(5), np.zeros(5)).low)


def test_one_group_has_no_interval() -> None:
    assert np.isnan(intervals(mean_of(np.ones(1)), np.ones(1), 1)[0].low)


def test_paired_difference_of_equal_columns_is_zero() -> None:
    values = np.random.default_rng(0).normal(size=20)
    both = paired(mean_of(values + 1), mean_of(values))
    interval = intervals(both, np.array([1.0]), 20)[0]
    assert interval.low == pytest.approx(1) and interval.high == pytest.approx(1)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_coverage(method: str) -> None:
    # 400 samples of 40 groups from a normal distribution with mean 0: about 95 % of the intervals hold it; the
    # bootstrap of the mean is a little short (about 93.5 %), and 400 trials have a standard error of 1.2 %.
    random = np.random.default_rng(7)
    hits = 0
    for trial in range(400):
        values = random.normal(size=40)
        low, high, _ = intervals(
            mean_of(values), values[:1] * 0 + values.mean(), 40, resamples=500, seed=trial, method=method
        )[0]  # type: ignore[arg-type]
        hits += low <= 0 <= high
    assert 0.895 <= hits / 400 <= 0.98
