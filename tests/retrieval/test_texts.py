"""Who may serve whom: own record, own group and near-copies are planted, and refused."""

from dataclasses import replace

import pytest

from judging.records import Record, Scale
from retrieval.texts import example_text, is_near_copy, may_serve, query_text

LONG = "The city council met on Monday to discuss the new bridge over the river ."


def record(**changes: object) -> Record:
    made = Record(
        id="a",
        task="summarisation",
        group="g1",
        source=LONG,
        candidate="Council talks about a bridge .",
        scores={"coherence": 3.5},
        scales={"coherence": Scale(1, 5)},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def other(**changes: object) -> Record:
    made = {"id": "b", "group": "g2", "source": "A cat sat for a long time on a very old grey mat today .", **changes}
    return record(**{"candidate": "A cat was sitting on something .", **made})


def test_another_text_of_another_group_may_serve() -> None:
    assert may_serve(other(), record())


@pytest.mark.parametrize(
    "planted",
    [
        other(id="a"),
        other(group="g1"),
        other(source=LONG),
        other(source=LONG.upper().replace("Monday", "Tuesday")),
        other(source=LONG.replace(" .", "").replace(" the ", "  the ")),
        other(candidate="x", source=f"{LONG} It will be long ."),
    ],
    ids=["itself", "its group", "its source", "one word changed", "punctuation", "a few words more"],
)
def test_a_leak_is_refused(planted: Record) -> None:
    subject = record(source=f"{LONG} It will be .") if planted.source.endswith("long .") else record()
    assert not may_serve(planted, subject)
    assert not may_serve(subject, planted)


def test_the_same_group_name_in_another_data_set_is_another_group() -> None:
    assert may_serve(other(group="g1", dataset="elsewhere"), record())


def test_short_texts_that_are_alike_are_no_copies() -> None:
    assert not is_near_copy(other(candidate="i agree ."), record(candidate="i agree ."))
    assert is_near_copy(other(candidate=LONG), record(candidate=LONG, source="quite another thing"))


def test_a_short_record_that_is_copied_whole_is_a_copy() -> None:
    short = {"source": "How are you?", "candidate": "I am fine."}
    assert is_near_copy(other(**short), record(**short))
    assert not is_near_copy(other(**short), record(**{**short, "candidate": "I am ill."}))


def test_scripts_without_spaces_and_wide_spaces_hide_no_copy() -> None:
    chinese = "今天我们去公园散步，看到了很多花。"
    assert is_near_copy(other(candidate=chinese), record(candidate=chinese, source="另一个问题"))
    assert not is_near_copy(other(candidate=chinese), record(candidate="我昨天在家里读了一本关于历史的书"))
    assert is_near_copy(other(candidate=LONG), record(candidate=LONG.replace(" ", " " * 6), source="quite other"))


def test_what_the_towers_read() -> None:
    query, example = query_text(record(), "coherence"), example_text(record(), "coherence")
    assert query.startswith("summarisation, coherence: ")
    assert query.endswith(f"Council talks about a bridge .\n\n{LONG}")
    # The query tower never sees a human score; the example tower does, with its scale.
    assert "3.5" not in query
    assert "People's score: 3.5 (1 to 5)" in example
