"""Win rates and the accuracy of preferences, by hand."""

import math
from typing import Any

import numpy as np
import pytest

from judging.stats.pairs import Comparisons, preference_accuracy, scored, win_rates

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
    x = found.of["x"]
    # Group a alone gives x 1.5 of 2, group b 2 of 2: the ends of the resamples aa and bb.
    assert (x.low, x.high, x.n, x.coverage) == (0.75, 1.0, 4, 1.0)
    assert found.against["x", "z"].n == 2


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
    assert found.of["x"].coverage == 0.75
    nothing = win_rates(comparisons(lost))
    assert nothing == ({}, {})


def test_one_group_has_no_interval() -> None:
    found = win_rates(comparisons(ROWS[:3])).of["x"]
    assert (found.value, math.isnan(found.low)) == (0.75, True)


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
    assert found["pairs_minus_points"].low < 0 < found["pairs_minus_points"].high


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
