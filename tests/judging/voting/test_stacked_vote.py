"""A learned vote as a value: its formula by hand, abstentions, names, and what is none."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from judging.records import Scale
from judging.voting.calibration import Calibration, identity
from judging.voting.stacked_vote import LearnedVote, Member

FIVE = Scale(1, 5)
AS_IS = identity(FIVE, 100)
STEEP = Calibration(kind="isotonic", num_rows=100, knots=((1, 1), (3, 1), (5, 5)))


def made(**members: tuple[float, Calibration]) -> LearnedVote:
    """A vote around the centre 3 on the scale 1 to 5."""
    return LearnedVote(
        kind="stacked",
        method="ridge",
        low=1,
        high=5,
        centre=3,
        members=tuple(
            Member(judge=name, weight=weight, calibration=known) for name, (weight, known) in members.items()
        ),
        strength=0.3,
        num_rows=100,
        num_groups=20,
        num_folds=5,
        seed=0,
    )


VOTE = made(a=(0.5, AS_IS), b=(0.25, STEEP), c=(0.0, AS_IS), d=(0.75, AS_IS))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # b says 4, calibrated 3: 3 + .5 * 1 + .25 * 0 + .75 * -1
        ({"a": 4, "b": 4, "c": 1, "d": 2}, 2.75),
        # d is missing: a and b have 1.5 instead of .75 of weight: 3 + 2 * (.5 * 1 + .25 * 2) = 5
        ({"a": 4, "b": 5, "c": 1, "d": None}, 5),
        ({"a": 4, "b": 5}, 5),  # not asked is an abstention too
        ({"a": 2}, 1.5),  # 3 + 1.5 * -1
        ({"a": 5, "d": 5}, 5),  # 3 + 1.5 * 2 = 6 is cut off
        ({"c": 4}, None),  # only a judge without a weight
        ({"a": None}, None),
        ({}, None),
    ],
)
def test_the_score_by_hand(scores: dict[str, float | None], expected: float | None) -> None:
    assert VOTE.score(scores) == (None if expected is None else pytest.approx(expected))


def test_weights_below_0_and_abstentions() -> None:
    vote = made(a=(1.0, AS_IS), b=(-0.5, AS_IS))
    assert vote.score({"a": 4, "b": 5}) == pytest.approx(3 + 1 - 1)
    # The gap gets the mean by the sizes of the weights, here that of a alone: 3 + 1 - .5 and, for b alone, 3 - 1 + 2.
    assert vote.score({"a": 4}) == pytest.approx(3.5)
    assert vote.score({"b": 5}) == pytest.approx(4)


def test_an_unknown_judge_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"unknown judge 'z'.* a, b, c, d"):
        VOTE.score({"a": 3, "z": 3})
    with pytest.raises(ValueError, match="duplicate"):
        VOTE.scores(np.full((2, 2), 3.0), ["a", "a"])


@given(st.lists(st.lists(st.none() | st.floats(1, 5), min_size=4, max_size=4), min_size=1, max_size=20), st.data())
def test_one_row_and_many_are_the_same_to_the_bit(rows: list[list[float | None]], data: st.DataObject) -> None:
    names = data.draw(st.permutations("abcd"))
    many = VOTE.scores(np.array(rows, dtype=float), names)
    single = [VOTE.score(dict(zip(names, row, strict=True))) for row in rows]
    assert [None if np.isnan(score) else score for score in many.tolist()] == single
    again = [VOTE.score({name: row[names.index(name)] for name in "abcd"}) for row in rows]
    assert again == single
    assert all(score is None or 1 <= score <= 5 for score in single)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low": 5}, "not 5 and 5"),
        ({"members": "none"}, "at least 1 item"),
        ({"members": "turned"}, "sorted"),
        ({"members": "twice"}, "duplicates"),
        ({"members": "weightless"}, "at least one weight"),
        ({"method": "nnls", "members": "negative"}, "negative"),
        ({"centre": float("nan")}, "finite number"),
        ({"more": 1}, "Extra inputs"),
    ],
)
def test_a_vote_that_is_none(change: dict[str, Any], words: str) -> None:
    content = VOTE.model_dump()
    first, second = content["members"][:2]
    members: dict[str, Any] = {
        "as they are": content["members"],
        "none": [],
        "turned": [second, first],
        "twice": [first, first],
        "weightless": [{**first, "weight": 0}],
        "negative": [first, {**second, "weight": -1}],
    }
    which = change.get("members", "as they are")
    with pytest.raises(ValidationError, match=words):
        LearnedVote.model_validate({**content, **change, "members": members[which]})
