import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from judging.data_config import DataConfig
from judging.datasets import Empty, Names, Rejected, dev_groups, is_blank, read_records
from judging.errors import InputError
from judging.records import Record, Scale, content_id
from tests.judging.ratedfiles import GOOD, RECORD, jsonl, records, rejected, row, write

# A row


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


def test_null_is_the_same_as_nothing(tmp_path: Path) -> None:
    whole = {**GOOD, "id": None, "system": None, "dataset": None, "scales": None, "ratings": None, "task": None}
    read = records(jsonl(tmp_path, whole), defaults={"task": "story"})
    assert [(one.task, one.system, one.dataset) for one in read] == [("story", "", "")]


# Wrong fields


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": None}, "task: field required"),
        ({"task": ""}, "task: string should have at least 1 character"),
        ({"task": 7}, "task: input should be a valid string"),
        ({"group": None}, "group: field required"),
        ({"group": ""}, "group: string should have at least 1 character"),
        ({"group": 7.5}, "group: input should be a valid string"),
        ({"source": None}, "source: field required"),
        ({"source": ["a"]}, "source: input should be a valid string"),
        ({"candidate": None}, "candidate: field required"),
        ({"candidate": ""}, "candidate: it is empty or blank"),
        ({"candidate": " \n\u200b\ufeff\u2800"}, "candidate: it is empty or blank"),
        ({"fact": float("inf")}, "fact: inf is no number that a text can hold"),
        ({"scores": None, "scroes": {"overall": 4}}, "the column 'scroes' is unknown: did you mean 'scores'?"),
        ({"candidate": None, "Candidate": "b"}, "the column 'Candidate' is unknown: did you mean 'candidate'?"),
        ({"candidate": None, "candidates": "b"}, "the column 'candidates' is unknown: did you mean 'candidate'?"),
        ({"scores": None, "Overall": 4}, "the column 'Overall' is unknown: did you mean 'scores.overall'?"),
        (
            {"scores": None, "utility_rating": 4},
            "the column 'utility_rating' is unknown: did you mean 'scores.utility'?",
        ),
        ({"scroes.overall": 4}, "the column 'scroes.overall' is unknown: did you mean 'scores.overall'?"),
        ({"scores[overall]": 4}, "the column 'scores[overall]' is unknown: did you mean 'scores.overall'?"),
        ({"human.overall": 4}, "the column 'human.overall' is unknown: did you mean 'scores.overall'?"),
        ({"fields": {"candidate": "b"}}, "two columns give 'candidate': one of them stands in `fields`"),
        ({"data_set": "b"}, "the column 'data_set' is unknown: did you mean 'dataset'?"),
        ({"scores": None, "score": 4}, "the column 'score' is unknown: did you mean 'scores.ASPECT'?"),
        ({"scores": None, "human_score": 4}, "the column 'human_score' is unknown: did you mean 'scores.ASPECT'?"),
        ({"score.fluency": 4}, "the column 'score.fluency' is unknown: did you mean 'scores.fluency'?"),
        ({"scores_fluency": 4}, "the column 'scores_fluency' is unknown: did you mean 'scores.fluency'?"),
        ({"task": "dialogue", "facts": "a"}, "the column 'facts' is unknown: did you mean 'fact'?"),
        ({"candidate": {"text": "a"}}, "candidate: input should be a valid string"),
        ({"id": ""}, "id: string should have at least 1 character"),
        ({"id": 7.5}, "id: input should be a valid string"),
        ({"system": 7.5}, "system: input should be a valid string"),
        ({"scores": 4}, "scores: input should be a valid dictionary"),
        ({"scores": [4]}, "scores: input should be a valid dictionary"),
        ({"scores": {"overall": "good"}}, "scores.overall: input should be a valid number, unable to parse"),
        ({"scores": {"overall": ""}}, "scores.overall: input should be a valid number, unable to parse"),
        ({"scores": {"overall": [4]}}, "scores.overall: input should be a valid number"),
        ({"scores": {"overall": True}}, "scores.overall: a number is needed, not true or false"),
        ({"ratings": {"overall": [3, False]}}, "ratings.overall.1: a number is needed, not true or false"),
        ({"scores": {"overall": float("inf")}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": float("-inf")}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": "NaN"}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": 10**400}}, "scores.overall: input should be a valid number"),
        ({"scores": {"overall": 0}}, "scores.overall: 0 lies outside the scale 1 to 5"),
        ({"scores": {"overall": 5.001}}, "scores.overall: 5.001 lies outside the scale 1 to 5"),
        ({"scores": {"overall": -4}}, "scores.overall: -4 lies outside the scale 1 to 5"),
        ({"scale": None}, "scores.overall has no scale: give `scale` in the row or data.scale in the configuration"),
        ({"scale": [1]}, "scale.1: field required"),
        ({"scale": [1, 5, 9]}, "scale: tuple should have at most 2 items after validation, not 3"),
        ({"scale": 5}, "scale: input should be a valid tuple"),
        ({"scale": "1-5"}, "scale: input should be a valid tuple"),
        ({"scale": "[1, 5"}, "scale: broken JSON: Expecting ',' delimiter"),
        ({"scale": "[" * 100_000}, "scale: broken JSON: maximum recursion depth exceeded"),
        ({"scale": ["a", "b"]}, "scale.0: input should be a valid number"),
        ({"scale": [1, float("inf")]}, "scale.1: input should be a finite number"),
        ({"scale": [5, 1]}, "scales.overall: a scale goes from a lower to a higher finite number, not from 5.0 to 1.0"),
        ({"scale": [3, 3]}, "scales.overall: a scale goes from a lower to a higher finite number, not from 3.0 to 3.0"),
        ({"scales": {"overall": [1, 3]}}, "scores.overall: 4 lies outside the scale 1 to 3"),
        ({"ratings": {"overall": [4, 6]}}, "ratings.overall: 6 lies outside the scale 1 to 5"),
        ({"ratings": {"overall": [float("inf")]}}, "ratings.overall.0: input should be a finite number"),
        ({"scales": {"overal": [1, 10]}}, "scales.overal: nobody rated it: did you mean 'overall'?"),
        ({"ratings": {"overall": 4}}, "ratings.overall: input should be a valid list"),
        ({"scores.overall": 3}, "two columns give 'scores.overall'"),
        ({"scores": 4, "scores.overall": 3}, "two columns give 'scores.overall'"),
    ],
)
def test_a_row_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = jsonl(tmp_path, row(id="first"), row(**changes))
    read = list(read_records([path]))
    assert isinstance(read[0], Record) and len(read) == 2
    assert str(read[1]).startswith(f"{path}, line 2: {reason}")
    assert "\n" not in str(read[1])


