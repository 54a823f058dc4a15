"""Verdict parts on disk: existing ones, missing ones, and those to query again."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import JobDir
from evaluation.batch.verdicts import (
    VERDICT_SCHEMA,
    _are_done,
    aspects_of,
    done_keys,
    forget_unscored,
    most_frequent_details,
    pending,
    requests,
    survey,
    write_verdicts,
)
from judging.errors import InputError
from tests.evaluation.making import judge, record, write_records, write_verdicts_file

KEYS = (("qa", "overall"), ("qa", "utility"), ("story", "overall"))


def test_which_aspects_are_judged() -> None:
    rated = '{"utility": 3, "overall": 2, "wit": 1}'
    # In the task's order; what the task does not know is left out.
    assert aspects_of("qa", rated, None) == ("overall", "utility")
    assert aspects_of("qa", '{"wit": 1}', None) == ("overall",)
    assert aspects_of("qa", "{}", None) == ("overall",)
    assert aspects_of("qa", rated, ("utility",)) == ("utility",)
    with pytest.raises(InputError):
        aspects_of("poem", "{}", None)


def asked(folder: Path, done: np.ndarray, aspects: tuple[str, ...] | None = None) -> dict[str, list[Any]]:
    parts = pending(survey(folder, [], aspects), done)
    batch = {"part": [str(part) for part in parts], "judge": ["j"] * len(parts)}
    found = requests(batch, {"j": judge("j", *KEYS), "other": judge("other")}, aspects, {"j": done, "other": done[:0]})
    assert set(found.get("judge", ["j"])) == {"j"}
    assert len(found.get("id", [])) == sum(parts.values())
    return found


def test_what_has_a_verdict_is_not_queried_again(tmp_path: Path) -> None:
    write_records(tmp_path, [record("a"), record("b")], [record("c", "h"), record("d", "h")])
    first = done_keys(tmp_path / "verdicts" / "j")
    assert asked(tmp_path, first)["id"] == ["a", "b", "c", "d"]
    write_verdicts_file(tmp_path, "j", {("a", "overall"): 3, ("b", "overall"): "timeout", ("d", "utility"): 3})
    done = done_keys(tmp_path / "verdicts" / "j")
    # The first block is complete; of the second no aspect that is wanted is there.
    assert asked(tmp_path, done)["id"] == ["c", "d"]
    parts = pending(survey(tmp_path, [], None), done)
    assert {part.name: number for part, number in parts.items()} == {"part-000001.parquet": 2}
    both = asked(tmp_path, done, ("overall", "utility"))
    assert list(zip(both["id"], both["aspect"], strict=True)) == [
        ("c", "overall"),
        ("d", "overall"),
        ("a", "utility"),
        ("b", "utility"),
        ("c", "utility"),
    ]


def test_neighbours_share_task_and_aspect(tmp_path: Path) -> None:
    write_records(tmp_path, [record("a"), record("s", task="story"), record("b")])
    found = asked(tmp_path, np.array([], dtype=np.uint64))
    assert list(zip(found["id"], found["task"], strict=True)) == [("a", "qa"), ("b", "qa"), ("s", "story")]
    assert "Answer a." in found["prompt"][0]


def test_a_block_is_queried_with_the_templates_of_its_judge(tmp_path: Path) -> None:
    write_records(tmp_path, [record("a"), record("b")])
    write_verdicts_file(tmp_path, "one", {("a", "overall"): 3})
    judges = {name: judge(name, mode=mode) for name, mode in (("one", "expected"), ("two", "parsed"))}
    done = {name: done_keys(tmp_path / "verdicts" / name) for name in judges}
    part = str(tmp_path / "records" / "part-000000.parquet")
    found = {name: requests({"judge": [name], "part": [part]}, judges, None, done) for name in judges}
    assert {name: (one["id"], one["judge"]) for name, one in found.items()} == {
        "one": (["b"], ["one"]),
        "two": (["a", "b"], ["two", "two"]),
    }
    assert [one["reply_prefix"][0] for one in found.values()] == ["Score: ", ""]
    with pytest.raises(ValueError, match="too many values"):
        requests({"judge": ["one", "two"], "part": [part, part]}, judges, None, done)


def test_a_damaged_part_is_queried_again(tmp_path: Path) -> None:
    write_verdicts_file(tmp_path, "j", {("a", "overall"): 3})
    folder = tmp_path / "verdicts" / "j"
    (folder / "part-half.parquet").write_bytes((folder / "part-0.parquet").read_bytes()[:100])
    assert len(done_keys(folder)) == 1
    assert [part.name for part in folder.iterdir()] == ["part-0.parquet"]


def test_a_part_appears_whole_and_under_a_name_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    batch: dict[str, list[Any]] = {
        "judge": ["j", "j"],
        "id": ["a", "b"],
        "task": ["qa", "qa"],
        "aspect": ["overall", "overall"],
        "reply": ["", ""],
        "finish_reason": ["stop", ""],
        "label_logprobs": [np.log([0.1, 0.1, 0.1, 0.1, 0.6]), []],
        "num_prompt_tokens": [7, 0],
        "num_generated_tokens": [1, 0],
        "error": ["", "too_long"],
        "detail": ["", "9999 characters"],
    }
    assert write_verdicts(batch, {"j": judge("j")}, str(tmp_path)) == {"num_rows": [2]}
    write_verdicts(batch, {"j": judge("j")}, str(tmp_path))
    (part,) = (tmp_path / "j").iterdir()
    assert part.name.startswith("part-")
    rows = pq.read_table(part).to_pylist()
    # (1 + 2 + 3 + 4) * 0.1 + 5 * 0.6
    assert (rows[0]["score"], rows[0]["unscored"], rows[0]["num_prompt_tokens"]) == (pytest.approx(4), None, 7)
    assert (rows[1]["score"], rows[1]["unscored"], rows[1]["detail"]) == (None, "too_long", "9999 characters")


def test_rows_of_several_judges_that_an_engine_joined_go_to_their_own_judge(tmp_path: Path) -> None:
    reply: dict[str, Any] = {
        **dict.fromkeys(("reply", "error", "detail"), ""),
        "task": "qa",
        "aspect": "overall",
        "finish_reason": "stop",
        "label_logprobs": [np.nan] * 5,
        "num_prompt_tokens": 7,
        "num_generated_tokens": 1,
    }
    said = {**reply, "label_logprobs": [np.nan, 0.0, np.nan, np.nan, np.nan]}
    parsed = {**reply, "label_logprobs": [], "reply": '{"reason": "fine", "overall_score": 4}', "reasoning": "Hm."}
    rows = [{**said, "reasoning": "", "judge": "one", "id": "a"}, {**parsed, "judge": "two", "id": "a"}]
    rows += [{**said, "reasoning": "", "judge": "one", "id": "b"}]
    judges = {"one": judge("one"), "two": judge("two", mode="parsed")}
    for name in judges:
        (tmp_path / name).mkdir()
    batch = {name: [one[name] for one in rows] for name in rows[0]}
    assert write_verdicts(batch, judges, str(tmp_path)) == {"num_rows": [3]}
    found = {name: [pq.read_table(part).to_pylist() for part in (tmp_path / name).iterdir()] for name in judges}
    assert [[(one["id"], one["score"], one["mode"]) for one in part] for part in found["one"]] == [
        [("a", 2, "expected"), ("b", 2, "expected")]
    ]
    assert [[(one["id"], one["score"], one["mode"]) for one in part] for part in found["two"]] == [[("a", 4, "parsed")]]
    thoughts = {name: [one["reasoning"] for part in found[name] for one in part] for name in judges}
    assert thoughts == {"one": [None, None], "two": ["Hm."]}


def test_what_is_unscored_is_forgotten_and_the_work_is_open_again(tmp_path: Path) -> None:
    job = JobDir(tmp_path, "job")
    with job.opened({}):
        job.claim()
        write_verdicts_file(job.path, "a", {("x", "overall"): 3, ("y", "overall"): "timeout"})
        write_verdicts_file(job.path, "b", {("x", "overall"): 3, ("y", "overall"): 2})
        job.finish({})
        assert forget_unscored(job)
        assert job.manifest() is None
        assert [len(done_keys(job.path / "verdicts" / name)) for name in "ab"] == [1, 2]
        job.finish({})
        assert not forget_unscored(job)
        assert job.manifest() is not None


def own_family_world(folder: Path) -> Any:
    """Texts of three systems in two blocks, and a judge that does not judge two of them."""
    systems = {"a": "Qwen2.5-7B", "b": "llama-3", "c": "qwen3", "d": "", "e": "llama-3"}
    records = [record(id, id, system=system) for id, system in systems.items()]
    write_records(folder, records[:3], records[3:])
    (folder / "verdicts" / "j").mkdir(parents=True)
    return judge("j", *KEYS, not_systems=("qwen*",))


def test_texts_of_the_judges_own_family_have_a_verdict_without_a_query(tmp_path: Path) -> None:
    own = own_family_world(tmp_path)
    for _ in range(2):  # a killed run writes them again, without duplicates
        survey(tmp_path, [own], ("overall", "utility"))
    (part,) = (tmp_path / "verdicts" / "j").iterdir()
    rows = pq.read_table(part, schema=VERDICT_SCHEMA).to_pylist()
    assert [(one["id"], one["aspect"], one["score"], one["unscored"], one["mode"]) for one in rows] == [
        (id, aspect, None, "own_family", "expected") for id in ("a", "c") for aspect in ("overall", "utility")
    ]
    assert {(one["num_prompt_tokens"], one["num_generated_tokens"]) for one in rows} == {(0, 0)}
    assert asked(tmp_path, done_keys(part.parent), ("overall",))["id"] == ["b", "d", "e"]


def test_blank_texts_have_a_verdict_without_a_query(tmp_path: Path) -> None:
    write_records(tmp_path, [record("a", candidate=" \u200b"), record("b"), record("c", candidate="", system="qwen3")])
    (tmp_path / "verdicts" / "j").mkdir(parents=True)
    survey(tmp_path, [judge("j", not_systems=("qwen*",))], None)
    rows = pq.read_table(tmp_path / "verdicts" / "j").to_pylist()
    assert [(one["id"], one["score"], one["unscored"]) for one in rows] == [("a", None, "empty"), ("c", None, "empty")]
    assert asked(tmp_path, done_keys(tmp_path / "verdicts" / "j"))["id"] == ["b"]


def test_the_errors_of_rows_without_a_score(tmp_path: Path) -> None:
    said = {
        "r0": ("error", "400: at most 100 tokens,\n  not 123"),
        "r1": ("error", "400: at most 100 tokens, not 4567"),
        "r2": ("unparsed", "I would rather not say."),
        "r3": ("own_family", None),
        "r4": (None, "of a row with a score"),
    }
    rows = [
        {"id": id, "aspect": "overall", "score": None if why else 3.0, "unscored": why, "detail": detail}
        for id, (why, detail) in said.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows[:1], schema=VERDICT_SCHEMA), tmp_path / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist(rows[1:], schema=VERDICT_SCHEMA), tmp_path / "part-1.parquet")
    # Both errors are of one kind: they differ in a number alone.
    assert most_frequent_details(tmp_path) == [
        {"unscored": "error", "detail": "400: at most 100 tokens, not 123", "count": 2},
        {"unscored": "unparsed", "detail": "I would rather not say.", "count": 1},
    ]


def test_a_judge_without_such_patterns_leaves_nothing_out(tmp_path: Path) -> None:
    own_family_world(tmp_path)
    survey(tmp_path, [judge("j")], None)
    assert list((tmp_path / "verdicts" / "j").iterdir()) == []


def test_texts_of_the_own_family_are_not_queried_again(tmp_path: Path) -> None:
    job = JobDir(tmp_path, "job")
    with job.opened({}):
        job.claim()
        own = own_family_world(job.path)
        survey(job.path, [own], None)
        job.finish({})
        assert not forget_unscored(job)
        assert job.manifest() is not None
        write_verdicts_file(job.path, "k", {("a", "overall"): "own_family", ("b", "overall"): "timeout"})
        assert forget_unscored(job)
        assert [len(done_keys(job.path / "verdicts" / name)) for name in "jk"] == [2, 1]


@pytest.mark.parametrize(
    ("keys", "done", "found"),
    [
        ([], [], []),
        ([5, 1], [], [False, False]),
        ([], [1], []),
        ([0, 1, 5, 9, 2**64 - 1, 5], [1, 5, 2**64 - 1], [False, True, True, False, True, True]),
    ],
)
def test_which_keys_are_done(keys: list[int], done: list[int], found: list[bool]) -> None:
    assert _are_done(np.array(keys, dtype=np.uint64), np.array(done, dtype=np.uint64)).tolist() == found
