"""Statistics within groups, of system means and of AEOLLM, by hand; ties within rounding; rows without a system."""

import math

import numpy as np
import pytest

from judging.stats.agreement import agreement
from judging.stats.estimate import STATISTICS
from judging.stats.rows import Columns
from tests.judging.stats.making import simulated, sorted_rows, worked_example


def test_aeollm_by_hand() -> None:
    found = agreement(worked_example(), resamples=50)
    # Accuracy: a 0, b .9, c 1 (all tied), d .5 (every pair a model tie).
    assert found["aeollm.official.accuracy"].value == pytest.approx((0 + 0.9 + 1 + 0.5) / 4)
    # Tau-b: a -1, b .8, c and d undefined and counted 0; official takes |-1| = 1.
    assert found["aeollm.official.kendall"].value == pytest.approx((1 + 0.8) / 4)
    assert found["aeollm.signed.kendall"].value == pytest.approx((-1 + 0.8) / 4)
    assert found["aeollm.official.spearman"].value == pytest.approx((1 + 3.75 / 4.5) / 4)
    assert found["aeollm.signed.spearman"].value == pytest.approx((-1 + 3.75 / 4.5) / 4)
    assert found["aeollm.signed.spearman"].n == 4


def test_group_level_leaves_undefined_groups_out() -> None:
    found = agreement(worked_example(), resamples=50, levels=["group"])
    assert found["group.kendall_b"].value == pytest.approx((-1 + 0.8) / 2)
    assert (found["group.kendall_b"].n, found["group.kendall_b"].num_undefined) == (2, 2)
    # Accuracy is undefined for c only: (0 + .9 + .5) / 3.
    assert found["group.pairwise_accuracy"].value == pytest.approx(1.4 / 3)
    assert (found["group.pairwise_accuracy"].n, found["group.pairwise_accuracy"].num_undefined) == (3, 1)


def test_system_level_by_hand() -> None:
    # Mean human scores 6/4 7/4 10/4 13/4 rise; mean scores (4+1+1+5)/4 = 11/4, 12/4, 12/4, 13/4: one tie,
    # so tau-b = 5 / sqrt(6 * 5).
    found = agreement(worked_example(), resamples=50, levels=["system"])
    assert found["system.kendall_b"].value == pytest.approx(5 / math.sqrt(30))
    assert found["system.kendall_b"].n == 4


def test_group_and_system_replicates_are_exact() -> None:
    from judging.stats.group_level import aeollm_level, group_level, group_values, system_level

    columns = worked_example()
    rows = sorted_rows(columns)
    values = group_values(rows)
    weights = np.array([[2.0, 2, 0, 0], [0, 0, 4, 0], [0, 1, 1, 2]])
    tau = group_level(rows, values).resample(weights)[:, STATISTICS["group"].index("group.kendall_b")]
    # a twice, b twice: (-2 + 1.6) / 4; c only: undefined; b once: .8.
    np.testing.assert_allclose(tau, [-0.1, np.nan, 0.8])
    kendall = aeollm_level(rows, values).resample(weights)[:, 1]
    np.testing.assert_allclose(kendall, [(2 + 1.6) / 4, 0, 0.8 / 4])
    # a and b: human means 1 1.5 2.5 3.5, scores 2.5 2.5 2 2: two ties, four discordant pairs: -4 / sqrt(6 * 4).
    assert system_level(rows).resample(weights)[0, 2] == pytest.approx(-4 / math.sqrt(24))


def of_two_systems(unit: float, *, ratings: bool = False) -> Columns:
    """Two systems whose means over four questions are equal, in points of `unit`: in tenths the last bits differ."""
    human = {"a": (1, 2, 3, 7), "b": (1, 7, 3, 2)}
    rows = [(f"g{g}", system, human[system][g]) for system in human for g in range(4)]
    return Columns(
        group=[group for group, _, _ in rows],
        human=[round(value * unit, 1) for _, _, value in rows],
        score=[{"a": 1, "b": 2}[system] for _, system, _ in rows],
        system=[system for _, system, _ in rows],
    )


def test_equal_within_rounding_is_a_tie_at_the_level_of_systems() -> None:
    sums = [sum(one for one, of in zip(of_two_systems(0.1).human, "aaaabbbb", strict=True) if of == s) for s in "ab"]
    assert sums[0] != sums[1]  # 1.3 and 1.2999999999999998
    for name in STATISTICS["system"]:
        # Both means are 13/4: constant, so that there is no correlation.
        assert [math.isnan(agreement(of_two_systems(unit))[name].value) for unit in (1, 0.1)] == [True, True]


def test_equal_within_rounding_is_a_tie_within_a_group() -> None:
    human, score = [0.1 + 0.2, 0.3, 1.0], [1.0, 2.0, 3.0]
    found = agreement(Columns(["g"] * 3, human, score), shuffles=0)
    # One pair is tied: of the other two both are concordant. tau-b: 2 / sqrt(2 * 3).
    assert found["group.kendall_b"].value == pytest.approx(2 / math.sqrt(6))
    assert found["dataset.kendall_b"].value == pytest.approx(2 / math.sqrt(6))
    assert found["aeollm.official.accuracy"].value == 1


def test_a_row_without_a_system_counts_at_every_level_but_that_of_systems() -> None:
    whole = simulated(12, 4, seed=3)
    assert whole.system is not None
    some = Columns(whole.group, whole.human, whole.score, [None, *whole.system[1:]])
    rest = Columns(whole.group[1:], whole.human[1:], whole.score[1:], whole.system[1:])
    found, of_all, of_rest = (agreement(columns, shuffles=20) for columns in (some, whole, rest))
    for name in of_all:
        level = name.removeprefix("floor.").split(".")[0]
        if level != "system":
            assert found[name] == of_all[name]
    for name in STATISTICS["system"]:
        assert found[name].value == pytest.approx(of_rest[name].value)
        assert found[name].n == 4
        assert math.isfinite(found[f"floor.{name}"].value)
