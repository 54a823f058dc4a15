"""The learned vote against worlds whose best vote is known, and against input that cannot teach anything."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.records import Scale
from judging.voting.shrinkage import Moments, moments, shrunk_weights, weights
from judging.voting.stacked_vote import LearnedVote, Method
from judging.voting.stacking import MIN_GROUPS, MIN_ROWS, NO_GAIN, Stacked, stack

WIDE = Scale(-20, 20)  # so wide that no score of these worlds reaches an end
NAMES = ("good", "fair", "poor", "adverse")
NOISE = (0.5, 1.0, 2.0)


def world(num_groups: int, seed: int, size: int = 5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels t of variance 1; three judges say t + noise of SD .5, 1, 2; the adverse one says -t + noise of SD 1."""
    draws = np.random.default_rng(seed)
    label_R = draws.normal(size=num_groups * size)
    noise_RJ = draws.normal(size=(len(label_R), 4)) * (*NOISE, 1.0)
    score_RJ = label_R[:, None] * (1, 1, 1, -1) + noise_RJ
    return score_RJ, label_R, [f"g{row // size}" for row in range(len(label_R))]


def vote_of(*args: Any, **kwargs: Any) -> LearnedVote:
    return stack(*args, **kwargs).vote


def learned(num_groups: int, seed: int = 0, *, method: Method = "nnls", folds_seed: int = 0) -> Stacked:
    score_RJ, label_R, groups = world(num_groups, seed)
    return stack(score_RJ, label_R, groups, NAMES, scale=WIDE, method=method, seed=folds_seed)


@pytest.mark.parametrize("method", ["nnls", "ridge"])
def test_the_learned_vote_beats_the_mean_by_what_the_noise_allows(method: Method) -> None:
    found = learned(200, method=method)
    score_RJ, label_R, _ = world(4000, seed=99)
    of_vote = np.corrcoef(found.vote.scores(score_RJ, NAMES), label_R)[0, 1]
    of_mean = np.corrcoef(score_RJ.mean(axis=1), label_R)[0, 1]
    # The mean is (2 t + noise of variance .25 + 1 + 4 + 1) / 4: correlation 2 / sqrt(4 + 6.25) = .625.
    # The best vote weighs by 1 / variance: information 4 + 1 + .25 = 5.25, correlation sqrt(5.25 / 6.25) = .917.
    assert of_mean == pytest.approx(0.625, abs=0.01)
    assert of_vote > 0.917 - 0.015
    # Its error: sqrt(1 / 6.25) = .4. The mean, calibrated: sqrt(1 - .625^2) = .78.
    assert found.vote.cv_rmse_learned == pytest.approx(0.40, abs=0.02)
    assert found.vote.cv_rmse_mean == pytest.approx(0.78, abs=0.03)
    weight = {member.judge: member.weight for member in found.vote.members}
    assert weight["good"] > weight["fair"] > weight["poor"] > weight["adverse"] == 0
    assert found.vote.reasons == {"adverse": "its scores do not increase with the human scores"}


def test_six_labels_leave_the_plain_mean() -> None:
    score_RJ, label_R, groups = world(6, seed=1, size=1)
    found = stack(score_RJ, label_R, groups, NAMES, scale=WIDE)
    assert found.vote.kind == "mean"
    assert found.vote.note == (
        "6 labelled rows in 6 groups are too few to learn weights; at least 50 rows and 10 groups are required"
    )
    assert found.vote.scores(score_RJ, NAMES) == pytest.approx(score_RJ.mean(axis=1))
    assert found.dev_R == pytest.approx(score_RJ.mean(axis=1))
    assert found.vote.cv_rmse_learned is None and found.vote.cv_rmse_mean is None


@pytest.mark.parametrize(
    ("num_groups", "size", "kind"),
    [
        (MIN_GROUPS, 5, "stacked"),  # 50 rows in 10 groups
        (MIN_GROUPS - 1, 10, "mean"),
        (MIN_ROWS - 1, 1, "mean"),
        (MIN_ROWS, 1, "stacked"),
    ],
)
def test_how_many_labels_are_few(num_groups: int, size: int, kind: str) -> None:
    score_RJ, label_R, groups = world(num_groups, seed=3, size=size)
    assert vote_of(score_RJ, label_R, groups, NAMES, scale=WIDE).kind == kind


def test_the_dev_scores_have_not_seen_the_labels_of_their_group() -> None:
    # Judges of pure noise: a vote that had seen its rows would agree with them, by .3 with eight judges. Here
    # 120 labels, correlation 0 but for chance, SD 1 / sqrt(120) = .09 each; the mean over 40 worlds has SD .015.
    correlations = []
    for seed in range(40):
        draws = np.random.default_rng(seed)
        label_R, score_RJ = draws.normal(size=120), draws.normal(size=(120, 8))
        groups = [f"g{row // 4}" for row in range(120)]
        found = stack(score_RJ, label_R, groups, list("abcdefgh"), scale=WIDE)
        if found.vote.kind == "stacked":
            correlations.append(np.corrcoef(found.dev_R, label_R)[0, 1])
    assert len(correlations) >= 35
    assert np.mean(correlations) == pytest.approx(0, abs=0.05)


