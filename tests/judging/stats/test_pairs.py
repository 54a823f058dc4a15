"""Win rates and the accuracy of preferences, by hand."""

import math
from typing import Any

import numpy as np
import pytest

from judging.stats.pairs import DIFFERENCE, Comparisons, mean, preference_accuracy, scored, win_rates

# Two groups of three systems. x: 1 + .5 + 1 + 1 of 4; y: .5 of 4; z: .5 + 1 + .5 of 4.
ROWS = [
    ("a", "x", "y", 1.0, 3.0),
    ("a", "x", "z", 0.5, -1.0),
    ("a", "y", "z", 0.0, 2.0),
    ("b", "x", "y", 1.0, 0.0),
    ("b", "x", "z", 1.0, 1.0),
    ("b", "y", "z", 0.5, -2.0),
]


def comparisons(rows: list[Any]) -> Comparisons:
    return Comparisons(*(list(column) for column in zip(*rows, strict=True)))


def turned(row: Any) -> Any:
    group, first, second, outcome, longer = row
    return group, second, first, None if outcome is None else 1 - outcome, -longer


def test_win_rates_by_hand() -> None:
    found = win_rates(comparisons(ROWS))
    assert {name: one.value for name, one in found.of.items()} == {"x": 0.875, "y": 0.125, "z": 0.5}
    assert {names: one.value for names, one in found.against.items()} == {
        ("x", "y"): 1.0,
        ("x", "z"): 0.75,
        ("y", "z"): 0.25,
    }
    # Two groups are too few for an interval.
    x = found.of["x"]
    assert (math.isnan(x.low), math.isnan(x.high), x.n, x.coverage) == (True, True, 2, 1.0)
    assert found.against["x", "z"].n == 2


def of_two(outcome: Any, groups: Any = None) -> Comparisons:
    """`a` against `b`; each pair a group of its own, unless groups are given."""
    number = len(outcome)
    named = [f"g{one}" for one in (range(number) if groups is None else groups)]
    return Comparisons(named, ["a"] * number, ["b"] * number, outcome, [0.0] * number)


def test_the_interval_of_a_system_that_wins_every_pair_by_hand() -> None:
    found = win_rates(of_two([1.0] * 8)).of["a"]
    # Two wins and two losses more: 10 of 12; Student's t of 7 is 2.3646. 10/12 - 2.3646 sqrt(10/12 * 2/12 / 12) = .579.
    assert (found.value, found.high, found.n) == (1.0, 1.0, 8)
    assert found.low == pytest.approx(0.579, abs=0.0005)
    loser = win_rates(of_two([1.0] * 8)).of["b"]
    assert [loser.value, loser.low, loser.high] == pytest.approx([0.0, 0.0, 1 - found.low])
    # Five groups in which all agree happen to a fair coin once in 16 times: no interval.
    assert math.isnan(win_rates(of_two([1.0] * 5)).of["a"].low) and win_rates(of_two([1.0] * 6)).of["a"].low > 0


@pytest.mark.parametrize("num_groups", [10, 20, 40])
@pytest.mark.parametrize("chance", [0.5, 0.9, 0.95])
def test_the_intervals_hold_a_win_rate_near_1_as_often_as_they_say(num_groups: int, chance: float) -> None:
    inside = 0
    for seed in range(300):
        found = win_rates(of_two((np.random.default_rng(seed).random(num_groups) < chance).astype(float))).of["a"]
        assert found.low < found.high
        inside += found.low <= chance <= found.high
    # Binomial of 300 with .95: 270 or more in 99.9 %.
    assert inside >= 270


@pytest.mark.parametrize(("num_groups", "rate"), [(10, 0.5), (40, 0.5), (40, 0.9)])
@pytest.mark.parametrize("alike", [0.0, 0.4, 1.0])
def test_the_intervals_know_that_pairs_of_a_group_are_alike(num_groups: int, rate: float, alike: float) -> None:
    inside, widths = 0, []
    for seed in range(200):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(num_groups), 9)
        own = (random.random(num_groups) < rate)[groups]
        wins = np.where(random.random(len(groups)) < alike**0.5, own, random.random(len(groups)) < rate)
        found = mean(wins.astype(float), [str(one) for one in groups])
        inside += found.low <= rate <= found.high
        widths.append(found.high - found.low)
    # Binomial of 200 with .95: 178 or more in 99.9 %; a few points less with few wins that come in groups.
    assert inside >= 174
    # Independent pairs: about as narrow as a normal interval of so many pairs, though Student's t is larger.
    wide = 2 * 1.96 * math.sqrt(rate * (1 - rate) / num_groups / (9 if alike == 0 else 1))
    assert alike == 0.4 or 0.9 * wide < np.median(widths) < 1.4 * wide


@pytest.mark.parametrize("num_groups", [10, 40])
def test_the_intervals_know_that_few_groups_have_most_of_the_pairs(num_groups: int) -> None:
    inside = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(num_groups), random.choice([1, 2, 20], num_groups))
        chance = random.beta(2, 0.5, num_groups)  # .8 on average
        found = mean((random.random(len(groups)) < chance[groups]).astype(float), [str(one) for one in groups])
        inside += found.low <= 0.8 <= found.high
    # With Student's t of all groups 85 % of 10 groups.
    assert inside >= 270