def test_a_caller_may_refuse_a_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, row(id="r2", task="poem"))
    read = list(read_records([path], check=lambda record: "no poems" if record.task == "poem" else None))
    assert read == [RECORD, Rejected(str(path), 2, "no poems")]


# Ids


def test_an_id_that_stands_twice_in_a_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(id="a"), row(id="b"), row(id="a", candidate="Another."), row(id="a"))
    assert [str(one) for one in rejected(path)] == [
        f"{path}, line {line}: id 'a' stands already in {path}, line 1" for line in (3, 4)
    ]


def test_an_id_that_stands_in_two_files(tmp_path: Path) -> None:
    one = jsonl(tmp_path, row(id="a"), row(id="b"), name="one.jsonl")
    two = jsonl(tmp_path, row(id="c"), row(id="b"), name="two.jsonl")
    header = "id,task,group,source,candidate\n"
    three = write(tmp_path, f"{header}d,qa,g,s,c\nc,qa,g,s,c\nb,qa,g,s,c\n", "three.csv")
    assert [str(found) for found in rejected(one, two, three)] == [
        f"{two}, line 2: id 'b' stands already in {one}, line 2",
        f"{three}, line 3: id 'c' stands already in {two}, line 1",
        f"{three}, line 4: id 'b' stands already in {one}, line 2",
    ]


def test_a_file_given_twice(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD)
    assert [str(one) for one in rejected(path, path)] == [f"{path}, line 1: id 'r1' stands already in {path}, line 1"]


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
    assert isinstance(third, Rejected) and "stands already" in third.reason