def test_weights_are_fitted_to_calibrations_that_have_not_seen_the_row() -> None:
    # One fair judge and six of pure noise, ten worlds. A calibration explains a little of the very labels it was drawn
    # from, and noise would earn weight by it: with such calibrations the six have 1.03 together (measured), without .54
    # (SD .05 of the mean); the ridge towards equal weights is why it is not 0.
    earned = []
    for seed in range(10):
        draws = np.random.default_rng(seed)
        label_R = draws.normal(size=400)
        score_RJ = np.column_stack([label_R + draws.normal(size=400), *draws.normal(size=(6, 400))])
        vote = vote_of(score_RJ, label_R, [f"g{row // 4}" for row in range(400)], list("abcdefg"), scale=WIDE)
        earned.append(sum(member.weight for member in vote.members[1:]))
    assert np.mean(earned) < 0.75


def test_changing_a_groups_labels_does_not_change_its_dev_scores() -> None:
    score_RJ, label_R, groups = world(20, seed=4)
    before = stack(score_RJ, label_R, groups, NAMES, scale=WIDE)
    # The labels of one group moved by -9: what the group itself is given moves by the common centre, one text of 20 as
    # all others; what others are given changes otherwise.
    of_group = np.array(groups) == "g7"
    after = stack(score_RJ, label_R - 9 * of_group, groups, NAMES, scale=WIDE)
    moved = after.dev_R - before.dev_R
    assert moved[of_group] == pytest.approx(-9 / 20)
    assert np.abs(moved[~of_group] + 9 / 20).max() > 0.1


def test_a_one_sided_judge_has_no_weight_and_a_reason() -> None:
    score_RJ, label_R, groups = world(40, seed=5)
    same = np.full(len(label_R), 3.0)
    same[:9] = label_R[:9]  # 191 of 200 are more than 95 %
    narrow = 3 + label_R * 0.005  # right each time, but within a thousandth of the scale's 40 points
    few = np.where(np.arange(len(label_R)) < 29, label_R, np.nan)
    none = np.full(len(label_R), np.nan)
    found = vote_of(
        np.column_stack([score_RJ[:, :2], same, narrow, few, none]), label_R, groups, list("abcdef"), scale=WIDE
    )
    assert found.reasons == {
        "c": "191 of its 200 scores are equal",
        "d": "the spread of its scores is below 0.001 of the scale",
        "e": "too few labelled scores: 29 of at least 30",
        "f": "it has no score",
    }
    assert [bool(member.weight) for member in found.members] == [True, True, False, False, False, False]


@pytest.mark.parametrize("labels", ["constant", "reversed"])
def test_where_no_judge_tells_anything_the_plain_mean_stays(labels: str) -> None:
    score_RJ, label_R, groups = world(20, seed=6)
    score_RJ = score_RJ[:, :2]
    label_R = np.full_like(label_R, 2.0) if labels == "constant" else -label_R
    found = stack(score_RJ, label_R, groups, ("x", "y"), scale=WIDE)
    assert (found.vote.kind, found.vote.note) == ("mean", "no judge's scores increase with the human scores")
    assert found.vote.scores(score_RJ, ("x", "y")) == pytest.approx(score_RJ.mean(axis=1))


def test_one_judge_alone_is_calibrated() -> None:
    score_RJ, label_R, groups = world(4000, seed=7)
    found = vote_of(score_RJ[:, 1:2], label_R, groups, ["fair"], scale=WIDE)
    # E(t | t + e) is half of the score where both have variance 1.
    assert found.score({"fair": 1.5}) == pytest.approx(0.75, abs=0.1)


def test_gaps_are_bridged_and_rows_without_any_score_stay_unscored() -> None:
    score_RJ, label_R, groups = world(100, seed=8)
    missing = np.random.default_rng(0).random(score_RJ.shape) < 0.2
    missing[0] = True
    found = stack(np.where(missing, np.nan, score_RJ), label_R, groups, NAMES, scale=WIDE)
    # A row that keeps only the adverse judge has no score either: that judge has no weight.
    nothing = missing[:, :3].all(axis=1)
    assert np.isnan(found.dev_R).tolist() == nothing.tolist()
    assert np.corrcoef(found.dev_R[~nothing], label_R[~nothing])[0, 1] > 0.83


def test_a_vote_that_gains_nothing_says_so() -> None:
    # Twelve judges that know the same: the plain mean is the best vote, and learned weights can only lose a little.
    draws = np.random.default_rng(1)
    label_R = draws.normal(size=100)
    score_RJ = label_R[:, None] + 2 * draws.normal(size=(100, 12))
    groups = [f"g{row // 5}" for row in range(100)]
    vote = vote_of(score_RJ, label_R, groups, list("abcdefghijkl"), scale=WIDE)
    assert vote.cv_rmse_learned is not None and vote.cv_rmse_mean is not None
    assert vote.cv_rmse_learned >= vote.cv_rmse_mean and vote.note == NO_GAIN
    assert learned(60).vote.note is None


