from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.records import Scale, Score, Verdict
from judging.voting.calibration import identity
from judging.voting.stacked_vote import LearnedVote, Member
from judging.voting.vote import TaughtRule, VoteRule, vote

RULES: tuple[VoteRule, ...] = ("mean", "median", "majority", "weighted")
ALL_RULES: tuple[VoteRule | TaughtRule, ...] = (*RULES, "learned", "best")


def taught(**weights: float) -> LearnedVote:
    """A learned vote around 3 on the scale 1 to 5, with scores as they are."""
    scale = Scale(1, 5)
    return LearnedVote(
        kind="stacked",
        method="ridge",
        low=1,
        high=5,
        centre=3,
        members=tuple(
            Member(judge=name, weight=weight, calibration=identity(scale, 100)) for name, weight in weights.items()
        ),
        strength=None,
        num_rows=100,
        num_groups=20,
        num_folds=5,
        seed=0,
    )


EIGHT = taught(**{name: (place - 2) / 10 for place, name in enumerate("abcdefgh")})


def said(*scores: float | None) -> list[Verdict]:
    """One verdict a judge, named a, b, c, ...; None abstains."""
    return [
        Verdict("abcdefgh"[place], "overall", score, "parsed", None if score is not None else "unparsed")
        for place, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "mean", "median"),
    [
        ((4,), 4, 4),
        ((1, 2, 5), 8 / 3, 2),
        ((1, 2, 4, 5), 3, 3),
        ((1, 1, 4, 5), 2.75, 2.5),  # an even panel: the mean of the middle two
        ((1, None, 4, None), 2.5, 2.5),  # who abstains is left out, never a 0 nor the middle
        ((0, 0, 3), 1, 0),
    ],
)
def test_mean_and_median(scores: tuple[float | None, ...], mean: float, median: float) -> None:
    num_none = scores.count(None)
    counts = (len(scores) - num_none, num_none)
    assert vote(said(*scores), "mean") == Score("overall", pytest.approx(mean), *counts)
    assert vote(said(*scores), "median") == Score("overall", median, *counts)


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ((4, 4, 2), 4),
        ((4, 4, None), 4),  # 2 of 3
        ((4, 4, None, None), None),  # 2 of 4 is not more than half of all judges
        ((4, 4, 2, 2), None),  # a tie: neither half is more than half, in any order
        ((2, 4, 2, 4), None),
        ((4, 2), None),
        ((4, 4, 4, 2, 2, 2), None),
        ((4, 4, 4, 2, 2, None), None),  # 3 of 6
        ((4, 4, 4, 4, 2, 2), 4),
        ((2.4, 1.6, 2.5, 3.4), None),  # rounded: two 2 and two 3
        ((1, 2, 3), None),
        ((4,), 4),
        ((4, None), None),
        ((3.5, 4, 1), 4),  # halves up
        ((2.5, 3.4, 1), 3),
        ((-0.5, 0, 1), 0),  # halves up below 0 too
        ((4.4, 3.6, 4, 5), 4),
    ],
)
def test_majority_is_more_than_half_of_all_judges(scores: tuple[float | None, ...], label: float | None) -> None:
    told = vote(said(*scores), "majority")
    assert (told.score, told.unscored) == (label, "no_majority" if label is None else None)
    assert (told.num_votes, told.num_abstentions) == (len(scores) - scores.count(None), scores.count(None))


def test_weighted_mean() -> None:
    # (3 * 4 + 1 * 2) / 4 = 3.5; without a, the weights of b and c alone: (1 * 2 + 2 * 5) / 3 = 4.
    weights = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert vote(said(4, 2), "weighted", weights=weights).score == 3.5
    assert vote(said(None, 2, 5), "weighted", weights=weights).score == 4


def test_weights_of_zero() -> None:
    weights = {"a": 0.0, "b": 0.0, "c": 1.0}
    assert vote(said(1, 5, 3), "weighted", weights=weights) == Score("overall", 3, 3, 0)
    # The only judge with a weight abstains: nothing is left to weigh.
    assert vote(said(1, 5, None), "weighted", weights=weights) == Score("overall", None, 2, 1, "no_quorum")


def test_a_judge_without_a_weight_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        vote(said(1, 5), "weighted", weights={"a": 1.0})


