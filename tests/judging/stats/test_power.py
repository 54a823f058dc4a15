"""How many groups: the formula by hand and against simulated tests. Which texts: ranks, ties, what is unknown."""

import math

import numpy as np
import pytest

from judging.records import Scale
from judging.stats.power import (
    Unlabelled,
    detectable_difference,
    disagreement,
    entropy,
    groups_needed,
    label_next,
    power_of,
)

FIVE = Scale(1, 5)


@pytest.mark.parametrize(
    ("sd", "difference", "groups"),
    [
        # (1.96 + .84)^2 = 7.849: times (sd / difference)^2.
        (1.0, 1.0, 8),
        (0.5, 0.1, 197),  # 196.2
        (0.5, 0.05, 785),  # 784.9
        (0.4, 0.2, 32),  # 31.4
        (0.01, 0.2, 2),  # a variance needs two
    ],
)
def test_groups_needed_by_hand(sd: float, difference: float, groups: int) -> None:
    assert groups_needed(sd, difference) == groups


def test_more_power_and_a_stricter_level_need_more() -> None:
    # (1.96 + 1.2816)^2 = 10.51; (2.5758 + .8416)^2 = 11.68
    assert groups_needed(1.0, 1.0, power=0.9) == 11
    assert groups_needed(1.0, 1.0, level=0.01) == 12


def test_what_is_detectable_is_the_formula_turned() -> None:
    assert detectable_difference(0.5, 100) == pytest.approx(2.8016 * 0.05, abs=1e-4)
    assert groups_needed(0.5, detectable_difference(0.5, 100)) == 100


def world(num_groups: int, noise: tuple[float, float], seed: int, size: int = 6) -> tuple[list[str], list[np.ndarray]]:
    """Labels, and two judges that say the label with noise of these standard deviations; groups of `size`."""
    draws = np.random.default_rng(seed)
    label_N = draws.normal(size=num_groups * size)
    judges = [label_N + sd * draws.normal(size=len(label_N)) for sd in noise]
    return [f"g{row // size:05d}" for row in range(len(label_N))], [label_N, *judges]


@pytest.mark.parametrize("statistic", ["group.spearman", "group.pairwise_accuracy"])
def test_so_many_groups_do_detect_the_difference_with_that_power(statistic: str) -> None:
    # A large sample tells SD and true difference; then 400 studies of the planned size, each a two-sided z-test.
    groups, columns = world(6000, (0.8, 1.4), seed=0)
    known = power_of(groups, *columns)[statistic]
    assert known.sd is not None and known.difference is not None
    planned = groups_needed(known.sd, known.difference)
    assert 20 < planned < 200
    groups, columns = world(400 * planned, (0.8, 1.4), seed=1)
    detected = 0
    for study in range(400):
        rows = slice(study * planned * 6, (study + 1) * planned * 6)
        one = power_of(groups[rows], *(column[rows] for column in columns))[statistic]
        assert one.sd is not None and one.difference is not None
        detected += abs(one.difference) / (one.sd / math.sqrt(one.num_groups)) > 1.96
    # Binomial: .8 with standard error .02.
    assert detected / 400 == pytest.approx(0.8, abs=0.06)


def test_differences_group_by_group_by_hand() -> None:
    # Three texts a group, labels 1 2 3. Second judge: always right. First: right, reversed, right, constant.
    # Spearman 1 and -1; differences 0, -2, 0, undefined (constant): mean -2/3, SD sqrt(4/3) = 1.1547.
    # Accuracy 1, 0, 1, .5: differences 0, -1, 0, -.5: mean -.375, SD .4787.
    groups = [group for group in "abcd" for _ in range(3)]
    first = [1, 2, 3, 3, 2, 1, 1, 2, 3, 2, 2, 2]
    found = power_of(groups, [1, 2, 3] * 4, first, [1, 2, 3] * 4)
    spearman = found["group.spearman"]
    assert (spearman.num_groups, spearman.defined_share) == (3, 0.75)
    assert spearman.difference == pytest.approx(-2 / 3) and spearman.sd == pytest.approx(1.1547, abs=1e-4)
    # 7.849 * (1.1547 / .2)^2 = 261.6; every fourth group tells nothing: 261.6 / .75 = 348.8.
    assert spearman.needed[0.2] == 349
    # 2.8016 * 1.1547 / sqrt(3)
    assert spearman.detectable == pytest.approx(1.868, abs=1e-3)
    accuracy = found["group.pairwise_accuracy"]
    assert (accuracy.num_groups, accuracy.defined_share) == (4, 1.0)
    assert accuracy.difference == pytest.approx(-0.375) and accuracy.sd == pytest.approx(0.4787, abs=1e-4)


