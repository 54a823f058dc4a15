"""Bradley-Terry: values by hand, an optimiser as an oracle, planted effects of length, what data do not determine."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from judging.stats.bradley_terry import Strengths, bradley_terry
from judging.stats.pairs import Comparisons, win_rates
from tests.judging.stats.test_pairs import comparisons, of_two, turned


def beaten(wins: int, losses: int, ties: int = 0) -> Comparisons:
    return of_two([1.0] * wins + [0.0] * losses + [0.5] * ties)


def test_two_systems_by_hand() -> None:
    # 7 of 10, half a win and half a loss more: the difference is log(7.5 / 3.5) = .762, half of it for each.
    found = bradley_terry(beaten(7, 3))
    a, b = found.strengths["a"], found.strengths["b"]
    assert a.value == pytest.approx(math.log(7.5 / 3.5) / 2)
    assert (b.value, b.low, b.high) == pytest.approx((-a.value, -a.high, -a.low))
    # The variance of a logit is 1 / 7.5 + 1 / 3.5, that of the groups 10 / 9 of it but for the added pair:
    # groups 7 * (1 - p)^2 + 3 p^2 = 2.103 with p = 7.5 / 11, the added pair ((1 - p)^2 + p^2) / 2 = .283, and
    # (10 / 9 * 2.103 + .283) / (11 p (1 - p))^2 = .460. Student's t of 9 is 2.262.
    assert a.high - a.value == pytest.approx(2.262 * math.sqrt(0.460) / 2, abs=0.001)
    assert (a.n, a.coverage, found.no_upper_end, found.no_lower_end) == (10, 1.0, [], [])
    # Two ties are a win for each.
    assert bradley_terry(beaten(6, 2, 2)).strengths["a"].value == pytest.approx(a.value)
    assert bradley_terry(beaten(5, 5)).strengths["a"].value == pytest.approx(0, abs=1e-9)
    assert math.isnan(bradley_terry(beaten(3, 2)).strengths["a"].low)


def test_a_system_that_always_wins_has_a_strength_without_an_upper_end() -> None:
    found = bradley_terry(beaten(20, 0))
    a, b = found.strengths["a"], found.strengths["b"]
    assert a.value == pytest.approx(math.log(20.5 / 0.5) / 2)
    assert a.high == math.inf and b.low == -math.inf and 0 < a.low < a.value and b.high == pytest.approx(-a.low)
    assert (found.no_upper_end, found.no_lower_end) == (["a"], ["b"])
    # A tie is half a loss: the strength has an end.
    tied = bradley_terry(beaten(20, 0, 1))
    assert (tied.no_upper_end, math.isfinite(tied.strengths["a"].high)) == ([], True)
    # With few groups there is no interval at all.
    assert math.isnan(bradley_terry(beaten(5, 0)).strengths["a"].high)


def test_what_always_wins_leaves_the_others_as_they_are() -> None:
    others = [(f"g{n}", "b", "c", float(n < 12), 0.0) for n in range(20)]
    winner = [(f"g{n}", "a", "b", 1.0, 0.0) for n in range(20)]
    found, alone = bradley_terry(comparisons([*others, *winner])), bradley_terry(comparisons(others))
    assert (found.no_upper_end, found.no_lower_end) == (["a"], [])
    assert found.strengths["a"].high == math.inf and found.strengths["a"].low > found.strengths["b"].value
    for name in ("b", "c"):
        one, plain = found.strengths[name], alone.strengths[name]
        assert (one.value, one.low, one.high) == pytest.approx((plain.value, plain.low, plain.high), abs=0.02)
    # Once c wins against a, each has won against each, over others: nothing is open.
    closed = bradley_terry(comparisons([*others, *winner, ("g0", "c", "a", 1.0, 0.0)]))
    assert (closed.no_upper_end, closed.no_lower_end) == ([], [])
    assert sum(one.value for one in closed.strengths.values()) == pytest.approx(0)


def simulated(num_groups: int, strengths: list[float], gamma: float, seed: int, ties: float = 0.1) -> list[Any]:
    random = np.random.default_rng(seed)
    rows = []
    for group in range(num_groups):
        for one in range(len(strengths)):
            for other in range(one):
                longer = float(random.normal(one - other))
                chance = expit(strengths[one] - strengths[other] + gamma * math.tanh(longer))
                outcome = float(random.choice([0.5, random.random() < chance], p=[ties, 1 - ties]))
                rows.append((f"g{group}", f"s{one}", f"s{other}", outcome, longer))
    return rows


def penalised(rows: list[Any], with_length: bool) -> Any:
    """The oracle: Firth's likelihood, pair by pair, as a general optimiser maximises it."""
    names = sorted({name for row in rows for name in row[1:3]})
    spread = math.sqrt(sum(row[4] ** 2 for row in rows) / len(rows)) or 1.0
    design = np.zeros((len(rows), len(names) + 1))
    for place, (_, one, other, _, longer) in enumerate(rows):
        design[place, names.index(one)] = 1
        design[place, names.index(other)] = -1
        design[place, -1] = math.tanh(longer / spread)
    design = design[:, 1:] if with_length else design[:, 1:-1]
    outcome = np.array([row[3] for row in rows])

    def loss(parameters: Any) -> float:
        logits = design @ parameters
        curve = expit(logits) * (1 - expit(logits))
        likelihood = float((outcome * logits - np.logaddexp(0, logits)).sum())
        return -likelihood - float(np.linalg.slogdet(design.T @ (curve[:, None] * design))[1]) / 2

    found = minimize(loss, np.zeros(design.shape[1]), tol=1e-10).x
    theta = np.concatenate([[0.0], found[: len(names) - 1]])
    return dict(zip([*names, "gamma"], [*(theta - theta.mean()), found[-1]], strict=True))


