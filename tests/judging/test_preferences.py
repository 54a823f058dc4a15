"""The column `preferred`, in long and in wide form, becomes scores of 1, 0.5 and 0."""

from pathlib import Path
from typing import Any

import pytest

from judging.pairing import Against, pairs_of
from judging.records import Record, Scale
from tests.judging.ratedfiles import jsonl, records, rejected

QA = {"task": "qa"}
TEXT = {"task": "qa", "group": "g", "source": "Why?", "candidate": "So."}
WIDE = {"source": "Why?", "a": "So.", "b": "Because."}
SCALE = Scale(0, 1)


def scores(read: list[Record]) -> list[dict[str, float]]:
    return [dict(record.scores) for record in read]


@pytest.mark.parametrize(
    ("said", "points"),
    [
        *((True, 1), (False, 0), ("true", 1), ("False", 0), (1, 1), (0.0, 0), ("0", 0), (0.5, 0.5), ("no", 0)),
        *(("tie", 0.5), ("Tie (both bad)", 0.5), ("neither", 0.5)),
    ],
)
def test_a_text_is_preferred_or_not(tmp_path: Path, said: Any, points: float) -> None:
    (record,) = records(jsonl(tmp_path, {**TEXT, "preferred": said}))
    assert (dict(record.scores), dict(record.scales), dict(record.fields)) == (
        {"overall": points},
        {"overall": SCALE},
        {},
    )


def test_it_is_about_the_first_aspect_of_the_task_and_other_scores_stay(tmp_path: Path) -> None:
    row = {**TEXT, "preferred": True, "scores": {"utility": 3}, "scale": [1, 5]}
    (record,) = records(jsonl(tmp_path, row))
    assert scores([record]) == [{"utility": 3, "overall": 1}]
    assert dict(record.scales) == {"utility": Scale(1, 5), "overall": SCALE}
    translated = {**TEXT, "task": "translation", "source_lang": "English", "target_lang": "German", "preferred": False}
    assert scores(records(jsonl(tmp_path, translated))) == [{"quality": 0}]


def test_without_a_word_a_text_is_not_rated(tmp_path: Path) -> None:
    assert scores(records(jsonl(tmp_path, {**TEXT, "preferred": None}))) == [{}]


@pytest.mark.parametrize(
    ("said", "points"),
    [("a", [1, 0]), ("b", [0, 1]), ("model_a", [1, 0]), ("assistant b", [0, 1]), ("tie", [0.5, 0.5])],
)
def test_a_wide_row_names_the_preferred_system(tmp_path: Path, said: str, points: list[float]) -> None:
    path = jsonl(tmp_path, {**WIDE, "winner": said})
    read = records(path, systems=("a", "b"), defaults=QA, columns={"winner": "preferred"})
    assert scores(read) == [{"overall": one} for one in points]


def test_in_an_arena_the_sides_have_names_of_their_own(tmp_path: Path) -> None:
    sides = {"a.system": "tie", "b.system": "y"}
    for said, points in (("b", [0, 1]), ("y", [0, 1]), ("tie", [1, 0])):  # a system may be called `tie`
        read = records(jsonl(tmp_path, {**WIDE, **sides, "preferred": said}), systems=("a", "b"), defaults=QA)
        assert scores(read) == [{"overall": one} for one in points]


def test_of_three_texts_the_preferred_one_beats_the_others_and_they_are_equal(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**WIDE, "c": "Well.", "preferred": "b"})
    read = records(path, systems=("a", "b", "c"), defaults=QA)
    found = {(pair.first.system, pair.second.system): pair.labels("overall") for pair in pairs_of(read, Against(), 0)}
    assert found == {("a", "b"): (0, 1), ("a", "c"): (0, 0), ("b", "c"): (1, 0)}


@pytest.mark.parametrize(
    ("row", "options", "code", "naming"),
    [
        ({**TEXT, "preferred": "a"}, {}, "invalid_value", "must be true, false or tie, not 'a'"),
        ({**TEXT, "preferred": 2}, {}, "invalid_value", "not '2'"),
        ({**TEXT, "preferred": {"overall": 1}}, {}, "invalid_value", "must be true"),
        (
            {**TEXT, "preferred": True, "scores": {"overall": 4}, "scale": [1, 5]},
            {},
            *("conflict", "overall has a score too"),
        ),
        ({**TEXT, "preferred": 1, "ratings": {"overall": [4]}, "scale": [1, 5]}, {}, "conflict", "has a score too"),
        ({**TEXT, "task": "unheard", "preferred": True}, {}, "conflict", "needs a built-in task"),
        ({**TEXT, "prefered": True}, {}, "unknown_key", "Did you mean 'preferred'?"),
        ({**WIDE, "preferred": "z"}, {"systems": ("a", "b"), "defaults": QA}, "invalid_value", "one of a, b, or tie"),
        # The text of the preferred system is missing.
        (
            {**WIDE, "b": None, "preferred": "b"},
            {"systems": ("a", "b"), "defaults": QA},
            *("invalid_value", "one of a, or tie"),
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], code: str, naming: str
) -> None:
    (only,) = rejected(jsonl(tmp_path, row), **options)
    assert only.code == code and naming in only.reason