def test_two_judges_that_say_the_same_share_their_weight() -> None:
    score_RJ, label_R, groups = world(60, seed=9)
    found = vote_of(score_RJ[:, [0, 0]], label_R, groups, ("x", "y"), scale=WIDE)
    first, second = (member.weight for member in found.members)
    assert first == pytest.approx(second) and first + second == pytest.approx(1, abs=0.1)


@settings(max_examples=15)
@given(st.permutations(range(4)), st.integers(0, 2**32 - 1), st.sampled_from(["nnls", "ridge"]))
def test_order_of_judges_and_rows_changes_nothing(order: list[int], seed: int, method: Method) -> None:
    score_RJ, label_R, groups = world(12, seed=10)
    score_RJ[::7, 1] = np.nan
    first = stack(score_RJ, label_R, groups, NAMES, scale=WIDE, method=method, seed=3)
    rows = np.random.default_rng(seed).permutation(len(label_R))
    names = [NAMES[place] for place in order]
    again = stack(
        score_RJ[rows][:, order],
        label_R[rows],
        [groups[row] for row in rows],
        names,
        scale=WIDE,
        method=method,
        seed=3,
    )
    assert again.vote == first.vote
    assert again.dev_R.tolist() == first.dev_R[rows].tolist()


def test_the_seed_draws_the_folds() -> None:
    one, same, other = (learned(12, seed=11, folds_seed=seed) for seed in (0, 0, 1))
    assert one.vote == same.vote and one.dev_R.tolist() == same.dev_R.tolist()
    assert one.dev_R.tolist() != other.dev_R.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [1.0]}, "sizes"),
        ({"judges": ("x",)}, "sizes"),
        ({"groups": ["g"]}, "sizes"),
        ({"judges": ("x", "x", "y", "z")}, "duplicates"),
        ({"labels": [np.nan] * 100}, "missing"),
        ({"labels": [99.0] * 100}, "99 lies outside the scale -20 to 20"),
        ({"scores": np.full((100, 4), np.inf)}, "finite"),
        ({"folds": 2}, "at least 3, not 2"),
    ],
)
def test_what_cannot_be_learned_from(change: dict[str, Any], words: str) -> None:
    score_RJ, label_R, groups = world(20, seed=12)
    given_ = {"scores": score_RJ, "labels": label_R, "groups": groups, "judges": NAMES, "folds": 5, **change}
    with pytest.raises(ValueError, match=words):
        vote_of(
            given_["scores"],
            given_["labels"],
            given_["groups"],
            given_["judges"],
            scale=WIDE,
            folds=given_["folds"],
        )


# Two judges, sums over 4 rows: variances 1 and 1, no covariance; judge 1 agrees fully, judge 2 against people.
CONTRARY = Moments(np.array([[4.0, 0.0], [0.0, 4.0]]), np.array([4.0, -2.0]), 5.0, 4)


def test_weights_by_hand() -> None:
    # (4 + 4 s) w = label + 4 s / 2. s = 1: w1 = (4 + 2) / 8, w2 = (-2 + 2) / 8.
    assert weights(CONTRARY, 1.0, "ridge") == pytest.approx([0.75, 0.0])
    # s = .5: w1 = (4 + 1) / 6, w2 = (-2 + 1) / 6: least squares goes below 0, the non-negative one stops there.
    assert weights(CONTRARY, 0.5, "ridge") == pytest.approx([5 / 6, -1 / 6])
    assert weights(CONTRARY, 0.5, "nnls") == pytest.approx([5 / 6, 0.0])
    assert weights(CONTRARY, np.inf, "nnls").tolist() == [0.5, 0.5]
    # 5 - 2 (4 * .75) + .75^2 * 4 = 1.25 over 4 rows.
    assert CONTRARY.mean_error(np.array([0.75, 0.0])) == pytest.approx(0.3125)


def test_the_strongest_shrinkage_that_costs_nothing_is_taken() -> None:
    # The label is the plain mean of two judges and noise: nothing beats equal weights, so the pull may be endless.
    # In the second world it is the first judge alone: a pull towards equal weights costs at once.
    draws = np.random.default_rng(0)
    alike, apart = [], []
    for _ in range(5):
        score_RU, noise_R = draws.normal(size=(400, 2)), draws.normal(size=400)
        alike.append(moments(score_RU, score_RU.mean(axis=1) + noise_R))
        apart.append(moments(score_RU, score_RU[:, 0] + noise_R))
    assert shrunk_weights(alike, "nnls").strength == np.inf
    assert shrunk_weights(apart, "nnls").strength <= 0.1
    assert shrunk_weights(apart[:1], "nnls").weights_U.tolist() == [0.5, 0.5]