@given(st.integers(0, 1000))
def test_the_strengths_are_those_of_a_general_optimiser(seed: int) -> None:
    rows = simulated(6, [0.0, 1.0, -1.0], 1.0, seed)
    found = bradley_terry(comparisons(rows))
    plain, controlled = penalised(rows, False), penalised(rows, True)
    differences = {name: one.value - found.strengths["s0"].value for name, one in found.strengths.items()}
    assert differences == pytest.approx({name: plain[name] - plain["s0"] for name in found.strengths}, abs=1e-3)
    if found.controlled:
        assert found.length_effect is not None
        assert found.length_effect.value == pytest.approx(controlled["gamma"], abs=1e-3)
        # s0 meets s1 and s2 as often: the mean of what the model predicts without lengths.
        chances = [expit(controlled["s0"] - controlled[other]) for other in ("s1", "s2")]
        assert found.controlled["s0"].value == pytest.approx(sum(chances) / 2, abs=1e-3)


def test_neither_the_order_of_rows_nor_of_a_pair_matters() -> None:
    def values(rows: list[Any]) -> list[float]:
        found = bradley_terry(comparisons(rows))
        some = [*found.strengths.values(), *found.controlled.values()]
        return [end for one in some for end in (one.value, one.low, one.high)]

    rows = simulated(10, [0.0, 1.0, -1.0], 1.0, 0)
    plain = values(rows)
    assert len(plain) == 18
    assert values(rows[::-1]) == pytest.approx(plain)
    assert values([turned(row) for row in rows]) == pytest.approx(plain)


def test_a_group_with_several_texts_of_a_system_counts_once() -> None:
    # Both texts of a against both of b in g0, which a wins; elsewhere a wins 3 of 9.
    several = of_two([1.0] * 4 + [1.0] * 3 + [0.0] * 6, [0] * 4 + list(range(1, 10)))
    found, once = bradley_terry(several).strengths["a"], bradley_terry(beaten(4, 6)).strengths["a"]
    assert (found.value, found.low, found.high) == pytest.approx((once.value, once.low, once.high))


def test_what_length_alone_wins_is_taken_out() -> None:
    # Equal systems, s1 writes longer by one standard deviation, and the judge likes length.
    rows = comparisons(simulated(400, [0.0, 0.0], 3.0, 0))
    found = bradley_terry(rows)
    plain, controlled = win_rates(rows).of["s1"], found.controlled["s1"]
    assert plain.low > 0.6
    assert controlled.low < 0.5 < controlled.high and controlled.value == pytest.approx(0.5, abs=0.08)
    assert found.length_effect is not None and found.length_effect.low > 1


@pytest.mark.parametrize("longer", [0.0, 100.0])
def test_lengths_that_do_not_vary_or_only_with_the_systems_control_nothing(longer: float) -> None:
    # a wins 15 of 20: by being a, or by being longer, nobody can say.
    rows = [(f"g{n}", "a", "b", float(n < 15), longer) for n in range(20)]
    found = bradley_terry(comparisons(rows))
    assert (found.controlled, found.length_effect) == ({}, None)
    assert found.strengths["a"].value == pytest.approx(math.log(15.5 / 5.5) / 2)