def test_an_empty_candidate_is_told_with_its_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(candidate=" "))
    (only,) = read_records([path])
    assert isinstance(only, Empty) and (only.record.candidate, only.record.scores) == (" ", {"overall": 4})
    csv_ = write(tmp_path, "task,group,source,candidate\nqa,g,s,\n", "x.csv")
    assert [type(one) for one in read_records([csv_])] == [Empty]


def test_what_pandas_writes_for_what_is_missing(tmp_path: Path) -> None:
    nan = float("nan")
    odd = row(scores={"overall": nan, "utility": 4}, ratings={"overall": [3, nan]}, fact=nan, group=7.0, id=1.0)
    (only,) = records(jsonl(tmp_path, {**odd, "Unnamed: 0": 3, "__index_level_0__": 1}))
    assert (only.scores, only.ratings) == ({"overall": 3, "utility": 4}, {"overall": (3, None)})
    assert (only.id, only.group, only.fields) == ("1", "7", {})


@pytest.mark.parametrize(
    "more",
    [
        *(
            {name: "x"}
            for name in ("label", "human", "Source", "_id", "systems", "idx", "uid", "story_id", "bleu_score")
        ),
        *({name: 1} for name in ("score_std", "rating_count", "score_mode", "scale_type", "bleu_score")),
    ],
)
def test_a_common_column_beside_ours_is_a_text(tmp_path: Path, more: dict[str, Any]) -> None:
    (only,) = records(jsonl(tmp_path, {**GOOD, **more}))
    assert only.fields == {name: str(value) for name, value in more.items()} and only.scores == {"overall": 4}


def test_names_are_looked_at_after_trimming_and_renaming(tmp_path: Path) -> None:
    known = {name: value for name, value in GOOD.items() if name != "task"}
    for task, columns in ((" task", {}), ("kind", {" kind": "task"})):
        path = jsonl(tmp_path, {**known, task: "dialogue", "facts": "F"})
        assert "did you mean 'fact'" in rejected(path, columns=columns)[0].reason
    path = jsonl(tmp_path, {**known, "\ufefftask ": "qa", " fields": {"fact": "F"}})
    assert [one.fields for one in records(path)] == [{"fact": "F"}]


def test_a_name_of_ours_in_data_columns_is_checked_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "scores": None, "rating": 4})
    for ours in ("score.overall", "overall", "Scores.overall"):
        assert "did you mean 'scores.overall'?" in rejected(path, columns={"rating": ours})[0].reason
    assert records(path, columns={"rating": " scores.overall "})[0].scores == {"overall": 4}


@pytest.mark.parametrize("text", ["\ufe0f", "\u034f", "\u180b", "\u17b4", "\U000e0100", "\u200b\n\ufe0f", "\x00"])
def test_what_cannot_be_seen_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}.")


@pytest.mark.parametrize("text", [".", "\U0001fae9", "\ue000", "0", "\u0301e"])
def test_what_may_be_seen_is_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_a_dev_row_that_does_not_fit_cannot_be_left_out(tmp_path: Path) -> None:
    dev = write(tmp_path, json.dumps({**GOOD, "scores": {"overall": 9}}) + "\n", "dev.jsonl")
    with pytest.raises(InputError, match="9 lies outside the scale"):
        dev_groups(DataConfig(records=("x",), dev=(str(dev),)))


# Groups


def test_a_group_has_one_source(tmp_path: Path) -> None:
    one = jsonl(tmp_path, row(), row(id="r2", source=" Why? "), name="one.jsonl")
    two = jsonl(tmp_path, row(id="r3", source="What?"), row(id="r4", task="story", source="What?"), name="two.jsonl")
    assert [str(found) for found in rejected(one, two)] == [
        f"{two}, line 1: group 'g1' has another source in {one}, line 1: candidates of one group answer the same "
        "source; rename one, or set data.group_by_source: true"
    ]
    kept = records(one, two, group_by_source=True)
    assert len({record.group_key for record in kept}) == 3 and kept[0].group == kept[1].group != kept[2].group


