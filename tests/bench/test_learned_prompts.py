"""The statistics of the study of learned prompts, on values worked out by hand."""

import numpy as np
import pytest

from tests.bench.learned_prompts import between, fixed, minus, repeated, repeated_by_chance, selected, words


def test_the_variance_between_examples_is_all_of_it_where_the_samples_of_an_example_are_alike():
    # Means 1, 1, 3, 3: total variance 1, and both examples' means are 1 from the overall mean 2.
    share, chance = between(np.array([1.0, 1.0, 3.0, 3.0]), ["a", "a", "b", "b"])
    assert share == pytest.approx(1.0)
    # Of the 3 ways to pair four prompts, one gives 1 and two give 0.
    assert chance == pytest.approx(1 / 3, abs=0.05)


def test_a_prompt_that_is_best_everywhere_is_selected_in_every_fold():
    values_PG = np.array([[0.1] * 10, [0.5] * 10, [0.3] * 10])
    assert selected(values_PG)(np.ones((1, 10)))[0] == pytest.approx(np.full(10, 0.5))


def test_a_prompt_that_is_best_on_one_group_only_is_not_selected_for_that_group():
    # On the other nine groups the first prompt is better, so the second's 1.0 is never seen held out.
    values_PG = np.array([[0.2] * 10, [0.0] * 9 + [1.0]])
    assert selected(values_PG)(np.ones((1, 10)))[0, 9] == pytest.approx(0.2)


def test_the_spread_repeats_where_it_is_the_prompts_and_not_where_it_is_the_groups():
    same_PG = np.repeat(np.array([[0.0], [0.2], [0.4]]), 20, axis=1)
    assert repeated(same_PG) == pytest.approx(1.0)
    noise_PG = np.random.default_rng(1).normal(size=(40, 200))
    assert abs(repeated(noise_PG)) < 0.3


def test_the_interval_of_a_mean_leaves_undefined_groups_out():
    assert words(fixed(np.array([0.5, np.nan, 0.5])), 3) == "0.50 [0.50, 0.50]"


def test_where_no_prompt_is_better_a_selected_one_is_not_shown_to_be():
    random = np.random.default_rng(5)
    left_out = 0
    for _ in range(20):
        values_PG = random.normal(size=(8, 25))
        found = words(minus(selected(values_PG), fixed(values_PG.mean(axis=0))), 25)
        low, high = map(float, found.split("[")[1].rstrip("]").split(", "))
        left_out += low > 0 or high < 0
    assert left_out <= 3  # of 20 intervals of 95 %; with the selection made once for all resamples 5


def test_the_range_by_chance_of_shuffled_prompts_holds_0_and_not_a_real_spread():
    values_PG = np.repeat(np.array([[0.0], [0.3], [0.6], [0.9]]), 20, axis=1)
    values_PG = values_PG + np.random.default_rng(2).normal(scale=0.2, size=values_PG.shape)
    low, high = repeated_by_chance(values_PG)
    assert low < 0 < high < repeated(values_PG)