def test_the_learned_vote() -> None:
    # 3 + .5 * 1 + .25 * -2 = 3; without b, a has .75: 3 + .75 * 1 = 3.75.
    learned = taught(a=0.5, b=0.25, c=0.0)
    assert vote(said(4, 1, 5), "learned", learned=learned) == Score("overall", 3, 3, 0)
    assert vote(said(4, None, 5), "learned", learned=learned) == Score("overall", 3.75, 2, 1)
    # Of those that scored none has a weight.
    assert vote(said(None, None, 5), "learned", learned=learned) == Score("overall", None, 1, 2, "no_quorum")
    assert vote(said(4, None, 5), "learned", min_votes=3, learned=learned).unscored == "no_quorum"
    with pytest.raises(ValueError, match="unknown judge 'd'"):
        vote(said(1, 2, 3, 4), "learned", learned=learned)


def test_the_best_judge_alone_decides() -> None:
    assert vote(said(4, 1, 5), "best", best="b") == Score("overall", 1, 3, 0)
    assert vote(said(4, None, 5), "best", best="b") == Score("overall", None, 2, 1, "no_quorum")
    # The quorum counts all judges, as with every rule.
    assert vote(said(4, 1, None), "best", min_votes=3, best="b").unscored == "no_quorum"
    with pytest.raises(KeyError):
        vote(said(4, 1), "best", best="c")


def test_a_judge_has_one_vote() -> None:
    with pytest.raises(AssertionError):
        vote([*said(4), *said(5)], "mean")


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize(
    ("scores", "min_votes", "enough"),
    [
        ((3, 3, None), 2, True),
        ((3, 3, None), 3, False),
        ((3, None, None), 2, False),
        ((None, None), 1, False),
        ((None,), 0, False),  # a score needs one verdict at least
        ((3, 3), 2, True),
    ],
)
def test_quorum(rule: Any, scores: tuple[float | None, ...], min_votes: int, enough: bool) -> None:
    taught_of = {"learned": taught(a=0.5, b=0.25, c=0.25), "best": "a"}
    told = vote(said(*scores), rule, min_votes=min_votes, weights={"a": 1, "b": 2, "c": 3}, **taught_of)
    assert told.score == (3 if enough else None)
    assert told.unscored == (None if enough else "no_quorum")
    assert (told.num_votes, told.num_abstentions) == (len(scores) - scores.count(None), scores.count(None))


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_blank_text_is_told_from_a_lost_quorum(rule: Any) -> None:
    empty = [Verdict(name, "overall", None, "parsed", unscored="empty") for name in "ab"]
    more: dict[str, Any] = {"learned": taught(a=1, b=1), "best": "a", "weights": {"a": 1, "b": 1}}
    assert vote(empty, rule, min_votes=2, **more) == Score("overall", None, 0, 2, unscored="empty")
    late = Verdict("c", "overall", None, "parsed", unscored="timeout")
    assert vote([*empty, late], rule, **more).unscored == "no_quorum"


def test_verdicts_on_different_aspects_are_never_mixed() -> None:
    with pytest.raises(AssertionError):
        vote([Verdict("a", "overall", 3, "parsed"), Verdict("b", "fluency", 3, "parsed")], "mean")


SCORES = st.lists(st.none() | st.floats(1, 5) | st.sampled_from([1.0, 2.0, 2.5, 5.0]), min_size=1, max_size=8)


@given(st.data(), SCORES, st.sampled_from(ALL_RULES), st.integers(1, 4))
def test_order_never_matters(data: st.DataObject, scores: list[float | None], rule: Any, quorum: int) -> None:
    verdicts = said(*scores)
    known: dict[str, Any] = {
        "min_votes": quorum,
        "weights": {name: place / 3 for place, name in enumerate("abcdefgh")},
        "learned": EIGHT,
        "best": data.draw(st.sampled_from([verdict.judge for verdict in verdicts])),
    }
    shuffled = data.draw(st.permutations(verdicts))
    assert vote(shuffled, rule, **known) == vote(verdicts, rule, **known)


@given(st.lists(st.sampled_from([1.0, 2.0, None]), min_size=1, max_size=8))
def test_who_abstains_counts_in_the_half(scores: list[float | None]) -> None:
    told = vote(said(*scores), "majority")
    winners = [label for label in (1.0, 2.0) if scores.count(label) > len(scores) / 2]
    assert told.score == (winners[0] if winners else None)


@given(SCORES, st.sampled_from(RULES))
def test_the_panel_stays_between_its_judges(scores: list[float | None], rule: VoteRule) -> None:
    told = vote(said(*scores), rule, weights=dict.fromkeys("abcdefgh", 0.7))
    there = [score for score in scores if score is not None]
    assert told.num_votes == len(there) and told.num_votes + told.num_abstentions == len(scores)
    assert (told.score is None) == (told.unscored is not None)
    if told.score is not None:
        slack = 0.5 if rule == "majority" else 1e-9  # a majority is of rounded scores
        assert min(there) - slack <= told.score <= max(there) + slack