# What settings name


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"columns": {"answer": "candidate"}}, "data.columns: no file has a column 'answer': they have 'candidate', "),
        ({"aspects": {"story": ("overall",)}}, "data.aspects: no record is of the task 'story': there are 'qa'"),
        ({"aspects": {"qa": ("overall", "wit")}}, "data.aspects.qa: nobody rated 'wit': rated are 'overall', 'style'"),
        ({"groups_share": {"e": 0.5}}, "data.groups_share: no record is of the data set 'e': there are 'd'"),
        ({"columns": {"id": "id"}, "aspects": {"qa": ("overall",)}, "groups_share": {"d": 0.5}}, None),
    ],
)
def test_a_setting_that_names_what_no_file_has(tmp_path: Path, settings: dict[str, Any], reason: str | None) -> None:
    names = Names()
    path = jsonl(tmp_path, row(dataset="d", ratings={"style": [2]}))
    data = DataConfig(records=(str(path),), **settings)
    assert len(list(read_records([path], names=names, aspects=data.aspects))) == 1
    problem = names.problem(data)
    assert problem is None if reason is None else problem and problem.startswith(reason)


# Columns and defaults


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"doc": "Why?", "output": "So.", "key": "g1", "rating": 4, "range": [1, 5], "uid": "r1"})
    columns = {
        "doc": "source",
        "output": "candidate",
        "key": "group",
        "rating": "scores.overall",
        "range": "scales.overall",
        "uid": "id",
    }
    assert records(path, columns=columns, defaults={"task": "qa", "system": "s1"}) == [RECORD]


def test_a_dotted_name_joins_the_object_in_any_order(tmp_path: Path) -> None:
    whole = {**GOOD, "style": 2, "scores": {"overall": 4, "fluency": None}, "fluent": 3}
    columns = {"style": "scores.style", "fluent": "scores.fluency"}
    for ordered in (whole, dict(reversed(whole.items()))):
        (only,) = records(jsonl(tmp_path, ordered), columns=columns)
        assert only.scores == {"overall": 4, "style": 2, "fluency": 3}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"rating": 2}, "scores.overall"),
        ({"rating": 2, "scores": 4}, "scores.overall"),
        ({"rating": 2, "scores": []}, "scores.overall"),
    ],
)
def test_a_dotted_name_never_takes_another_score_s_place(tmp_path: Path, more: dict[str, Any], name: str) -> None:
    path = jsonl(tmp_path, {**GOOD, **more})
    (only,) = rejected(path, columns={"rating": "scores.overall"})
    assert only.reason.startswith(f"two columns give {name!r}: ")


def test_two_columns_with_one_name_of_ours(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "article": "Another source."})
    (only_,) = rejected(path, columns={"article": "source"})
    assert only_.reason.startswith("two columns give 'source': call one of them otherwise in data.columns")
    # A way out: both get another name.
    (only,) = records(path, columns={"article": "source", "source": "origin"})
    assert (only.source, only.fields) == ("Another source.", {"origin": "Why?"})


def test_a_name_with_a_dot_of_its_own_is_a_field(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "meta.lang": "de", "score.x": "y"})
    (only,) = records(path, columns={"score.x": "score.x"})
    assert only.fields == {"meta.lang": "de", "score.x": "y"}


def test_defaults_fill_gaps_and_never_overwrite(tmp_path: Path) -> None:
    defaults = {"task": "story", "dataset": "d", "scale": (0, 100)}
    bare = {name: value for name, value in GOOD.items() if name not in ("task", "scale", "id")}
    given, filled = records(jsonl(tmp_path, GOOD, bare), defaults=defaults)
    assert (given.task, given.dataset, given.scales) == ("qa", "d", {"overall": Scale(1, 5)})
    assert (filled.task, filled.dataset, filled.scales) == ("story", "d", {"overall": Scale(0, 100)})


def test_reading_leaves_the_defaults_alone(tmp_path: Path) -> None:
    defaults = {"task": "qa", "scores": {"style": 2}, "scale": (1, 5)}
    path = jsonl(tmp_path, row(scores=None), row(id="r2", scores=None))
    assert [one.scores for one in records(path, defaults=defaults)] == [{"style": 2}, {"style": 2}]
    assert defaults == {"task": "qa", "scores": {"style": 2}, "scale": (1, 5)}