def test_a_group_with_several_texts_of_a_system_counts_once() -> None:
    # In g0 both texts of a win against both of b, in the other seven groups the only one loses.
    found = win_rates(of_two([1.0] * 4 + [0.0] * 7, [0] * 4 + list(range(1, 8)))).of["a"]
    assert found == win_rates(of_two([1.0] + [0.0] * 7)).of["a"]
    assert (found.value, found.n) == (1 / 8, 8)


def test_two_systems_that_met_in_few_groups_have_no_interval() -> None:
    rows = [(f"g{n}", "a", "b", float(n % 2), 0.0) for n in range(100)]
    found = win_rates(comparisons([*rows, ("g0", "a", "c", 1.0, 0.0), ("g1", "a", "c", None, 0.0)]))
    one = found.against["a", "c"]
    assert (one.value, one.n, one.coverage, math.isnan(one.low)) == (1.0, 1, 0.5, True)
    assert (found.of["c"].n, found.of["c"].coverage, math.isnan(found.of["c"].high)) == (1, 0.5, True)
    assert (found.of["b"].n, found.of["b"].coverage) == (100, 1.0) and found.of["b"].low < 0.5 < found.of["b"].high
    assert found.of["a"].coverage == 101 / 102


def test_neither_the_order_of_rows_nor_of_a_pair_matters() -> None:
    plain = win_rates(comparisons(ROWS))
    assert win_rates(comparisons(ROWS[::-1])) == plain
    assert win_rates(comparisons([turned(row) for row in ROWS])) == plain
    assert win_rates(comparisons([turned(row) if place % 2 else row for place, row in enumerate(ROWS)])) == plain


def test_unscored_pairs_lower_the_coverage_and_nothing_else() -> None:
    lost = [("c", "x", "y", None, 5.0), ("a", "w", "x", math.nan, 5.0)]
    found, plain = win_rates(comparisons([*ROWS, *lost])), win_rates(comparisons(ROWS))
    assert found.of.keys() == plain.of.keys()
    assert [one.value for one in found.of.values()] == [one.value for one in plain.of.values()]
    # x is in four scored pairs and the two others, y in four and one.
    assert (found.of["x"].coverage, found.of["y"].coverage, found.of["z"].coverage) == (4 / 6, 4 / 5, 1.0)
    assert found.against["x", "y"].coverage == 2 / 3
    nothing = win_rates(comparisons(lost))
    assert nothing == ({}, {})


def test_what_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="itself"):
        scored(comparisons([("a", "x", "x", 1.0, 0.0)]))
    with pytest.raises(ValueError, match="0 to 1"):
        scored(comparisons([("a", "x", "y", 2.0, 0.0)]))
    with pytest.raises(ValueError, match="lengths"):
        Comparisons(["a"], ["x"], ["y"], [1.0], [])


def test_accuracy_by_hand() -> None:
    outcome, human = [1, 0.5, 0, 1, None], [1.0, 1.0, 1.0, 0.0, -1.0]
    points, group = [2.0, -1.0, 0.0, 1.0, -3.0], list("abcde")
    found = preference_accuracy(outcome, human, points, group)
    # People tie the fourth. Pairs: right, a tie, wrong, unscored: (1 + .5 + 0) / 3.
    assert (found["pairs"].value, found["pairs"].n, found["pairs"].coverage) == (0.5, 3, 0.75)
    # Single scores on the same three: right, wrong, a tie: 1.5 / 3; the differences are 0, .5 and -.5.
    assert (found["points"].value, found["points"].n) == (0.5, 3)
    assert found["pairs_minus_points"].value == 0
    assert math.isnan(found["pairs_minus_points"].low)
    # Four times as many groups.
    groups = [f"{one}{number}" for number in range(4) for one in group]
    found = preference_accuracy(outcome * 4, human * 4, points * 4, groups)
    assert found["pairs_minus_points"].low < 0 < found["pairs_minus_points"].high


def test_the_interval_of_a_difference_that_is_always_0_by_hand() -> None:
    found = mean([0.0] * 9 + [None], list("abcdefghij"), DIFFERENCE)
    # Half an observation at 1 and half at -1 more: 0 +- t(8) sqrt(1) / 10, t(8) = 2.306.
    assert [found.value, found.low, found.high] == pytest.approx([0.0, -0.2306, 0.2306], abs=1e-4)
    assert (found.n, found.coverage) == (9, 0.9)


def test_a_tie_of_people_within_rounding_is_a_tie() -> None:
    assert preference_accuracy([1, 0], [0.1 + 0.2 - 0.3, None], [1, 1], ["a", "b"]) == {}
    assert preference_accuracy([1], [0.5], [None], ["a"])["points"].n == 0


def test_a_coin_and_a_judge_that_always_ties_have_one_half() -> None:
    random = np.random.default_rng(0)
    human = random.choice([-1.0, 1.0], 4000)
    coin = random.choice([0.0, 1.0], 4000)
    groups = [str(place) for place in range(4000)]
    assert preference_accuracy(coin, human, human, groups)["pairs"].value == pytest.approx(0.5, abs=0.03)
    tied = preference_accuracy(np.full(4000, 0.5), human, human, groups)
    assert tied["pairs"].value == 0.5 and tied["points"].value == 1 and tied["pairs_minus_points"].value == -0.5
