"""Converters on tiny files in the published form: the rows, and that a job's reader takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judging.datasets import read_records
from judging.errors import InputError
from judging.public_data.converters import CONVERTERS
from judging.public_data.registry import INSTRUCTIONS, registry
from judging.records import Record, Scale
from judging.tasks import unknown_aspect
from tests.published import as_json, published

PUBLISHED = published()
# Texts in the tiny files, by hand.
NUM_ROWS = {
    "topical_chat": 4,
    "summeval": 2,
    "hanna": 4,
    "wmt23": 2 * (12 + 15),  # two of three segments, by all systems
    "alce": 3,
    "newsroom": 2,
    "llmbar": 5 * 2 * 2,
    "mt_bench": 2,
    "aeollm_train": 4 * 4,
    "aeollm_test": 4 * 4,
    "infinity_instruct": 2,
    "sft_self_instruct": 2,
    "sft_p3_t0": 34,
    "sft_short_tasks": 1,
    "sft_roleplay": 1,
}


def converted(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows as a fetched data set holds them."""
    files = {file: folder / "in" / file for file in PUBLISHED[name]}
    for file, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PUBLISHED[name][file])
    return [json.loads(json.dumps(row)) for row in CONVERTERS[registry()[name].converter](files)]


def read(folder: Path, name: str) -> list[Record]:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in converted(folder, name)))
    scale = {"scale": (1, 5)} if name == "aeollm_train" else {}
    found = list(read_records([path], check=unknown_aspect, defaults=scale))
    assert all(isinstance(one, Record) for one in found), found
    return [one for one in found if isinstance(one, Record)]


def test_every_data_set_is_tried() -> None:
    assert PUBLISHED.keys() == NUM_ROWS.keys() == registry().keys()


@pytest.mark.parametrize("name", NUM_ROWS)
def test_a_job_reads_the_converted_rows(tmp_path: Path, name: str) -> None:
    entry = registry()[name]
    if entry.task == INSTRUCTIONS:
        rows = converted(tmp_path, name)
        assert len(rows) == NUM_ROWS[name]
        assert all(row["instruction"] and row["output"] and "<|" not in row["output"] for row in rows)
        return
    records = read(tmp_path, name)
    assert len(records) == NUM_ROWS[name]
    assert {record.task for record in records} <= set(entry.task.split(", "))
    assert entry.parts.keys() == set() or {record.dataset for record in records} == set(entry.parts.values())
    assert all(record.scores for record in records) == (name != "aeollm_test")


def test_topical_chat(tmp_path: Path) -> None:
    original, other, *_ = read(tmp_path, "topical_chat")
    assert (original.group, other.group, original.system) == ("tc000", "tc000", "Original Ground Truth")
    assert (other.source, other.candidate) == ("hello 0 \n hi", "Argmax 0")
    # The original turn is its own reference.
    assert (original.fields.get("reference"), other.fields["reference"]) == (None, "Original Ground Truth 0")
    assert other.fields["fact"] == "a fact"
    assert (other.scores["overall"], other.scales["overall"], other.scales["groundedness"]) == (
        4,
        Scale(1, 5),
        Scale(0, 1),
    )


def test_summeval_without_the_mean_of_the_aspects(tmp_path: Path) -> None:
    first, second = read(tmp_path, "summeval")
    assert (first.group, second.group, second.system, second.candidate) == ("d1", "d1", "M1", "Text 1.")
    assert second.scores == {"coherence": 1, "consistency": 2, "fluency": 3, "relevance": 4}


def test_hanna_keeps_the_single_ratings(tmp_path: Path) -> None:
    records = read(tmp_path, "hanna")
    assert [(one.group, one.system) for one in records] == [
        ("p00", "Human"),
        ("p01", "Human"),
        ("p00", "GPT"),
        ("p01", "GPT"),
    ]
    # Three raters: 3, 4, 5 and 5, 5, 5.
    assert records[2].ratings["relevance"] == (3, 4, 5) and records[2].scores["relevance"] == 4
    assert records[2].scores["complexity"] == 5 and records[2].candidate == "Story\n2"


