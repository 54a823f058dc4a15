"""Rows of rated texts: what becomes a record, what is rejected with which code and key."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.datasets import Empty, Rejected, is_blank, read_records
from judging.readers import RowError
from judging.records import Record, Scale, content_id
from tests.judging.ratedfiles import GOOD, RECORD, jsonl, records, rejected, row, write


def test_a_good_row(tmp_path: Path) -> None:
    assert records(jsonl(tmp_path, GOOD)) == [RECORD]


def test_everything_a_row_can_hold(tmp_path: Path) -> None:
    read = records(
        jsonl(
            tmp_path,
            row(
                dataset="d",
                scores={"overall": 4, "fluency": "0.5", "coherence": None},
                scales={"fluency": [0, 1]},
                ratings={"overall": [3, None, 5], "style": [2]},
                fact="a fact",
                reference=None,
                story_id=7,
                year=1.5,
                final=True,
                tags=["x", None, "y"],
                more={"a": ["b", 1]},
            ),
        )
    )
    # What is no column of ours becomes a text by one rule; null is nothing. Ratings without a score are its mean.
    assert read == [
        Record(
            "r1",
            "qa",
            "g1",
            "Why?",
            "So.",
            "s1",
            "d",
            {
                "fact": "a fact",
                "story_id": "7",
                "year": "1.5",
                "final": "true",
                "tags": "x\ny",
                "more": '{"a": ["b", 1]}',
            },
            {"overall": 4.0, "fluency": 0.5, "style": 2.0},
            {"overall": Scale(1, 5), "fluency": Scale(0, 1), "style": Scale(1, 5)},
            {"overall": (3.0, None, 5.0), "style": (2.0,)},
        )
    ]


def test_the_least_a_row_must_hold(tmp_path: Path) -> None:
    least = {"task": "qa", "group": "g", "source": "", "candidate": "So."}
    assert records(jsonl(tmp_path, least)) == [Record(content_id("qa", "", "g", "", "", "So."), "qa", "g", "", "So.")]


def test_names_may_be_numbers(tmp_path: Path) -> None:
    first, second = records(jsonl(tmp_path, row(id=7, group=1.0, system=3.5), row(id="8", group="1", system="4")))
    assert (first.id, first.group, first.system) == ("7", "1", "3.5") and second.group == first.group


def test_a_row_without_a_group_belongs_to_its_source(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(group=None), row(id="r2", group=None, source=" Why? "), row(id="r3", group="g"))
    read = records(path, group_by_source=True)
    # The group of the text "Why?", with white space or without; a name of its own is kept beside it.
    assert [one.group for one in read] == [content_id("Why?"), content_id("Why?"), f"g-{content_id('Why?')[:8]}"]
    (missing, *_) = rejected(path)
    assert (missing.code, missing.key) == ("missing_key", "group") and "data.group_by_source" in missing.reason


def test_null_is_the_same_as_nothing(tmp_path: Path) -> None:
    whole = {**GOOD, "id": None, "system": None, "dataset": None, "scales": None, "ratings": None, "task": None}
    read = records(jsonl(tmp_path, whole), defaults={"task": "story"})
    assert [(one.task, one.system, one.dataset) for one in read] == [("story", "", "")]


@pytest.mark.parametrize(
    ("changes", "code", "key", "naming"),
    [
        ({"task": None}, "missing_key", "task", "required"),
        ({"task": ""}, "invalid_value", "task", "at least 1"),
        ({"task": 7}, "invalid_value", "task", "valid string"),
        ({"group": None}, "missing_key", "group", "required"),
        ({"group": ""}, "invalid_value", "group", "at least 1"),
        ({"group": True}, "invalid_value", "group", "valid string"),
        ({"source": None}, "missing_key", "source", "required"),
        ({"source": ["a"]}, "invalid_value", "source", "`role`"),
        ({"candidate": None}, "missing_key", "candidate", "required"),
        ({"candidate": ""}, "invalid_value", "candidate", "blank"),
        ({"candidate": " \n\u200b\ufeff\u2800"}, "invalid_value", "candidate", "blank"),
        ({"fact": float("inf")}, "invalid_value", "fact", "finite"),
        ({"scores": None, "scroes": {"overall": 4}}, "unknown_key", "scroes", "'scores'"),
        ({"candidate": None, "Candidate": "b"}, "unknown_key", "Candidate", "'candidate'"),
        ({"candidate": None, "candidates": "b"}, "unknown_key", "candidates", "'candidate'"),
        ({"scores": None, "Overall": 4}, "unknown_key", "Overall", "'scores.overall'"),
        ({"scores": None, "utility_rating": 4}, "unknown_key", "utility_rating", "'scores.utility'"),
        ({"scroes.overall": 4}, "unknown_key", "scroes.overall", "'scores.overall'"),
        ({"scores[overall]": 4}, "unknown_key", "scores[overall]", "'scores.overall'"),
        ({"human.overall": 4}, "unknown_key", "human.overall", "'scores.overall'"),
        ({"fields": {"candidate": "b"}}, "duplicate_key", "candidate", "fields"),
        ({"data_set": "b"}, "unknown_key", "data_set", "'dataset'"),
        ({"scores": None, "score": 4}, "unknown_key", "score", "'scores.ASPECT'"),
        ({"scores": None, "human_score": 4}, "unknown_key", "human_score", "'scores.ASPECT'"),
        ({"score.fluency": 4}, "unknown_key", "score.fluency", "'scores.fluency'"),
        ({"scores_fluency": 4}, "unknown_key", "scores_fluency", "'scores.fluency'"),
        ({"task": "dialogue", "facts": "a"}, "unknown_key", "facts", "'fact'"),
        ({"candidate": {"text": "a"}}, "invalid_value", "candidate", "valid string"),
        ({"id": ""}, "invalid_value", "id", "at least 1"),
        ({"id": True}, "invalid_value", "id", "valid string"),
        ({"system": float("inf")}, "invalid_value", "system", "valid string"),
        ({"scores": 4}, "invalid_value", "scores", "dictionary"),
        ({"scores": [4]}, "invalid_value", "scores", "dictionary"),
        ({"scores": {"overall": "good"}}, "invalid_value", "scores.overall", "valid number"),
        ({"scores": {"overall": ""}}, "invalid_value", "scores.overall", "valid number"),
        ({"scores": {"overall": [4]}}, "invalid_value", "scores.overall", "valid number"),
        ({"scores": {"overall": True}}, "invalid_value", "scores.overall", "true or false"),
        ({"ratings": {"overall": [3, False]}}, "invalid_value", "ratings.overall.1", "true or false"),
        ({"scores": {"overall": float("inf")}}, "invalid_value", "scores.overall", "finite"),
        ({"scores": {"overall": float("-inf")}}, "invalid_value", "scores.overall", "finite"),
        ({"scores": {"overall": "NaN"}}, "invalid_value", "scores.overall", "finite"),
        ({"scores": {"overall": 10**400}}, "invalid_value", "scores.overall", "valid number"),
        ({"scores": {"overall": 0}}, "out_of_scale", "scores.overall", "1 to 5"),
        ({"scores": {"overall": 5.001}}, "out_of_scale", "scores.overall", "1 to 5"),
        ({"scores": {"overall": -4}}, "out_of_scale", "scores.overall", "1 to 5"),
        ({"scale": None}, "missing_scale", "scores.overall", "data.scale"),
        ({"scale": [1]}, "missing_key", "scale.1", "required"),
        ({"scale": [1, 5, 9]}, "invalid_value", "scale", "at most 2"),
        ({"scale": 5}, "invalid_value", "scale", "tuple"),
        ({"scale": "1-5"}, "invalid_value", "scale", "tuple"),
        ({"scale": "[1, 5"}, "invalid_json", "scale", "delimiter"),
        ({"scale": "[" * 100_000}, "invalid_json", "scale", "recursion"),
        ({"scale": ["a", "b"]}, "invalid_value", "scale.0", "valid number"),
        ({"scale": [1, float("inf")]}, "invalid_value", "scale.1", "finite"),
        ({"scale": [5, 1]}, "invalid_value", "scales.overall", "5.0 to 1.0"),
        ({"scale": [3, 3]}, "invalid_value", "scales.overall", "3.0 to 3.0"),
        ({"scales": {"overall": [1, 3]}}, "out_of_scale", "scores.overall", "1 to 3"),
        ({"ratings": {"overall": [4, 6]}}, "out_of_scale", "ratings.overall", "1 to 5"),
        ({"ratings": {"overall": [float("inf")]}}, "invalid_value", "ratings.overall.0", "finite"),
        ({"scales": {"overal": [1, 10]}}, "unknown_aspect", "scales.overal", "'overall'"),
        ({"ratings": {"overall": 4}}, "invalid_value", "ratings.overall", "list"),
        ({"scores.overall": 3}, "duplicate_key", "scores.overall", "data.columns"),
        ({"scores": 4, "scores.overall": 3}, "duplicate_key", "scores.overall", "data.columns"),
    ],
)
def test_a_row_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], code: str, key: str, naming: str) -> None:
    path = jsonl(tmp_path, row(id="first"), row(**changes))
    first, found = read_records([path])
    assert isinstance(first, Record) and isinstance(found, Rejected)
    assert (found.line, found.code, found.key) == (2, code, key), found.reason
    assert naming in found.reason and "\n" not in found.reason
    # What a caller raises where no row may be rejected.
    error = found.error()
    assert (error.code, error.key) == (code, key) and str(error) == f"{path}, line 2: {found.reason}"


def test_a_caller_may_refuse_a_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, row(id="r2", task="poem"))
    read = list(read_records([path], check=lambda record: "no poems" if record.task == "poem" else None))
    assert read == [RECORD, Rejected(str(path), 2, "no poems")]
    error = RowError("no poems", code="unknown_task", key="task")
    read = list(read_records([path], check=lambda record: error if record.task == "poem" else None))
    assert read == [RECORD, Rejected(str(path), 2, "no poems", code="unknown_task", key="task")]


def duplicates(*paths: Path) -> list[tuple[str, int, str, str, str]]:
    """File, line, code and key of each rejected row, and the file and line of the first row of its id."""
    return [(one.file, one.line, one.code, one.key, one.reason.split(" first in ")[-1]) for one in rejected(*paths)]


def test_a_duplicate_id_in_a_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(id="a"), row(id="b"), row(id="a", candidate="Another."), row(id="a"))
    assert duplicates(path) == [(str(path), line, "duplicate_id", "id", f"{path}, line 1") for line in (3, 4)]
    assert "'a'" in rejected(path)[0].reason


def test_a_duplicate_id_in_two_files(tmp_path: Path) -> None:
    one = jsonl(tmp_path, row(id="a"), row(id="b"), name="one.jsonl")
    two = jsonl(tmp_path, row(id="c"), row(id="b"), name="two.jsonl")
    header = "id,task,group,source,candidate\n"
    three = write(tmp_path, f"{header}d,qa,g,s,c\nc,qa,g,s,c\nb,qa,g,s,c\n", "three.csv")
    assert duplicates(one, two, three) == [
        (str(two), 2, "duplicate_id", "id", f"{one}, line 2"),
        (str(three), 3, "duplicate_id", "id", f"{two}, line 1"),
        (str(three), 4, "duplicate_id", "id", f"{one}, line 2"),
    ]


def test_a_file_given_twice(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD)
    assert duplicates(path, path) == [(str(path), 1, "duplicate_id", "id", f"{path}, line 1")]


def test_a_rejected_row_takes_no_id(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(id="a", task=""), row(id="a"))
    assert [one.line if isinstance(one, Rejected) else one.id for one in read_records([path])] == [1, "a"]


def test_without_an_id_the_content_is_the_id(tmp_path: Path) -> None:
    rows = [
        row(id=None),
        row(id=None, candidate="Else."),
        row(id=None, scores={"overall": 2}),
        row(id=None, system="s2"),
    ]
    read = list(read_records([jsonl(tmp_path, *rows)]))
    # The third differs in its score alone: the same text was rated twice.
    assert [isinstance(one, Record) for one in read] == [True, True, False, True]
    (again,) = records(jsonl(tmp_path, row(id=None), name="other name.jsonl"))
    assert again == read[0]


def test_another_fact_makes_another_record(tmp_path: Path) -> None:
    rows = [
        row(id=None, task="dialogue", fact=fact, url=url) for fact, url in ("ax", "bx", "ay")
    ]  # no judge reads a url
    first, second, third = read_records([jsonl(tmp_path, *rows)])
    assert isinstance(first, Record) and isinstance(second, Record) and first.id != second.id
    assert isinstance(third, Rejected) and third.code == "duplicate_id"


def test_an_empty_candidate_comes_with_its_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(candidate=" "))
    (only,) = read_records([path])
    assert isinstance(only, Empty) and (only.record.candidate, only.record.scores) == (" ", {"overall": 4})
    csv_ = write(tmp_path, "task,group,source,candidate\nqa,g,s,\n", "x.csv")
    assert [type(one) for one in read_records([csv_])] == [Empty]


@pytest.mark.parametrize("text", ["\ufe0f", "\u034f", "\u180b", "\u17b4", "\U000e0100", "\u200b\n\ufe0f", "\x00"])
def test_what_cannot_be_seen_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}.")


@pytest.mark.parametrize("text", [".", "\U0001fae9", "\ue000", "0", "\u0301e"])
def test_what_may_be_seen_is_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_a_group_has_one_source(tmp_path: Path) -> None:
    one = jsonl(tmp_path, row(), row(id="r2", source=" Why? "), name="one.jsonl")
    two = jsonl(tmp_path, row(id="r3", source="What?"), row(id="r4", task="story", source="What?"), name="two.jsonl")
    (only,) = rejected(one, two)
    assert (only.file, only.line, only.code, only.key) == (str(two), 1, "duplicate_group", "group")
    assert f"'g1' has another source in {one}, line 1" in only.reason and "data.group_by_source" in only.reason
    kept = records(one, two, group_by_source=True)
    assert len({record.group_key for record in kept}) == 3 and kept[0].group == kept[1].group != kept[2].group


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [*GOOD, "dataset", "scales", "ratings", "scores.overall", "scale", "scales.overall", "self", "model_config"]
)


@given(
    st.lists(
        st.dictionaries(NAMES, JSON | st.sampled_from(["[1, 5]", "[", "{"]), max_size=4) | JSON, min_size=1, max_size=4
    )
)
def test_any_json_gives_records_or_reasons(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    whole = [{**GOOD, "id": f"r{n}", **one} if isinstance(one, dict) else one for n, one in enumerate(rows)]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in whole), encoding="utf-8")
    read = list(read_records([path]))
    assert len(read) == len(rows)
    for number, one in enumerate(read, start=1):
        if isinstance(one, Rejected):
            assert (one.file, one.line) == (str(path), number) and one.reason and "\n" not in one.reason
        else:
            assert Record.from_row(one.to_row()) == one
            assert all(score in one.scales[aspect] for aspect, score in one.scores.items())


SHARED = Path(__file__).parents[2].parent / "shared" / "data"
REAL = {
    # file: rows, groups, aspects (shared/data/README.md)
    "topical_chat": (
        216,
        36,
        {"understandability", "groundedness", "naturalness", "coherence", "engagingness", "overall"},
    ),
    "summeval": (960, 60, {"coherence", "consistency", "fluency", "relevance"}),
    "hanna": (638, 58, {"relevance", "coherence", "empathy", "surprise", "engagement", "complexity"}),
    "alce": (464, 120, {"utility"}),
    "wmt23": (972, 72, {"quality"}),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the rated texts are not there: {SHARED}")
@pytest.mark.parametrize("name", REAL)
def test_the_real_files(name: str) -> None:
    num_rows, num_groups, aspects = REAL[name]
    read = records(SHARED / f"{name}.jsonl")
    assert len(read) == len({one.id for one in read}) == num_rows
    assert len({one.group_key for one in read}) == num_groups
    assert {aspect for one in read for aspect in one.scores} == aspects
    assert all(Record.from_row(one.to_row()) == one for one in read)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the rated texts are not there: {SHARED}")
def test_the_real_files_together() -> None:
    read = records(*(SHARED / f"{name}.jsonl" for name in REAL))
    assert len(read) == 216 + 960 + 638 + 464 + 972
    chat = read[0]
    assert chat.scales["overall"] == Scale(1, 5) and chat.scales["groundedness"] == Scale(0, 1)
    assert chat.fields["fact"]
    assert {"source_lang", "target_lang", "reference"} <= set(read[-1].fields)
