"""The choice of the best judge for a task and aspect."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judging.stats.estimate import of_order
from judging.stats.rows import Columns
from judging.voting.selection import choose_judge

GROUPS = [f"g{place // 4}" for place in range(80)]
HUMAN = [float(1 + place % 4) for place in range(80)]  # 1 2 3 4 in each of 20 groups
COLUMNS = Columns(GROUPS, HUMAN, [None] * 80)
RIGHT = HUMAN
SWAPPED = [{1.0: 1.0, 2.0: 3.0, 3.0: 2.0, 4.0: 4.0}[value] for value in HUMAN]  # Spearman .8 in every group
WRONG = [5 - value for value in HUMAN]  # -1


def test_the_best_wins_where_it_is_shown_to_be_better() -> None:
    chosen = choose_judge(COLUMNS, {"a": SWAPPED, "b": RIGHT, "c": WRONG}, {"a": 1, "b": 9, "c": 1}, resamples=200)
    assert chosen.judge == "b"
    assert "highest group.spearman" in chosen.why
    values = {name: one.agreement.value for name, one in chosen.candidates.items()}
    assert values == pytest.approx({"a": 0.8, "b": 1.0, "c": -1.0})
    # Every group differs by the same .2, so the interval is that point.
    behind = chosen.candidates["a"].minus_best
    assert behind is not None and (behind.value, behind.low, behind.high) == pytest.approx((-0.2, -0.2, -0.2))


def test_of_equal_judges_the_cheaper_wins() -> None:
    chosen = choose_judge(COLUMNS, {"dear": RIGHT, "cheap": list(RIGHT)}, {"dear": 2, "cheap": 1}, resamples=200)
    assert chosen.judge == "cheap"


def test_a_cheaper_judge_wins_where_the_interval_holds_zero() -> None:
    # Half of the groups of each judge are in order, the other half reversed: both 0 on average, differently.
    first = [h if place < 40 else 5 - h for place, h in enumerate(HUMAN)]
    noisy = [h if place % 8 < 4 else 5 - h for place, h in enumerate(HUMAN)]
    better = [h if place < 44 else 5 - h for place, h in enumerate(HUMAN)]  # one group more: .1
    found = choose_judge(COLUMNS, {"better": better, "noisy": noisy}, {"better": 5, "noisy": 1}, resamples=500)
    assert found.judge == "noisy" and "cheapest" in found.why and "better" in found.why
    same = choose_judge(COLUMNS, {"better": better, "first": first}, {"better": 1, "first": 5}, resamples=500)
    assert same.judge == "better"


def test_a_judge_that_scored_too_little_is_out() -> None:
    half = [None if place % 2 else value for place, value in enumerate(RIGHT)]
    chosen = choose_judge(COLUMNS, {"half": half, "whole": SWAPPED}, {"half": 1, "whole": 5}, resamples=50)
    assert chosen.judge == "whole" and "only judge" in chosen.why
    assert chosen.candidates["half"].out == "its coverage is 50% of the rows, below 90%"


def test_no_judge_can_be_chosen() -> None:
    silent, constant = [None] * 80, [3.0] * 80
    chosen = choose_judge(COLUMNS, {"silent": silent, "constant": constant}, {"silent": 1, "constant": 1}, resamples=50)
    assert chosen.judge is None
    assert chosen.candidates["constant"].out == "its agreement is undefined"
    assert chosen.candidates["silent"].out == "its coverage is 0% of the rows, below 90%"


def test_without_an_interval_the_best_is_taken() -> None:
    one_group = Columns(["g"] * 4, [1.0, 2.0, 3.0, 4.0], [None] * 4)
    scores = {"cheap": [1.0, 3.0, 2.0, 4.0], "dear": [1.0, 2.0, 3.0, 4.0]}
    chosen = choose_judge(one_group, scores, {"cheap": 1, "dear": 9}, resamples=50)
    assert chosen.judge == "dear"
    assert math.isnan(chosen.candidates["cheap"].minus_best.high)  # type: ignore[union-attr]


def test_the_order_of_judges_and_rows_changes_nothing() -> None:
    noise = np.random.default_rng(3)
    scores = {name: list(np.array(HUMAN) + noise.normal(0, 2, 80)) for name in "abcd"}
    costs = dict.fromkeys("abcd", 1.0)
    first = choose_judge(COLUMNS, scores, costs, resamples=200)
    turned = Columns(GROUPS[::-1], HUMAN[::-1], [None] * 80)
    again = choose_judge(turned, {n: scores[n][::-1] for n in "dcba"}, costs, resamples=200)
    assert again.judge == first.judge
    assert {n: c.agreement.value for n, c in again.candidates.items()} == pytest.approx(
        {n: c.agreement.value for n, c in first.candidates.items()}
    )


def test_smaller_is_never_taken_for_better() -> None:
    assert of_order("group.spearman") == "group.spearman"
    for name in ("dataset.mean_absolute_error", "dataset.krippendorff_alpha", "spearman"):
        with pytest.raises(ValueError, match=r"must be one of dataset\.pearson"):
            of_order(name)