def test_the_data_section() -> None:
    config = DataConfig(records=("x.jsonl",), task="qa", scale=(1, 5))
    assert config.reading()["defaults"] == {"task": "qa", "scale": (1, 5)}
    assert DataConfig(records=("x.jsonl",)).reading()["defaults"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": ()},
        {"records": ("x",), "colour": "red"},
        {"records": ("x",), "format": "xml"},
        {"records": ("x",), "scale": (1, float("inf"))},
        {"records": ("x",), "max_rejected_share": 1.0},
        {"records": ("x",), "max_rejected_share": -0.1},
    ],
)
def test_a_data_section_that_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig(**wrong)


# Whatever stands in a file


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


# The real files

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


def test_pool_dev_and_test_part_the_groups(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": str(n), "group": f"g{n // 2}"} for n in range(400)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = [row for row in read_records([path]) if isinstance(row, Record)]
    data = DataConfig(records=(str(path),), pool=(str(path),), pool_share=0.5, dev_share=0.4)
    dev = data.model_copy(update={"part": "dev"})
    parts = {
        "pool": {r.group for r in records if data.serves(r)},
        "dev": {r.group for r in records if dev.takes(r)},
        "test": {r.group for r in records if data.takes(r)},
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 200
    # Of 200 groups half serve, and of the other 100 about 40 develop: within three standard deviations, 15 and 15.
    assert abs(len(parts["pool"]) - 100) < 22 and abs(len(parts["dev"]) - 40) < 20
    assert parts["dev"] == {r.group for r in records if data.develops(r)}


def test_without_a_dev_share_nothing_develops() -> None:
    data = DataConfig(records=("x",))
    assert data.takes(Record("a", "qa", "g", "s", "c")) and not data.develops(Record("a", "qa", "g", "s", "c"))
    with pytest.raises(ValueError, match="set one of them too"):
        DataConfig(records=("x",), part="dev")


def test_only_the_named_aspects_of_a_task_count(tmp_path: Path) -> None:
    both = row(scores={"overall": 4, "utility": 2}, ratings={"overall": [4], "utility": [2]})
    path = write(tmp_path, json.dumps(both) + "\n" + json.dumps({**both, "id": "s", "task": "story"}) + "\n")
    kept, other = (r for r in read_records([path], aspects={"qa": ("utility",)}) if isinstance(r, Record))
    assert (kept.scores, kept.scales, kept.ratings) == ({"utility": 2}, {"utility": Scale(1, 5)}, {"utility": (2,)})
    assert set(other.scores) == {"overall", "utility"}


def test_a_share_of_the_groups_by_data_set() -> None:
    records = [Record(str(n), "qa", f"g{n}", "s", "c", dataset=name) for name in ("a", "b") for n in range(200)]
    data = DataConfig(records=("x",), groups_share={"a": 0.25})
    taken = [record.dataset for record in records if data.takes(record)]
    # All of b; of a about 50, within three standard deviations (6.1 each).
    assert taken.count("b") == 200 and 31 < taken.count("a") < 69
    with pytest.raises(ValidationError):
        DataConfig(records=("x",), groups_share={"a": 0})


def test_the_dev_part_may_have_files_of_its_own(tmp_path: Path) -> None:
    own = write(tmp_path, json.dumps(row(group="d")) + "\n", "dev.jsonl")
    data = DataConfig(records=("test.jsonl",), dev=(str(own),))
    assert (data.judged, data.model_copy(update={"part": "dev"}).judged) == (("test.jsonl",), (str(own),))
    record = Record("a", "qa", "g", "s", "c")
    assert data.has_dev and data.takes(record) and data.model_copy(update={"part": "dev"}).takes(record)
    assert dev_groups(data) == {"qa//d"} and dev_groups(DataConfig(records=("x",))) == frozenset()
    with pytest.raises(ValidationError, match="keep one of the two"):
        DataConfig(records=("x",), dev=("y",), dev_share=0.5)


def test_a_task_file_is_an_input_and_a_built_in_task_is_none() -> None:
    files = ("in.jsonl",)
    assert DataConfig(records=files, task="mine/tone.yaml").task_files == ("mine/tone.yaml",)
    assert DataConfig(records=files, task="qa").task_files == DataConfig(records=files).task_files == ()
