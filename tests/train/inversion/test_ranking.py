"""The choice among candidates: probabilities of the people's scores, agreement on a dev part, ranking with ties."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.records import Record, Scale
from tests.train.making import TEXT, candidate, rated, unit
from train.inversion.ranking import dev_agreement, log_probability, mean_log_probability, ranked, requests

FIVE = Scale(1, 5)
P = [0.1, 0.2, 0.3, 0.25, 0.15]


def logs(*probabilities: float | None) -> list[float]:
    """Natural logarithms; None: the engine does not tell."""
    return [math.nan if p is None else math.log(p) if p else -math.inf for p in probabilities]


@pytest.mark.parametrize(
    ("score", "probability"),
    [
        # A whole score is its label's probability, at both ends too.
        (1, 0.1),
        (3, 0.3),
        (5, 0.15),
        # Between two labels both count, the nearer one more: 0.5 x 0.3 + 0.5 x 0.25.
        (3.5, 0.275),
        # 0.75 x 0.25 + 0.25 x 0.15.
        (4.25, 0.225),
        # 0.9 x 0.1 + 0.1 x 0.2.
        (1.1, 0.11),
        # 0.1 x 0.25 + 0.9 x 0.15.
        (4.9, 0.16),
    ],
)
def test_the_probability_of_the_peoples_score(score: float, probability: float) -> None:
    assert log_probability(logs(*P), score, FIVE) == pytest.approx(math.log(probability))


@pytest.mark.parametrize(
    ("score", "probability"),
    # Whole numbers 1 to 4 on a scale from 0.5 to 4.5: beyond the outer labels there is nothing but them.
    [(0.5, 0.1), (0.99, 0.1), (1, 0.1), (2.5, 0.25), (4, 0.4), (4.2, 0.4), (4.5, 0.4)],
)
def test_beyond_the_outer_labels_the_outer_label_counts(score: float, probability: float) -> None:
    found = log_probability(logs(0.1, 0.2, 0.3, 0.4), score, Scale(0.5, 4.5))
    assert found == pytest.approx(math.log(probability))


@pytest.mark.parametrize(
    ("score", "probability"),
    # Labels -1, 0, 1.
    [(-1, 0.2), (0, 0.5), (1, 0.3), (-0.5, 0.35), (0.25, 0.45)],
)
def test_a_scale_below_zero(score: float, probability: float) -> None:
    assert log_probability(logs(0.2, 0.5, 0.3), score, Scale(-1, 1)) == pytest.approx(math.log(probability))


def test_a_scale_of_two_labels() -> None:
    assert log_probability(logs(0.9, 0.1), 1, Scale(0, 1)) == pytest.approx(math.log(0.1))
    # 0.25 x 0.9 + 0.75 x 0.1.
    assert log_probability(logs(0.9, 0.1), 0.75, Scale(0, 1)) == pytest.approx(math.log(0.3))


def test_a_label_that_the_engine_does_not_tell_has_no_probability() -> None:
    told = logs(0.1, None, 0.3, None, 0.0)
    assert log_probability(told, 3, FIVE) == pytest.approx(math.log(0.3))
    assert log_probability(told, 2, FIVE) == -math.inf
    assert log_probability(told, 5, FIVE) == -math.inf
    # 0.5 x 0.3 and nothing of the 4.
    assert log_probability(told, 3.5, FIVE) == pytest.approx(math.log(0.15))
    assert log_probability(told, 4.5, FIVE) == -math.inf
    assert log_probability(logs(*[None] * 5), 3, FIVE) == -math.inf


def test_an_engine_that_tells_no_probabilities_at_all() -> None:
    # What an endpoint without log-probabilities leaves (cluster.engine).
    assert log_probability([], 3, FIVE) == -math.inf


@settings(deadline=None)
@given(st.floats(1, 5), st.lists(st.floats(1e-6, 1), min_size=5, max_size=5))
def test_the_probability_lies_between_those_of_the_labels_beside(score: float, masses: list[float]) -> None:
    found = math.exp(log_probability(logs(*masses), score, FIVE))
    beside = [masses[math.floor(score) - 1], masses[math.ceil(score) - 1]]
    assert min(beside) * (1 - 1e-9) <= found <= max(beside) * (1 + 1e-9)


# ---------------------------------------------------------------------- what is asked


def test_every_usable_candidate_is_asked_about_every_aspect_that_people_rated() -> None:
    both = rated("a", {"overall": 3, "utility": 4})
    one = rated("b", {"overall": 1})
    made_for = unit(both)
    found = list(requests([candidate(0, made_for), candidate(1, made_for)], [both, one], ()))
    assert [(row["candidate"], row["aspect"], row["record"]) for row in found] == [
        (0, "overall", 0),
        (0, "overall", 1),
        (0, "utility", 0),
        (1, "overall", 0),
        (1, "overall", 1),
        (1, "utility", 0),
    ]
    assert {row["json_schema"] for row in found} == {""}
    assert {row["reply_prefix"] for row in found} == {"Score: "}
    assert found[1]["prompt"].startswith(
        "How good is Answer b. as an answer to Question b??\n\nReply with the score alone"
    )


def test_a_refused_candidate_is_not_asked() -> None:
    example = rated("a", {"overall": 3})
    refused = candidate(0, unit(example), problems=("it repeats itself",))
    assert [row["candidate"] for row in requests([refused, candidate(1, unit(example))], [example], ())] == [1]
    assert list(requests([refused], [example], ())) == []
    assert list(requests([candidate(1, unit(example))], [], ())) == []


def test_labels_are_those_of_the_aspects_scale_and_texts_are_neutralised() -> None:
    example = rated(
        "a", {"understandability": 1, "naturalness": 2}, task="dialogue", candidate="<|im_end|> and ENDOFTURN"
    )
    text = "Rate {{candidate}} after {{source}}."
    rows = list(requests([candidate(0, unit(example), text=text)], [example], ("ENDOFTURN",)))
    assert [row["labels"] for row in rows] == [["0", "1"], ["1", "2", "3"]]
    assert all("Rate < |im_end|> and E NDOFTURN after" in row["prompt"] for row in rows)


# ---------------------------------------------------------------------- the method's objective


def reply(record: int, *probabilities: float | None, aspect: str = "overall", error: str = "") -> dict[str, Any]:
    known = {"aspect": aspect, "record": record, "reply": "", "finish_reason": "stop", "detail": ""}
    return {**known, "label_logprobs": logs(*probabilities), "error": error}


def test_the_objective_is_the_mean_over_aspects_and_examples() -> None:
    first = rated("a", {"overall": 3, "utility": 5})
    second = rated("b", {"overall": 1}, scale=(0, 2))
    made = candidate(0, unit(first))
    # People gave `second` 1 of 0 to 2, which is 3 of the task's 1 to 5.
    found = mean_log_probability(
        made, [reply(0, *P), reply(0, 0, 0, 0, 0.5, 0.5, aspect="utility"), reply(1, *P)], [first, second]
    )
    # (ln 0.3 + ln 0.5 + ln 0.3) / 3 = (-1.203973 - 0.693147 - 1.203973) / 3.
    assert found == (pytest.approx(-1.033698, abs=1e-6), "")


def test_a_question_without_an_answer_leaves_no_value() -> None:
    example = rated("a", {"overall": 3, "utility": 3})
    made = candidate(0, unit(example))
    value, why = mean_log_probability(made, [reply(0, *P), reply(0, aspect="utility", error="too_long")], [example])
    assert (value, why) == (None, "the judge returned no score: too_long")
    value, why = mean_log_probability(made, [reply(0, *P), reply(0, aspect="utility")], [example])
    assert (value, why) == (None, "the judge returned no score: no_logprobs")
    for told in ([0.5, 0.5, 0, 0, 0], [0.5, 0.5, None, None, None]):
        value, why = mean_log_probability(made, [reply(0, *P), reply(0, *told, aspect="utility")], [example])
        assert (value, why) == (None, "no probability on the human score")
    assert mean_log_probability(made, [], [example]) == (None, "no probability on the human score")


# ---------------------------------------------------------------------- agreement on the dev part


def sure(*scores: int | None, aspect: str = "overall") -> list[dict[str, Any]]:
    """Replies of a model that is sure of a score, record by record; None: it could not be asked."""
    return [
        reply(place, aspect=aspect, error="timeout")
        if score is None
        else reply(place, *(float(label == score) for label in range(1, 6)), aspect=aspect)
        for place, score in enumerate(scores)
    ]


def dev(*groups: str, scores: Sequence[float], aspect: str = "overall") -> list[Record]:
    return [
        rated(str(place), {aspect: score}, group=group)
        for place, (group, score) in enumerate(zip(groups, scores, strict=True))
    ]


SIX = dev("g", "g", "g", "h", "h", "h", scores=[1, 2, 3, 1, 2, 3])


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ([1, 2, 3, 2, 4, 5], 1.0),
        ([3, 2, 1, 5, 4, 2], -1.0),
        # One group in order, the other the wrong way round.
        ([1, 2, 3, 3, 2, 1], 0.0),
        # Ranks 2, 1, 3 against 1, 2, 3: 1 - 6 x (1 + 1 + 0) / (3 x 8) = 0.5; the other group 1.
        ([2, 1, 3, 1, 2, 3], 0.75),
        # The levels of two groups are not compared: the better group may score lower.
        ([3, 4, 5, 1, 2, 3], 1.0),
        # A group without an order is left out.
        ([4, 4, 4, 1, 2, 3], 1.0),
    ],
)
def test_agreement_is_the_mean_within_groups(told: list[int], value: float) -> None:
    found, why = dev_agreement(candidate(0, unit(SIX[0])), sure(*told), SIX)
    assert (found, why) == (pytest.approx(value), "")


def test_a_record_that_could_not_be_asked_is_left_out() -> None:
    made = candidate(0, unit(SIX[0]))
    # Without the record that breaks the order.
    assert dev_agreement(made, sure(1, 2, 3, 1, None, 3), SIX)[0] == pytest.approx(1.0)
    silent = sure(1, 2, 3, 1, 2, 3)
    silent[1]["label_logprobs"] = []
    silent[4]["label_logprobs"] = logs(*[None] * 5)
    assert dev_agreement(made, silent, SIX)[0] == pytest.approx(1.0)


def test_where_no_group_has_an_order_all_rows_are_compared() -> None:
    records = dev("a", "b", "c", "d", scores=[1, 2, 3, 4])
    made = candidate(0, unit(records[0]))
    # Ranks 1, 2, 4, 3: 1 - 6 x 2 / (4 x 15) = 0.8.
    assert dev_agreement(made, sure(1, 2, 5, 4), records)[0] == pytest.approx(0.8)


@pytest.mark.parametrize(
    "told", [[3, 3, 3, 3, 3, 3], [None] * 6, [None, None, 3, None, None, None]], ids=["constant", "silent", "one"]
)
def test_without_any_order_there_is_no_agreement(told: list[int | None]) -> None:
    found = dev_agreement(candidate(0, unit(SIX[0])), sure(*told), SIX)
    assert found == (None, "no agreement could be measured on the dev part")


def test_the_agreement_is_the_mean_over_aspects_that_have_one() -> None:
    records = [
        rated(str(n), {"overall": score, "utility": 4 - score}, group="g") for n, score in enumerate([1.0, 2.0, 3.0])
    ]
    made = candidate(0, unit(records[0]))
    # Overall 1; utility was rated 3, 2, 1, so that 2, 1, 3 is ranks against it: 1 - 6 x (1 + 1 + 4) / 24 = -0.5.
    told = [*sure(1, 2, 3), *sure(2, 1, 3, aspect="utility")]
    assert dev_agreement(made, told, records)[0] == pytest.approx(0.25)
    told = [*sure(1, 2, 3), *sure(4, 4, 4, aspect="utility")]
    assert dev_agreement(made, told, records)[0] == pytest.approx(1.0)


def test_scores_are_expected_values_not_labels() -> None:
    records = dev("g", "g", scores=[1, 5])
    made = candidate(0, unit(records[0]))
    # Label 3 is the likeliest both times; 0.2 x 2 + 0.8 x 3 = 2.8 and 0.8 x 3 + 0.2 x 4 = 3.2.
    told = [reply(0, 0, 0.2, 0.8, 0, 0), reply(1, 0, 0, 0.8, 0.2, 0)]
    assert dev_agreement(made, told, records)[0] == pytest.approx(1.0)


# ---------------------------------------------------------------------- ranking

EXAMPLE = unit(rated("a", {"overall": 3}))
APPENDED = {"source": "exact", "candidate": "appended"}


def test_the_best_value_is_first_and_one_without_a_value_has_no_rank() -> None:
    found = [candidate(number, EXAMPLE) for number in range(4)]
    assert ranked(found, {0: -2.0, 2: -0.5, 3: -1.0}) == [2, 3, 0]
    assert ranked(found, {}) == []
    assert ranked([], {}) == []


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Fewer slots that had to be appended, however long the text is.
        ({"text": TEXT + " Say it." * 50}, APPENDED),
        (APPENDED, {"source": "appended", "candidate": "appended"}),
        # Then the shorter text.
        ({"text": TEXT}, {"text": f"{TEXT} Say it."}),
        # A slot that was found loosely was found.
        ({"source": "fuzzy", "candidate": "normalised"}, {"text": f"{TEXT} Say it."}),
        # And of two alike the first one.
        ({}, {}),
    ],
)
def test_equal_values_are_told_apart(better: dict[str, str], worse: dict[str, str]) -> None:
    assert ranked([candidate(0, EXAMPLE, **better), candidate(1, EXAMPLE, **worse)], {0: -1.0, 1: -1.0}) == [0, 1]
    swapped = [candidate(0, EXAMPLE, **worse), candidate(1, EXAMPLE, **better)]
    assert ranked(swapped, {0: -1.0, 1: -1.0}) == ([1, 0] if better != worse else [0, 1])
    # Six decimals are printed, and what looks alike is alike.
    assert ranked(swapped, {0: -1.0, 1: -1.0000004}) == ([1, 0] if better != worse else [0, 1])
    # But a value that is better at all goes before everything else.
    assert ranked(swapped, {0: -1.0, 1: -1.000002}) == [0, 1]


def test_the_order_of_candidates_does_not_matter() -> None:
    found = [candidate(number, EXAMPLE, text=TEXT + "!" * (number % 3)) for number in range(9)]
    values = {number: -float(number // 3) for number in range(9)}
    assert ranked(found, values) == ranked(found[::-1], dict(reversed(values.items()))) == list(range(9))
