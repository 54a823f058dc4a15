"""Bradley-Terry: values by hand, scipy's optimiser as an oracle, planted effects of length, systems never compared."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from judging.stats.bradley_terry import PRECISION, bradley_terry
from judging.stats.pairs import Comparisons, win_rates
from tests.judging.stats.test_pairs import ROWS, comparisons, turned


def beaten(wins: int, losses: int, ties: int = 0) -> Comparisons:
    """`a` against `b`, each pair a group of its own."""
    outcome = [1.0] * wins + [0.0] * losses + [0.5] * ties
    number = len(outcome)
    return Comparisons([str(n) for n in range(number)], ["a"] * number, ["b"] * number, outcome, [0.0] * number)


def test_two_systems_by_hand() -> None:
    # 7 of 10: the difference is log(7 / 3) = .8473, half of it for each; the prior takes a little off.
    found = bradley_terry(beaten(7, 3))
    assert found.strengths["a"].value == pytest.approx(math.log(7 / 3) / 2, abs=0.002)
    assert found.strengths["b"].value == pytest.approx(-found.strengths["a"].value)
    # Exactly: 7 - 10 p = .01 theta.
    theta = found.strengths["a"].value
    assert 7 - 10 * expit(2 * theta) == pytest.approx(PRECISION * theta)
    # Two ties are a win for each.
    assert bradley_terry(beaten(6, 2, 2)).strengths["a"].value == pytest.approx(theta)
    assert bradley_terry(beaten(5, 5)).strengths["a"].value == pytest.approx(0, abs=1e-9)


def test_a_system_that_always_wins_stays_finite() -> None:
    found = bradley_terry(beaten(10, 0))
    theta = found.strengths["a"].value
    assert 2 < theta < 4 and 10 * (1 - expit(2 * theta)) == pytest.approx(PRECISION * theta)
    # Every resample is the same.
    assert found.strengths["a"].low == pytest.approx(theta) == found.strengths["a"].high


def simulated(num_groups: int, strengths: list[float], gamma: float, seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    rows = []
    for group in range(num_groups):
        for one in range(len(strengths)):
            for other in range(one):
                longer = float(random.normal(one - other))
                chance = expit(strengths[one] - strengths[other] + gamma * math.tanh(longer))
                outcome = float(random.choice([0.5, random.random() < chance], p=[0.1, 0.9]))
                rows.append((f"g{group}", f"s{one}", f"s{other}", outcome, longer))
    return rows


def posterior(rows: list[Any], with_length: bool) -> Any:
    """The oracle: the penalised likelihood, pair by pair, as a general optimiser minimises it."""
    names = sorted({name for row in rows for name in row[1:3]})
    spread = math.sqrt(sum(row[4] ** 2 for row in rows) / len(rows)) or 1.0

    def loss(parameters: Any) -> float:
        total = PRECISION / 2 * float((parameters**2).sum())
        for _, one, other, outcome, longer in rows:
            logit = parameters[names.index(one)] - parameters[names.index(other)]
            logit += parameters[-1] * math.tanh(longer / spread) * with_length
            total += math.log1p(math.exp(-abs(logit))) + max(logit, 0) - outcome * logit
        return total

    return dict(zip([*names, "gamma"], minimize(loss, np.zeros(len(names) + 1), tol=1e-10).x, strict=True))


@given(st.integers(0, 1000))
def test_the_strengths_are_those_of_a_general_optimiser(seed: int) -> None:
    rows = simulated(3, [0.0, 2.0, -1.0], 1.0, seed)
    found = bradley_terry(comparisons(rows), resamples=2)
    plain, controlled = posterior(rows, False), posterior(rows, True)
    assert {name: one.value for name, one in found.strengths.items()} == pytest.approx(
        {name: plain[name] for name in found.strengths}, abs=1e-3
    )
    assert found.length_effect is not None and found.length_effect.value == pytest.approx(controlled["gamma"], abs=1e-3)
    # s0 meets s1 and s2 three times each: the mean of what the model predicts without lengths.
    chances = [expit(controlled["s0"] - controlled[other]) for other in ("s1", "s2")]
    assert found.controlled["s0"].value == pytest.approx(sum(chances) / 2, abs=1e-3)


def test_neither_the_order_of_rows_nor_of_a_pair_matters() -> None:
    def values(rows: list[Any]) -> list[float]:
        found = bradley_terry(comparisons(rows), resamples=50)
        some = [*found.strengths.values(), *found.controlled.values()]
        return [end for one in some for end in (one.value, one.low, one.high)]

    plain = values(ROWS)
    assert values(ROWS[::-1]) == pytest.approx(plain)
    assert values([turned(row) for row in ROWS]) == pytest.approx(plain)


def test_what_length_alone_wins_is_taken_out() -> None:
    # Equal systems, s1 writes longer by one standard deviation, and the judge likes length.
    rows = comparisons(simulated(400, [0.0, 0.0], 3.0, 0))
    found = bradley_terry(rows, resamples=200)
    plain, controlled = win_rates(rows, resamples=200).of["s1"], found.controlled["s1"]
    assert plain.low > 0.6
    assert controlled.low < 0.5 < controlled.high and controlled.value == pytest.approx(0.5, abs=0.08)
    assert found.length_effect is not None and found.length_effect.low > 1


def test_texts_of_one_length_have_no_length_effect() -> None:
    found = bradley_terry(beaten(7, 3))
    assert found.length_effect is not None and found.length_effect.value == 0
    # Then the controlled win rate is the model's plain one.
    assert found.controlled["a"].value == pytest.approx(expit(2 * found.strengths["a"].value))


def test_systems_that_no_comparison_connects_are_not_ranked() -> None:
    rows = [("g", "a", "b", 1.0, 0.0), ("g", "c", "d", 0.0, 0.0), ("h", "b", "a", 0.0, 0.0), ("h", "e", "d", 0.5, 0.0)]
    found = bradley_terry(comparisons(rows))
    assert found.apart == [["a", "b"], ["c", "d", "e"]]
    assert (found.strengths, found.controlled, found.length_effect) == ({}, {}, None)
    connected = bradley_terry(comparisons([*rows, ("h", "a", "e", 1.0, 0.0)]))
    assert connected.apart == [["a", "b", "c", "d", "e"]] and len(connected.strengths) == 5
    # Only both groups together connect all: half of the resamples have one of them twice.
    assert connected.strengths["a"].dropped_share == pytest.approx(0.5, abs=0.05)


def test_nothing_scored_has_no_strengths() -> None:
    assert bradley_terry(comparisons([("g", "a", "b", None, 1.0)])) == ({}, {}, None, [])


def test_the_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = [0.0, 0.7, -0.7]
    inside = 0
    for seed in range(60):
        found = bradley_terry(comparisons(simulated(60, truth, 0.0, seed)), resamples=200, seed=seed)
        one = found.strengths["s1"]
        # A tenth of the outcomes are ties, which draw the strength towards 0.
        inside += one.low <= _with_ties(truth) <= one.high
    # Binomial of 60 with .95: 51 or more in 99.9 %.
    assert inside >= 51


def _with_ties(truth: list[float]) -> float:
    """The strength of s1 in a sample without end: each chance is .9 p + .05."""
    rows = []
    for one in range(3):
        for other in range(one):
            chance = 0.9 * float(expit(truth[one] - truth[other])) + 0.05
            rows += [("g", f"s{one}", f"s{other}", chance, 0.0)] * 60
    return bradley_terry(comparisons(rows), resamples=2).strengths["s1"].value
