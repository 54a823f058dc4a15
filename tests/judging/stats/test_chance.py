"""The chance baseline: by theory, and against scipy."""

import numpy as np
import pytest
import scipy.stats

from judging.stats.agreement import agreement
from judging.stats.estimate import STATISTICS
from tests.judging.stats.making import simulated, sorted_rows


def test_floor() -> None:
    found = agreement(simulated(30, 5), resamples=20)
    for name in ("kendall", "spearman"):
        official, signed = found[f"floor.aeollm.official.{name}"], found[f"floor.aeollm.signed.{name}"]
        assert official.low > 0.2 and signed.low < 0 < signed.high
    # The mean of |rho| over all 120 orders of five values.
    from itertools import permutations

    exact = np.mean([abs(scipy.stats.spearmanr(range(5), order).statistic) for order in permutations(range(5))])
    assert found["floor.aeollm.official.spearman"].value == pytest.approx(exact, abs=0.02)
    assert found["floor.group.pairwise_accuracy"].value == pytest.approx(0.5, abs=0.02)
    for name in (
        "dataset.pearson",
        "dataset.kendall_b",
        "dataset.krippendorff_alpha",
        "group.kendall_c",
        "group.kendall_a",
    ):
        assert found[f"floor.{name}"].low < 0 < found[f"floor.{name}"].high < 0.4
    assert found["floor.dataset.mean_absolute_error"].value > found["dataset.mean_absolute_error"].value
    assert set(found) == {
        f"{floor}{name}" for names in STATISTICS.values() for name in names for floor in ("", "floor.")
    }


@pytest.mark.parametrize(("size", "levels"), [(2, None), (6, 3), (7, 3), (128, None), (200, 20)])
def test_floor_values_same_as_scipy(size: int, levels: int | None) -> None:
    from judging.stats.chance import _Shuffler
    from judging.stats.correlation import row_correlations

    rows = sorted_rows(simulated(3, size, levels=levels, noise=0 if levels else 1))
    ((_, rows_GN),) = rows.groups_by_size().values()
    shuffled = np.random.default_rng(0).permuted(rows_GN, axis=1)
    found = _Shuffler(rows, rows_GN).values(shuffled)
    expected = row_correlations(rows.human_N[rows_GN], rows.score_N[shuffled])
    np.testing.assert_allclose(found, np.column_stack(expected), atol=1e-12)
