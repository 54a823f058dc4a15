"""The mean agreement of several score columns: values by hand, intervals against the one-column bootstrap."""

import math

import numpy as np
import pytest

from judging.stats.agreement import agreement, compare
from judging.stats.mean_agreement import mean_agreement
from judging.stats.rows import Columns

HUMAN = [1, 2, 3, 1, 2, 3, 3, 2, 1]
COLUMNS = Columns(group=["a"] * 3 + ["b"] * 3 + ["c"] * 3, human=HUMAN, score=[None] * 9)
SAME = [10, 20, 30, 10, 20, 30, 30, 20, 10]
OPPOSITE = [-score for score in SAME]
MIXED = [10, 20, 30, 10, 20, 30, 10, 20, 30]  # right in a and b, the wrong way round in c


def columns_of(score: list[float]) -> Columns:
    return Columns(group=COLUMNS.group, human=HUMAN, score=score)


def test_the_value_is_the_mean_over_the_columns() -> None:
    found = mean_agreement(COLUMNS, [SAME, OPPOSITE, MIXED], resamples=50)
    # Within groups: 1, -1 and (1 + 1 - 1) / 3.
    assert found["group.spearman"].value == pytest.approx((1 - 1 + 1 / 3) / 3)
    assert found["group.spearman"].n == 3
    assert found["group.spearman"].coverage == 1


def test_one_column_has_the_interval_of_agreement() -> None:
    rng = np.random.default_rng(1)
    columns = Columns([str(n // 4) for n in range(80)], list(rng.normal(size=80)), list(rng.normal(size=80)))
    one = agreement(columns, levels=("dataset", "group"), resamples=300, seed=3, shuffles=0)
    found = mean_agreement(columns, [columns.score], resamples=300, seed=3)
    assert set(found) == set(one)
    for name, estimate in found.items():
        expected = one[name]
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
            (expected.value, expected.low, expected.high), nan_ok=True
        ), name


def test_one_column_minus_one_is_the_paired_comparison() -> None:
    rng = np.random.default_rng(2)
    columns = Columns([str(n // 4) for n in range(80)], list(rng.normal(size=80)), list(rng.normal(size=80)))
    other = list(rng.normal(size=80))
    expected = compare(columns, other, levels=("group",), resamples=300, seed=3)["group.spearman"]
    found = mean_agreement(columns, [columns.score], minus=[other], levels=("group",), resamples=300, seed=3)
    one = found["group.spearman"]
    assert (one.value, one.low, one.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_columns_that_disagree_widen_the_interval_where_groups_alone_would_not() -> None:
    """Every group says the same of a column, so groups alone give an interval of no width."""
    alone = mean_agreement(COLUMNS, [SAME], resamples=400)["group.spearman"]
    assert (alone.low, alone.high) == pytest.approx((1, 1))
    both = mean_agreement(COLUMNS, [SAME, OPPOSITE], resamples=400)["group.spearman"]
    # Two columns drawn from two: both right (1), one of each (0), both wrong (-1).
    assert (both.value, both.low, both.high) == pytest.approx((0, -1, 1))


def test_a_mean_of_many_like_columns_has_the_interval_of_one() -> None:
    found = mean_agreement(COLUMNS, [MIXED] * 7, resamples=400)["group.spearman"]
    one = mean_agreement(COLUMNS, [MIXED], resamples=400)["group.spearman"]
    assert (found.low, found.high) == pytest.approx((one.low, one.high))


def test_rows_that_a_column_leaves_unscored_count_for_none() -> None:
    gap = [*SAME[:8], None]
    found = mean_agreement(COLUMNS, [gap, OPPOSITE], resamples=50)["group.spearman"]
    assert found.coverage == pytest.approx(8 / 9)
    assert found.value == pytest.approx(0)
    assert found.n == 3


def test_a_difference_of_equal_sides_is_nothing_for_sure() -> None:
    found = mean_agreement(COLUMNS, [MIXED], minus=[MIXED], resamples=50)["group.spearman"]
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_what_is_undefined_is_nan_and_not_a_number() -> None:
    flat = mean_agreement(COLUMNS, [[5] * 9], resamples=50)["group.spearman"]
    assert math.isnan(flat.value) and math.isnan(flat.low)
    one_group = Columns(["a"] * 3, [1, 2, 3], [None] * 3)
    lonely = mean_agreement(one_group, [[1, 2, 3]], resamples=50)["group.spearman"]
    assert lonely.value == pytest.approx(1)
    assert math.isnan(lonely.low) and math.isnan(lonely.high)
    nothing = mean_agreement(COLUMNS, [[None] * 9], resamples=50)["group.spearman"]
    assert math.isnan(nothing.value)
    assert nothing.coverage == 0