def test_rows_that_one_of_the_two_has_not_scored_are_left_out_of_both() -> None:
    groups = [group for group in "abc" for _ in range(3)]
    labels = [1.0, 2, 3] * 3
    first = [1.0, 2, None, 1, 2, None, 1, 2, None]
    second = [1.0, 2, 0, 1, 2, 0, 2, 1, 0]
    # Without the third text of each group the second judge is right, right, wrong: differences 0, 0, 2.
    found = power_of(groups, labels, first, second)["group.spearman"]
    assert found.difference == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "first", "sd", "num_groups"),
    [
        ([2.0] * 9, [1, 2, 3] * 3, None, 0),  # constant labels
        ([1.0, 2, 3] * 3, [None] * 9, None, 0),
        ([1.0, 2, 3] * 3, [1, 2, 3, 1, 2, 3, 2, 2, 2], None, 2),  # two groups tell no variance
        ([1.0, 2, 3] * 3, [3, 2, 1] * 3, 0.0, 3),  # the same difference everywhere
    ],
)
def test_where_no_number_can_be_given(
    labels: list[float], first: list[float | None], sd: float | None, num_groups: int
) -> None:
    groups = [group for group in "abc" for _ in range(3)]
    found = power_of(groups, labels, first, [1, 2, 3] * 3)["group.spearman"]
    assert (found.sd, found.num_groups) == (sd, num_groups)
    assert set(found.needed.values()) == {None} and found.detectable is None


def test_labels_that_are_missing_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="missing"):
        power_of(["a", "a"], [1.0, math.nan], [1.0, 2], [1.0, 2])


def text(id: str, group: str, probabilities: tuple[float, ...] = (), **scores: float | None) -> Unlabelled:
    return Unlabelled(id, group, "overall", FIVE, scores, {"a": probabilities} if probabilities else {})


def test_groups_are_ranked_by_disagreement() -> None:
    rows = [
        text("1", "calm", a=3, b=2),
        text("2", "calm", a=3, b=2),
        text("3", "loud", a=5, b=0),
        text("4", "half", a=3, b=2),
        text("5", "half", a=1, b=4),
    ]
    # Means: a 15 / 5 = 3, b 10 / 5 = 2. Away from them, a and b: 0 0, 0 0, 2 -2, 0 0, -2 2; SD 0 0 2 0 2, twice that
    # over the width 4: 0 0 1 0 1; groups: calm 0, loud 1, half .5. b's lower mean is no disagreement.
    found = label_next(rows)
    assert [(one.rank, one.group, one.priority, one.entropy) for one in found] == [
        (1, "loud", 1.0, None),
        (2, "half", 0.5, None),
        (3, "calm", 0.0, None),
    ]
    assert found[1].texts == {"4": ("overall",), "5": ("overall",)}


def test_groups_are_ranked_by_entropy_where_there_are_probabilities() -> None:
    even, half, sure = (0.2,) * 5, (0.5, 0.5, 0, 0, 0), (0.0, 0, 1, 0, 0)
    rows = [text("1", "g1", sure, a=3), text("2", "g2", even, a=3), text("3", "g3", half, a=3), text("4", "g4", a=3)]
    found = label_next(rows)
    # log 2 / log 5 = .4307; the group without probabilities and with one judge tells nothing and comes last, after the
    # sure one, by name.
    assert [(one.group, round(one.priority, 4), one.entropy is None) for one in found] == [
        ("g2", 1.0, False),
        ("g3", 0.4307, False),
        ("g1", 0.0, False),
        ("g4", 0.0, True),
    ]
    assert {one.disagreement for one in found} == {None}


def test_both_are_averaged_where_both_are_known() -> None:
    rows = [text("1", "g", (0.2,) * 5, a=5, b=1), text("2", "h", (0.2,) * 5, a=1, b=5)]
    # Means 3 and 3; SD 2, so 1; entropy 1.
    assert [one.priority for one in label_next(rows)] == [1.0, 1.0]
    rows = [text("1", "g", (1.0, 0, 0, 0, 0), a=5, b=1), text("2", "h", (1.0, 0, 0, 0, 0), a=1, b=5)]
    assert [one.priority for one in label_next(rows)] == [0.5, 0.5]


def test_an_aspect_counts_for_itself_and_a_text_stands_once() -> None:
    rows = [
        Unlabelled("1", "g", aspect, FIVE, {"a": high, "b": low}, {})
        for aspect, high, low in (("wit", 5, 1), ("clarity", 3, 3))
    ]
    rows += [Unlabelled("2", "h", "wit", FIVE, {"a": 1, "b": 5}, {})]
    first, second = label_next(rows)
    assert (first.group, second.group, second.texts) == ("h", "g", {"1": ("clarity", "wit")})
    assert second.priority == pytest.approx(0.5)  # of its two aspects one is in doubt


def test_unscored_judges_do_not_count() -> None:
    means = {("overall", "a"): 3.0, ("overall", "b"): 3.0}
    assert disagreement(text("1", "g", a=5, b=None), means) is None
    assert disagreement(text("1", "g", a=None, b=None), means) is None
    assert disagreement(text("1", "g", a=5, b=1, c=None), means) == 1
    assert entropy(text("1", "g", a=5)) is None
    assert label_next([]) == []


def test_the_order_of_rows_and_judges_changes_nothing() -> None:
    draws = np.random.default_rng(0)
    rows = [
        text(
            str(n),
            f"g{n % 7}",
            tuple(draws.dirichlet(np.ones(5))),
            **dict(zip("abc", draws.uniform(1, 5, 3), strict=True)),
        )
        for n in range(40)
    ]
    turned = [
        Unlabelled(row.id, row.group, row.aspect, row.scale, dict(reversed(row.scores.items())), row.probabilities)
        for row in rows[::-1]
    ]
    assert label_next(turned) == label_next(rows)
