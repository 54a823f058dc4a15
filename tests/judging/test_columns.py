"""Column names: trimmed, renamed, near misses, dotted names, defaults."""

import json
from pathlib import Path
from typing import Any

import pytest

from judging.datasets import read_records
from judging.records import Record, Scale
from tests.judging.ratedfiles import GOOD, RECORD, jsonl, records, rejected, row, write


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
        (only,) = rejected(path, columns=columns)
        assert (only.code, only.key) == ("unknown_key", "facts") and "'fact'" in only.reason
    path = jsonl(tmp_path, {**known, "\ufefftask ": "qa", " fields": {"fact": "F"}})
    assert [one.fields for one in records(path)] == [{"fact": "F"}]


def test_a_name_of_ours_in_data_columns_is_checked_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "scores": None, "rating": 4})
    for ours in ("score.overall", "overall", "Scores.overall"):
        (only,) = rejected(path, columns={"rating": ours})
        assert (only.code, only.key) == ("unknown_key", "data.columns") and "'scores.overall'" in only.reason
    assert records(path, columns={"rating": " scores.overall "})[0].scores == {"overall": 4}


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
    assert (only.code, only.key) == ("duplicate_key", name)


def test_two_columns_with_one_name_of_ours(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "article": "Another source."})
    (only_,) = rejected(path, columns={"article": "source"})
    assert (only_.code, only_.key) == ("duplicate_key", "source") and "data.columns" in only_.reason
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


def test_only_the_named_aspects_of_a_task_count(tmp_path: Path) -> None:
    both = row(scores={"overall": 4, "utility": 2}, ratings={"overall": [4], "utility": [2]})
    path = write(tmp_path, json.dumps(both) + "\n" + json.dumps({**both, "id": "s", "task": "story"}) + "\n")
    kept, other = (r for r in read_records([path], aspects={"qa": ("utility",)}) if isinstance(r, Record))
    assert (kept.scores, kept.scales, kept.ratings) == ({"utility": 2}, {"utility": Scale(1, 5)}, {"utility": (2,)})
    assert set(other.scores) == {"overall", "utility"}