def test_lengths_that_vary_little_beside_the_systems_control_with_a_wide_interval() -> None:
    random = np.random.default_rng(0)
    rows = [(f"g{n}", "a", "b", float(n < 150), 100 + random.normal(0, 10)) for n in range(200)]
    found = bradley_terry(comparisons(rows)).controlled["a"]
    assert found.high - found.low > 0.8


def test_a_judge_that_reads_only_the_length_has_an_effect_without_an_end() -> None:
    rows = [(f"g{n}", "a", "b", float(n % 3 > 0), 30.0 - n if n % 3 else n - 30.0) for n in range(20)]
    found = bradley_terry(comparisons(rows))
    assert found.controlled == {} and found.length_effect is not None
    assert found.length_effect.high == math.inf and 0 < found.length_effect.value < math.inf
    short = bradley_terry(comparisons([(*row[:4], -row[4]) for row in rows])).length_effect
    assert short is not None and short.low == -math.inf and short.value == pytest.approx(-found.length_effect.value)
    # Where one system wins everything, that is enough to explain it: nothing is known about lengths.
    won = bradley_terry(comparisons([(*row[:3], 1.0, row[4]) for row in rows]))
    assert (won.controlled, won.length_effect) == ({}, None)


def test_systems_that_no_comparison_connects_are_not_ranked() -> None:
    rows = [("g", "a", "b", 1.0, 0.0), ("g", "c", "d", 0.0, 0.0), ("h", "b", "a", 0.0, 0.0), ("h", "e", "d", 0.5, 0.0)]
    found = bradley_terry(comparisons(rows))
    assert found.apart == [["a", "b"], ["c", "d", "e"]]
    assert (found.strengths, found.controlled, found.length_effect) == ({}, {}, None)
    connected = bradley_terry(comparisons([*rows, ("h", "a", "e", 1.0, 0.0)]))
    assert connected.apart == [["a", "b", "c", "d", "e"]] and len(connected.strengths) == 5
    # d and e tied, the largest set in which each took something from each; a won against b and e, d against c. Of b
    # is only known that it is below a.
    assert (connected.no_upper_end, connected.no_lower_end) == (["a", "b"], ["b", "c"])


def test_nothing_scored_has_no_strengths() -> None:
    assert bradley_terry(comparisons([("g", "a", "b", None, 1.0)])) == ({}, {}, None, [], [], [])


def test_a_system_in_few_groups_has_no_interval_and_spoils_no_other() -> None:
    rows = [(f"g{n}", "a", "b", float(n % 2), 0.0) for n in range(100)]
    found = bradley_terry(comparisons([*rows, ("g0", "a", "c", 1.0, 0.0)]))
    assert (found.strengths["c"].n, math.isnan(found.strengths["c"].low), found.no_lower_end) == (1, True, ["c"])
    # 50 wins of 100: each end at 1.984 sqrt(4 / 100) / 2 = .198.
    assert found.strengths["a"].high == pytest.approx(0.198, abs=0.005)


@pytest.mark.parametrize("num_groups", [10, 40])
@pytest.mark.parametrize("truth", [[0.0, 0.7, -0.7], [3.0, 0.0, -1.0]])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(num_groups: int, truth: list[float]) -> None:
    inside = 0
    for seed in range(100):
        found = bradley_terry(comparisons(simulated(num_groups, truth, 0.0, seed, ties=0)))
        core = _core(found)
        for system, value in enumerate(truth):
            one = found.strengths[f"s{system}"]
            inside += one.low <= value - sum(truth[place] for place in core) / len(core) <= one.high
    # 95 % of 300; three systems of a sample are not independent.
    assert 270 <= inside <= 298


@pytest.mark.parametrize("gamma", [1.0, 3.0])
def test_the_intervals_hold_the_length_controlled_win_rate_about_as_often(gamma: float) -> None:
    inside, truth = 0, expit(0.5)
    for seed in range(100):
        found = bradley_terry(comparisons(simulated(40, [0.5, 0.0], gamma, seed, ties=0)))
        assert found.controlled
        inside += found.controlled["s0"].low <= truth <= found.controlled["s0"].high
    # Binomial of 100 with .95: 87 or more in 99.9 %.
    assert inside >= 87


def _core(found: Strengths) -> list[int]:
    """The systems whose strengths are 0 on average."""
    names = [name for name in found.strengths if name not in [*found.no_upper_end, *found.no_lower_end]]
    return [int(name[1:]) for name in names or found.strengths]