def test_newsroom_without_html(tmp_path: Path) -> None:
    first, _ = read(tmp_path, "newsroom")
    assert (first.source, first.candidate) == ("One & two.\n\nThree.", 'lede says "two".')
    assert (first.group, first.ratings["coherence"], first.scores["coherence"]) == ("7", (1, 2, 3), 2)
    assert first.scores.keys() == {"coherence", "fluency", "relevance"}


def test_alce_leaves_out_what_has_no_rating_or_text(tmp_path: Path) -> None:
    records = read(tmp_path, "alce")
    assert [(one.dataset, one.group, one.system) for one in records] == [
        ("alce_asqa", "asqa:1", "gpt-shot2"),
        ("alce_asqa", "asqa:1", "vicuna"),
        ("alce_eli5", "eli5:9", "gpt-shot2"),
    ]
    assert records[0].scores == {"utility": 5}


def test_wmt23_keeps_segments_with_all_scores(tmp_path: Path) -> None:
    records = read(tmp_path, "wmt23")
    assert {record.group for record in records} == {"en-de:0", "en-de:2", "zh-en:0", "zh-en:2"}
    first = records[0]
    assert (first.system, first.source, first.candidate, first.fields["reference"]) == ("AIRC", "one", "AIRC 1", "eins")
    assert (first.scores, first.fields["target_lang"]) == ({"quality": 50.5}, "German")


def test_wmt23_with_a_line_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED["wmt23"], "zh-en/Yishu.txt", b"one\n")
    with pytest.raises(InputError, match="zh-en, Yishu: 1 lines, but there are 3 sources"):
        converted(tmp_path, "wmt23")


def test_llmbar_is_a_preference(tmp_path: Path) -> None:
    records = read(tmp_path, "llmbar")[:4]
    assert [(one.group, one.system, one.scores["overall"]) for one in records] == [
        ("natural-0", "output_1", 1),
        ("natural-0", "output_2", 0),
        ("natural-1", "output_1", 0),
        ("natural-1", "output_2", 1),
    ]


def test_mt_bench_counts_votes_on_the_first_turn(tmp_path: Path) -> None:
    x, y = read(tmp_path, "mt_bench")
    assert (x.group, x.system, y.system, x.source, x.candidate) == ("81:x:y", "x", "y", "Q1", "x 1")
    # Votes on x against y: for x, a tie, and for y, which stood first.
    assert x.ratings["overall"] == (1, 0.5, 0) and x.scores["overall"] == y.scores["overall"] == 0.5


def test_aeollm_takes_the_subtask_from_the_file(tmp_path: Path) -> None:
    records = read(tmp_path, "aeollm_train")
    found = list(dict.fromkeys((record.task, record.dataset) for record in records))
    assert found == [
        ("dialogue", "aeollm_0"),
        ("expansion", "aeollm_1"),
        ("summarisation", "aeollm_2"),
        ("qa", "aeollm_3"),
    ]
    assert (records[1].group, records[1].system, records[1].scores) == ("1", "2", {"overall": 2})


def test_instruction_sets_of_several_forms(tmp_path: Path) -> None:
    seed, user = converted(tmp_path, "sft_self_instruct")
    assert seed == {"instruction": "Add.", "input": "1 1", "output": "2", "origin": "seed_tasks"}
    assert user["origin"] == "user_oriented_instructions"
    first = converted(tmp_path, "sft_p3_t0")[0]
    assert (first["instruction"], first["input"], first["output"]) == ("What is it?", "", "It.")
    turns = converted(tmp_path, "infinity_instruct")[0]
    assert (turns["instruction"], turns["output"]) == ("Why?", "So.")
    assert converted(tmp_path, "sft_roleplay")[0]["input"] == "of two"


def test_a_file_of_another_form_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "alce", {"human_eval_utility_completed.json": b"<html>"})
    with pytest.raises(InputError, match=r"human_eval_utility_completed\.json is not JSON"):
        converted(tmp_path, "alce")
    monkeypatch.setitem(PUBLISHED, "summeval", {"summeval.json": as_json([{"id": 1}])})
    with pytest.raises(KeyError, match="doc_id"):
        converted(tmp_path, "summeval")
