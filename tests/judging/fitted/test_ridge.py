"""Ridge over groups: scikit-learn as oracle, choices on data where the right one is known, honest held-out scores."""

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from judging.fitted.ridge import PENALTIES, Choice, Target, cross_validate, fit, folds, within_group_correlation


def groups(num_groups: int, size: int) -> np.ndarray:
    return np.repeat(np.arange(num_groups), size)


@pytest.mark.parametrize(("rows", "features"), [(40, 7), (12, 60)])
def test_it_is_scikit_learns_ridge_on_standardised_features(rows: int, features: int) -> None:
    random = np.random.default_rng(0)
    made = random.normal(3, 5, (rows, features)) * random.uniform(0.1, 10, features)
    score = random.uniform(1, 5, rows)
    new = random.normal(3, 5, (9, features))
    scaler = StandardScaler().fit(made)
    for penalty in PENALTIES:
        oracle = Ridge(alpha=penalty * features).fit(scaler.transform(made), score)
        assert fit(made, score, penalty).predict(new) == pytest.approx(oracle.predict(scaler.transform(new)), abs=1e-6)


def test_two_rows_by_hand() -> None:
    # Standardised: -1 and 1; K = [[1, -1], [-1, 1]], y - mean = (-1, 1), an eigenvector of K with value 2. With the
    # penalty 2 the dual is (-1, 1) / 4, the weight 2 / 4 = 1/2 a standard deviation of 3: scores 3 -+ 1/2.
    found = fit(np.array([[4.0], [10.0]]), np.array([2.0, 4.0]), 2.0)
    assert found.weight_D == pytest.approx([1 / 6])
    assert found.predict(np.array([[4.0], [10.0], [7.0]])) == pytest.approx([2.5, 3.5, 3.0])


def test_a_constant_feature_counts_nothing() -> None:
    random = np.random.default_rng(1)
    one = random.normal(size=(20, 3))
    score = one[:, 0] * 2 + 1
    padded = np.column_stack([one, np.full(20, 1e6)])
    assert fit(padded, score, 0.1).weight_D[3] == 0
    assert fit(padded, score, 0.1).predict(padded) == pytest.approx(fit(one, score, 0.1).predict(one))
    assert fit(np.ones((5, 2)), np.arange(5.0), 1).predict(np.ones((1, 2))) == pytest.approx([2.0])


def test_folds_are_whole_groups_and_every_row_stands_in_one() -> None:
    found = folds(groups(13, 3), 0)
    assert sorted(np.concatenate(found).tolist()) == list(range(39))
    assert len(found) == 10
    of_groups = [set(groups(13, 3)[fold]) for fold in found]
    assert all(not one & other for one in of_groups for other in of_groups if one is not other)
    assert sorted(map(len, of_groups)) == [1] * 7 + [2] * 3
    assert [fold.tolist() for fold in folds(groups(13, 3), 0)] == [fold.tolist() for fold in found]


def test_the_depth_that_holds_the_answer_is_chosen() -> None:
    random = np.random.default_rng(2)
    group = groups(20, 6)
    truth = random.normal(size=120)
    noise = random.normal(size=(120, 30))
    telling = noise.copy()
    telling[:, 5] += 3 * truth
    found = cross_validate([Target([noise, telling, noise[:, ::-1]], truth, group)])[0]
    assert found.choice.depth == 1
    assert {one.depth for one in found.fold_choices} == {1}
    assert within_group_correlation(truth, found.score_N, group) > 0.7


def test_noise_is_given_no_agreement() -> None:
    """Fitted to itself, noise of 200 features agrees almost wholly; held out, on average not at all."""
    held_out, itself = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        group, score = groups(12, 5), random.normal(size=60)
        depths = [random.normal(size=(60, 150)) for _ in range(2)]
        found = cross_validate([Target(depths, score, group)], seed=seed)[0]
        held_out.append(within_group_correlation(score, found.score_N, group))
        itself.append(within_group_correlation(score, fit(depths[0], score, 0.01).predict(depths[0]), group))
    # The standard error of the mean of 12 correlations of 48 free rows: 1 / sqrt(48 * 12) = .04.
    assert abs(float(np.mean(held_out))) < 0.13
    assert min(itself) > 0.95


def test_a_group_s_level_is_no_agreement_within_it() -> None:
    """Features that tell the group alone: the scores' differences within groups stay unknown."""
    random = np.random.default_rng(3)
    group = groups(20, 5)
    level = random.normal(0, 5, 20)[group]
    score = level + random.normal(size=100)
    found = cross_validate([Target([np.column_stack([level, random.normal(size=100)])], score, group)])[0]
    assert abs(within_group_correlation(score, found.score_N, group)) < 0.3
    assert np.corrcoef(score, found.score_N)[0, 1] > 0.7


def test_features_of_the_group_alone_are_never_preferred() -> None:
    """Features that are the same for all rows of a group tell nothing within it."""
    random = np.random.default_rng(6)
    group = groups(20, 5)
    level = random.normal(0, 5, 20)[group]
    truth = random.normal(size=100)
    of_rows = np.column_stack([truth + 2 * random.normal(size=100), random.normal(size=(100, 3))])
    of_groups = np.column_stack([level, random.normal(size=20)[group]])
    found = cross_validate([Target([of_rows, of_groups], level + truth, group)])[0]
    assert found.choice.depth == 0
    assert {one.depth for one in found.fold_choices} == {0}
    assert math.isnan(within_group_correlation(truth, level, group))


def test_groups_of_one_row_are_compared_with_each_other() -> None:
    random = np.random.default_rng(4)
    feature = random.normal(size=(60, 4))
    score = feature[:, 1] + 0.1 * random.normal(size=60)
    found = cross_validate([Target([feature], score, np.arange(60))])[0]
    assert within_group_correlation(score, found.score_N, np.arange(60)) > 0.95
    assert math.isnan(within_group_correlation(np.ones(4), np.arange(4.0), np.arange(4)))


def test_the_same_seed_chooses_the_same() -> None:
    random = np.random.default_rng(5)
    depths, score = [random.normal(size=(60, 8))], random.normal(size=60)
    target = Target(depths, score, groups(12, 5))
    one, other = (cross_validate([target], seed=7)[0] for _ in range(2))
    assert one.choice == other.choice and isinstance(one.choice, Choice)
    assert np.array_equal(one.score_N, other.score_N)


def test_targets_share_the_depth_that_is_best_in_the_mean_and_have_penalties_of_their_own() -> None:
    random = np.random.default_rng(8)
    group = groups(20, 5)
    first, second = random.normal(size=(2, 100))
    noise = random.normal(size=(100, 12))
    weak, strong = noise.copy(), noise.copy()
    weak[:, 0] += 2 * first  # tells the first aspect only
    strong[:, 0] += first
    strong[:, 1] += 3 * second
    half = np.arange(100) % 2 == 0  # the second aspect is rated on every other row
    targets = [
        Target([weak, strong], first, group),
        Target([weak[half], strong[half]], second[half], group[half]),
    ]
    one, other = cross_validate(targets)
    assert one.choice.depth == other.choice.depth == 1
    assert cross_validate(targets[:1])[0].choice.depth == 0
    assert len(other.score_N) == 50
    assert within_group_correlation(second[half], other.score_N, group[half]) > 0.7
