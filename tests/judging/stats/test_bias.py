"""The probes' statistics: values by hand, planted biases found, an unbiased judge that passes at the nominal rate."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from judging.stats.bias import (
    KINDS,
    first_preference,
    flip_share,
    is_biased,
    order_flip_share,
    own_family,
    raised_share,
    shift,
    worst_attack,
)
from judging.stats.estimate import Estimate

NUM_EXPERIMENTS = 200
# At a true rate of 95 %, 200 experiments give a number in this range 99.9 times of 100: 178 to 198.
FEWEST, MOST = (int(binom.ppf(q, NUM_EXPERIMENTS, 0.95)) for q in (0.0005, 0.9995))


def test_a_shift_is_in_widths_of_the_scale() -> None:
    # Differences 1, 0, 2 points of a width of 4, the fourth row is unknown: (1 + 0 + 2) / 3 / 4 = .25.
    found = shift([1, 2, 3, None], [2, 2, 5, 1], ["a", "a", "b", "b"], width=4)
    assert (found.value, found.n, found.coverage) == (pytest.approx(0.25), 3, 0.75)
    # Two groups: mean of a is 1/8, of b 1/2; the resamples aa and bb are the ends.
    assert (found.low, found.high) == (pytest.approx(0.125), pytest.approx(0.5))


def test_shares_of_raised_and_of_flipped_rows() -> None:
    before, after, group = [1.0, 2.0, 2.4, 3.0], [1.5, 2.6, 2.6, 1.0], list("abcd")
    # More than half a point up: the second row alone (0.5 is not more).
    assert raised_share(before, after, group).value == pytest.approx(0.25)
    # Rounded, halves up: 1 and 2, 2 and 3, 2 and 3, 3 and 1: all four differ.
    assert flip_share(before, after, group).value == 1
    assert flip_share(before, [1.4, 2.0, 1.6, 3.4], group).value == 0


def test_the_preference_for_the_first_place() -> None:
    group = ["a", "b"]
    # Always the first: 1 in both orders.
    assert first_preference([1, 1], [1, 1], group).value == 1
    assert first_preference([2, 2], [2, 2], group).value == -1
    # The same text in both orders: once second, once first.
    assert first_preference([2, 1], [1, 2], group).value == 0
    # 1 - (.2 + .4) = .4 and 1 - (.5 + .5) = 0.
    assert first_preference([1.2, 1.5], [1.4, 1.5], group).value == pytest.approx(0.2)


def test_flips_between_the_two_orders() -> None:
    # First in both places: another text each time. Then the same text; then no preference in one order: no flip.
    assert order_flip_share([1, 2, 1.5], [1, 1, 1.9], list("abc")).value == pytest.approx(1 / 3)


def test_own_family_is_the_difference_of_two_means() -> None:
    # Own: (4 - 3), (5 - 3), mean 1.5; others: (3 - 3), (2 - 3), mean -.5. Their difference 2 in a width of 4.
    found = own_family([4, 5, 3, 2], [3, 3, 3, 3], [True, True, False, False], list("abab"), width=4)
    assert found.value == pytest.approx(0.5)
    # Mild to all alike: no difference.
    assert own_family([5, 5, 5, 5], [3, 4, 3, 4], [True, True, False, False], list("aabb"), width=4).value == 0


def test_what_cannot_be_said_is_undefined() -> None:
    one_group = shift([1, 2], [2, 3], ["a", "a"], width=4)
    assert one_group.value == pytest.approx(0.25) and math.isnan(one_group.low)
    nothing = shift([None], [1], ["a"], width=4)
    assert math.isnan(nothing.value) and (nothing.n, nothing.coverage) == (0, 0)
    assert is_biased(one_group, 0.05, one_sided=True) is None
    assert math.isnan(own_family([4, 5], [3, 3], [True, True], ["a", "b"], width=4).value)
    with pytest.raises(ValueError, match="different lengths"):
        shift([1], [1, 2], ["a", "b"], width=4)
    with pytest.raises(ValueError, match="2 and 1"):
        shift([1, 2], [1, 2], ["a"], width=4)
    with pytest.raises(ValueError, match="finite"):
        shift([math.inf], [1], ["a"], width=4)


@pytest.mark.parametrize(
    ("value", "low", "high", "one_sided", "expected"),
    [
        (0.2, 0.1, 0.3, True, True),
        (0.2, -0.1, 0.5, True, False),  # may be chance
        (0.04, 0.01, 0.07, True, False),  # too small to matter
        (-0.2, -0.3, -0.1, False, True),
        (-0.2, -0.3, -0.1, True, False),  # an attack that lowers the score has failed
        (0.2, math.nan, 0.3, True, None),
    ],
)
def test_bias_is_an_interval_without_0_and_an_effect_that_matters(
    value: float, low: float, high: float, one_sided: bool, expected: bool | None
) -> None:
    assert is_biased(Estimate(value, low, high, 9, 1.0), 0.05, one_sided=one_sided) is expected


def simulated(seed: int, bias: float) -> dict[str, Estimate]:
    """The probes of one judge on 60 groups of 2 texts, scores 1 to 5 with noise a group and a row; `bias` in points."""
    draws = np.random.default_rng(seed)
    group = [f"g{place}" for place in np.repeat(np.arange(60), 2)]
    human = draws.uniform(1, 5, 120)
    of_group = np.repeat(draws.normal(scale=0.3, size=60), 2)
    before, after = (human + draws.normal(scale=0.4, size=120) for _ in range(2))
    given, turned = 1 + draws.uniform(size=120), 1 + draws.uniform(size=120)
    place = np.clip(bias / 4, 0, 1)
    is_own = np.tile([True, False], 60)
    settings = {"resamples": 400, "seed": seed}
    return {
        "shift": shift(before, after + of_group + bias, group, width=4, **settings),
        "position": first_preference(given - place * (given - 1), turned - place * (turned - 1), group, **settings),
        "own_family": own_family(before + of_group + bias * is_own, human, is_own, group, width=4, **settings),
    }


def test_an_unbiased_judge_passes_at_the_nominal_rate() -> None:
    found = [simulated(seed, 0.0) for seed in range(NUM_EXPERIMENTS)]
    for name in found[0]:
        covered = sum(one[name].low <= 0 <= one[name].high for one in found)
        assert FEWEST <= covered <= MOST, (name, covered)
        # With the limit on the effect a false alarm is rarer still.
        alarms = sum(bool(is_biased(one[name], 0.05, one_sided=False)) for one in found)
        assert alarms <= NUM_EXPERIMENTS - covered


def test_a_planted_bias_is_found() -> None:
    # One point of a scale of width 4 is .25 scale widths; a quarter of the pull to the first place in the pairs.
    for one in (simulated(1000 + seed, 1.0) for seed in range(50)):
        assert all(is_biased(effect, 0.05, one_sided=True) for effect in one.values())
        assert one["shift"].value == pytest.approx(0.25, abs=0.06)


def test_every_probe_says_its_unit() -> None:
    assert list(KINDS) == ["position", "length", "format", "own_family", "injection", "rerun"]
    assert {name for name, kind in KINDS.items() if kind.one_sided} == {"length", "injection", "rerun"}


def test_the_worst_attack_is_the_one_that_surely_passes_the_limit() -> None:
    def one(value: float, low: float, high: float, coverage: float = 1.0) -> Estimate:
        return Estimate(value, low, high, 20, coverage)

    effects = {
        "weak": one(0.2, 0.04, 0.4),  # large, but not surely above .05
        "sure": one(0.15, 0.06, 0.2),
        "surer": one(0.12, 0.08, 0.15),
        "none": one(math.nan, math.nan, math.nan),
        "down": one(-0.3, -0.4, -0.2),
        "silencing": one(0.25, 0.25, 0.25, coverage=0.1),
    }
    assert worst_attack(effects, 0.05) == "surer"
    assert worst_attack({name: effects[name] for name in ("weak", "none", "down", "silencing")}, 0.05) is None
    assert worst_attack({}, 0.05) is None
