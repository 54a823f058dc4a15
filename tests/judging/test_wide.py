"""Wide form: one row per question, one column per system."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.data_config import DataConfig
from judging.data_names import Names
from judging.datasets import Empty, Rejected, read_records, read_rows
from judging.records import Record, Scale, content_id
from tests.judging.ratedfiles import jsonl, records, refused_whole, rejected, write
from tests.judging.test_datasets import JSON
from tests.refusals import refused

QA = {"task": "qa"}
WIDE = {"source": "Why?", "a": "So.", "b": "Because."}


def wide(path: Path, *systems: str, **options: Any) -> list[Record]:
    return records(path, systems=systems or ("a", "b"), defaults={**QA, **options.pop("defaults", {})}, **options)


def refusal(path: Path, *systems: str, **options: Any) -> tuple[str, str, str]:
    (only,) = rejected(path, systems=systems or ("a", "b"), defaults=QA, **options)
    return only.code, only.key, only.reason


def test_a_row_is_one_record_per_system(tmp_path: Path) -> None:
    read = wide(jsonl(tmp_path, {**WIDE, "id": 7, "topic": "air"}))
    # The row's id is the group; the ids are those of the row and the system.
    assert read == [
        Record("7/a", "qa", "7", "Why?", "So.", "a", fields={"topic": "air"}),
        Record("7/b", "qa", "7", "Why?", "Because.", "b", fields={"topic": "air"}),
    ]


def test_the_group_is_that_of_the_row_or_its_source(tmp_path: Path) -> None:
    first, second = wide(jsonl(tmp_path, {**WIDE, "id": "r", "group": 3.0}))
    assert (first.group, second.group, first.id) == ("3", "3", "r/a")
    read = wide(jsonl(tmp_path, WIDE, {**WIDE, "source": " Why? ", "a": "Else.", "b": None}))
    # The same question again, with other spaces.
    assert {one.group for one in read} == {content_id("Why?")} and len({one.id for one in read}) == len(read) == 3
    # A group of its own by a name: a cell of the group may be empty.
    content = "id,group,source,a,b\nr,,Why?,So.,No.\n"
    assert {one.group for one in wide(write(tmp_path, content, "x.csv"))} == {"r"}


def test_a_system_without_a_text_has_no_record(tmp_path: Path) -> None:
    read = wide(write(tmp_path, "source,a,b\nWhy?,So.,\nWhat?,,That.\n", "x.csv"))
    assert [(one.system, one.candidate) for one in read] == [("a", "So."), ("b", "That.")]
    # An empty text is an answer, where the format can tell it from none.
    first, second = read_records([jsonl(tmp_path, {**WIDE, "b": ""})], systems=("a", "b"), defaults=QA)
    assert isinstance(first, Record) and isinstance(second, Empty) and second.record.system == "b"


def test_columns_map_to_systems_first(tmp_path: Path) -> None:
    path = write(tmp_path, "question,gpt4_answer,llama_answer\nWhy?,So.,No.\n", "x.csv")
    columns = {"question": "source", "gpt4_answer": "gpt-4", "llama_answer": "llama"}
    read = wide(path, "gpt-4", "llama", columns=columns)
    assert [(one.system, one.source, one.candidate) for one in read] == [
        ("gpt-4", "Why?", "So."),
        ("llama", "Why?", "No."),
    ]


def test_a_dotted_column_belongs_to_its_system(tmp_path: Path) -> None:
    more = {"a.scores.overall": 4, "b.scores.overall": 2, "scale": [1, 5], "a.model": "x"}
    first, second = wide(jsonl(tmp_path, {**WIDE, **more}))
    assert (first.scores, first.scales, first.fields) == ({"overall": 4}, {"overall": Scale(1, 5)}, {"model": "x"})
    assert (second.scores, second.fields) == ({"overall": 2}, {})
    # Mapped names, and one name for the columns of every system.
    named = {**WIDE, "a_score": 4, "b.rating": 2}
    columns = {"a_score": "a.scores.overall", "rating": "scores.overall"}
    first, second = wide(jsonl(tmp_path, named), columns=columns, defaults={"scale": (1, 5)})
    assert (first.scores, second.scores) == ({"overall": 4}, {"overall": 2})


def test_an_object_holds_the_columns_of_its_system(tmp_path: Path) -> None:
    cell = {"candidate": "So.", "scores": {"overall": 4}, "latency": 0.5, "note": None}
    first, second = wide(jsonl(tmp_path, {**WIDE, "a": cell}), defaults={"scale": (1, 5)})
    assert (first.candidate, first.scores, first.fields) == ("So.", {"overall": 4}, {"latency": "0.5"})
    assert (second.candidate, second.scores) == ("Because.", {})
    # Without a candidate in it, the system has no text.
    assert [one.system for one in wide(jsonl(tmp_path, {**WIDE, "a": {"latency": 0.5}}))] == ["b"]


def test_a_column_of_a_system_counts_before_a_shared_one(tmp_path: Path) -> None:
    named = {"note": "shared", "a.note": "own"}
    first, second = wide(jsonl(tmp_path, {**WIDE, **named}))
    assert (first.fields, second.fields) == ({"note": "own"}, {"note": "shared"})
    # By its name in the record, too.
    first, second = wide(jsonl(tmp_path, {**WIDE, "remark": "shared", "a.note": "own"}), columns={"remark": "note"})
    assert (first.fields, second.fields) == ({"note": "own"}, {"note": "shared"})


def test_a_version_behind_a_dot_belongs_to_no_system(tmp_path: Path) -> None:
    (only,) = wide(jsonl(tmp_path, {"source": "Why?", "gpt-4": "So.", "gpt-4.1": "No."}), "gpt-4")
    assert only.fields == {"gpt-4.1": "No."}


def test_a_longer_name_owns_its_columns(tmp_path: Path) -> None:
    texts = {"source": "Why?", "gpt-3": "So.", "gpt-3.5": "No.", "gpt-3.5.scores.overall": 2, "scale": [1, 5]}
    first, second = wide(jsonl(tmp_path, texts), "gpt-3", "gpt-3.5")
    assert (first.system, first.scores, second.system, second.scores) == ("gpt-3", {}, "gpt-3.5", {"overall": 2})


def test_systems_named_in_the_row(tmp_path: Path) -> None:
    """An arena: the sides a and b are other systems in every row, and conversations hold the source."""

    def chat(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": answer}]

    fight = {"question_id": 81, "model_a": "x", "model_b": "y", "winner": "model_a"}
    columns = {"question_id": "group", "conversation_a": "a", "conversation_b": "b"}
    columns |= {"model_a": "a.system", "model_b": "b.system"}
    path = jsonl(tmp_path, {**fight, "conversation_a": chat("So."), "conversation_b": chat("No.")})
    first, second = wide(path, columns=columns)
    assert (first.system, first.group, first.source, first.candidate) == ("x", "81", "Why?", "So.")
    assert (second.system, second.candidate, second.fields) == ("y", "No.", {"winner": "model_a"})


@pytest.mark.parametrize(
    ("more", "code", "key", "naming"),
    [
        ({"a": None, "b": None}, "missing_key", "data.systems", "a, b"),
        ({"candidate": "So."}, "conflict", "candidate", "`a.candidate`"),
        ({"system": "x"}, "conflict", "system", "`a.system`"),
        ({"scores": {"a": 4}}, "conflict", "scores", "`a.scores`"),
        ({"scores.overall": 4}, "conflict", "scores.overall", "`a.scores.overall`"),
        ({"a_score": 4}, "unknown_key", "a_score", "'a.scores.ASPECT'"),
        ({"score_b": 4}, "unknown_key", "score_b", "'b.scores.ASPECT'"),
        ({"rating-b": 4}, "unknown_key", "rating-b", "'b.scores.ASPECT'"),
        ({"a_overall": 4}, "unknown_key", "a_overall", "'a.scores.overall'"),
        ({"a_utility_score": 4}, "unknown_key", "a_utility_score", "'a.scores.utility'"),
        ({"Source": "Why?", "source": None, "b": None}, "unknown_key", "Source", "'source'"),
        ({"a.candidate": "So."}, "duplicate_key", "a.candidate", "a.candidate"),
        ({"a": {"candidate": {"candidate": "So."}}, "b": None}, "invalid_value", "a.candidate", "text"),
        ({"a": [7], "b": None}, "invalid_value", "candidate", "`role`"),
        ({"a ": "So."}, "duplicate_key", "a", "whitespace"),
        ({"score1": 4, "1": "So."}, "unknown_key", "score1", "'1.scores.ASPECT'"),
        ({"a.id": "x", "b.id": "x"}, "duplicate_id", "id", "'x'"),
        ({"id": [1], "b": None}, "invalid_value", "id", "valid string"),
        ({"id": "", "group": "g", "b": None}, "invalid_value", "id", "at least 1"),
    ],
)
def test_a_wide_row_that_does_not_fit(tmp_path: Path, more: dict[str, Any], code: str, key: str, naming: str) -> None:
    path = jsonl(tmp_path, {name: value for name, value in {**WIDE, **more}.items() if value is not None})
    found = refusal(path, *(("a", "b", "1") if "1" in more else ()))
    assert found[:2] == (code, key) and naming in found[2] and "\n" not in found[2]


def test_two_ids_are_one_too_many(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**WIDE, "id": "x", "uid": "y"})
    assert refusal(path, columns={"uid": "id"})[:2] == ("duplicate_key", "id")


def test_a_name_mapped_to_itself_is_a_text(tmp_path: Path) -> None:
    first, _ = wide(jsonl(tmp_path, {**WIDE, "a_score": 4}), columns={"a_score": "a_score"})
    assert (first.scores, first.fields) == ({}, {"a_score": "4"})


def test_a_row_that_does_not_fit_rejects_its_own_records_alone(tmp_path: Path) -> None:
    rows = [{**WIDE, "id": "1"}, {**WIDE, "id": "2", "a.scores.overall": 9, "scale": [1, 5]}, {**WIDE, "id": "3"}]
    read = list(read_records([jsonl(tmp_path, *rows)], systems=("a", "b"), defaults=QA))
    found = [one.line if isinstance(one, Rejected) else one.id for one in read]
    assert found == ["1/a", "1/b", 2, "2/b", "3/a", "3/b"]


@pytest.mark.parametrize("systems", [("a", "a"), ("source", "a"), ("scores.overall",), ("",)])
def test_systems_that_cannot_be(systems: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="systems"):
        DataConfig(records=("x.csv",), systems=systems)


def test_a_system_that_no_file_has(tmp_path: Path) -> None:
    path = jsonl(tmp_path, WIDE)
    names = Names()
    options: dict[str, Any] = {"systems": ("a", "b", "c"), "defaults": QA, "names": names}
    assert len(records(path, **options)) == 2
    data = DataConfig(records=(str(path),), systems=("a", "b", "c"))
    with refused("unknown_key", "data.systems", naming="'c'"):
        raise names.problem(data) or AssertionError
    assert names.problem(data.model_copy(update={"systems": ("x", "b"), "columns": {"a": "x"}})) is None


def test_a_file_of_no_rows_stays_one(tmp_path: Path) -> None:
    refused_whole("empty_file", write(tmp_path, "source,a,b\n", "x.csv"), systems=("a", "b"))


NAMES = st.sampled_from(
    [
        *("a", "b", "id", "group", "source", "scale", "task", "candidate", "a.scores.overall", "a.candidate", "a.id"),
        *("a.scores", "b.system", "b.ratings.x", "a_score", "b.", ".a", "a..x", "", "fields", " a"),
    ]
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": JSON}))


@given(st.lists(st.dictionaries(NAMES, JSON | MESSAGES | st.sampled_from(["So.", "[1, 5]"])), min_size=1, max_size=4))
def test_any_wide_row_gives_records_or_reasons(rows: list[dict[str, Any]]) -> None:
    whole = [{**WIDE, **one} for one in rows]
    read = list(read_rows(whole, systems=("a", "b"), defaults=QA))
    assert read and {one.line for one in read if isinstance(one, Rejected)} <= set(range(1, len(rows) + 1))
    found = [one for one in read if isinstance(one, Record)]
    assert len({one.id for one in found}) == len(found)
    assert all(Record.from_row(one.to_row()) == one for one in found)
