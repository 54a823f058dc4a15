"""`inverdict init`: for many shapes of data, the written configuration loads and every row is read; bad input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster import config, jobs
from cluster.__main__ import main
from cluster.config import RunConfig
from evaluation.batch.config import fingerprint, prepared
from evaluation.batch.ingest import Ingested, ingest, iter_rows
from evaluation.init_reading import scale_of
from judging import hub
from tests.judging.ratedfiles import jsonl, parquet, write
from tests.judging.test_hub import Stub

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SCRIPTED = "models.qwen={backend: scripted}"
Row = Mapping[str, Any]


def initialised(tmp_path: Path, data: Path | str, *arguments: str) -> RunConfig:
    """The configuration that `inverdict init` writes for the data, with a scripted model."""
    out = tmp_path / "written.yaml"
    assert main(["init", str(data), "--out", str(out), *arguments]) == 0
    return config.load(out, [SCRIPTED, f"run={tmp_path / 'run'}"], jobs.sections())


def taken_in(run: RunConfig, folder: Path) -> tuple[Ingested, list[dict[str, Any]]]:
    """What `evaluate` reads with the configuration: the counts, and the rows of the records."""
    evaluation = prepared(run).evaluation
    counts = ingest(evaluation.data, folder / "records", block_rows=64, check=evaluation.check)
    return counts, list(iter_rows(sorted((folder / "records").glob("part-*.parquet"))))


def table(tmp_path: Path, rows: Sequence[Row], name: str = "table.csv") -> Path:
    with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / name


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


# Three questions and two systems: six texts, three groups.
PAIRS = [(number, system) for number in range(3) for system in ("x", "y")]
QUESTION, ANSWER = "What does the number {} mean to you?", "It means {} to {}, and nothing more."
LONG = [
    {"question": QUESTION.format(n), "answer": ANSWER.format(n, s), "model": s, "rating": 1 + (n + (s == "x")) % 4}
    for n, s in PAIRS
]
WIDE = [{"prompt": QUESTION.format(n), **{s: ANSWER.format(n, s) for s in "xy"}} for n in range(3)]
ARENA = [
    {
        "question_id": n,
        "model_a": "x",
        "model_b": "y",
        "winner": "model_a",
        "judge": "expert_1",
        "conversation_a": chat(QUESTION.format(n), ANSWER.format(n, "x")),
        "conversation_b": chat(QUESTION.format(n), ANSWER.format(n, "y")),
        "turn": 1,
    }
    for n in range(3)
]
SHAPES: dict[str, tuple[Sequence[Row], str]] = {
    "questions and answers": (LONG, "csv"),
    "tab-separated": (LONG, "tsv"),
    "an id that repeats": ([{"id": n // 2, **one} for n, one in enumerate(LONG)], "csv"),
    "other names": (
        [
            {"QID": n // 2, "Prompt Text": r["question"], "modelOutput": r["answer"], "LLM": r["model"], "Stars": "3"}
            for n, r in enumerate(LONG)
        ],
        "csv",
    ),
    "with a word in common": (
        [{"q_id": n, "prompt": r["prompt"], "answer_x": r["x"], "answer_y": r["y"]} for n, r in enumerate(WIDE)],
        "jsonl",
    ),
    "with scores": ([{**r, "x_score": 4, "y_score": 2} for r in WIDE], "csv"),
    "arena": (ARENA, "jsonl"),
    "arena in Parquet": (ARENA, "parquet"),
    "messages": ([{"messages": chat(r["question"], r["answer"]), "model": r["model"]} for r in LONG], "jsonl"),
    "messages as the question": (
        [{"prompt": chat(r["question"], "x")[:1], "response": r["answer"], "model": r["model"]} for r in LONG],
        "jsonl",
    ),
    "preferences": (
        [
            {"prompt": r["prompt"], "chosen": chat(r["prompt"], r["x"]), "rejected": chat(r["prompt"], r["y"])}
            for r in WIDE
        ],
        "jsonl",
    ),
    "with what a reader would refuse": ([{"Unnamed: 0": n, "Label": "good", **r} for n, r in enumerate(LONG)], "csv"),
    "wide form of our own": (
        [{"source": r["prompt"], "x": r["x"], "y": r["y"], "x.scores.overall": 4, "scale": [1, 5]} for r in WIDE],
        "jsonl",
    ),
    "with a reference": ([{**r, "gold_answer": "It means nothing at all, really."} for r in LONG], "jsonl"),
}


def stored(tmp_path: Path, rows: Sequence[Row], kind: str) -> Path:
    if kind == "jsonl":
        return jsonl(tmp_path, *rows, name="table.jsonl")
    if kind == "parquet":
        return parquet(tmp_path / "table.parquet", *rows)
    return table(tmp_path, rows, f"table.{kind}")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_of_every_shape_is_read(tmp_path: Path, shape: str) -> None:
    rows, kind = SHAPES[shape]
    counts, records = taken_in(initialised(tmp_path, stored(tmp_path, rows, kind)), tmp_path)
    assert counts == Ingested(6, 0)
    assert len({one["group_key"] for one in records}) == 3
    assert {one["source"] for one in records} == {QUESTION.format(n) for n in range(3)}
    assert {one["candidate"] for one in records} == {ANSWER.format(n, s) for n, s in PAIRS}
    if shape != "preferences":
        assert {one["system"] for one in records} == {"x", "y"}


@pytest.mark.parametrize("shape", ["questions and answers", "with scores", "other names"])
def test_numbers_about_a_text_are_its_scores(tmp_path: Path, shape: str) -> None:
    rows, kind = SHAPES[shape]
    run = initialised(tmp_path, stored(tmp_path, rows, kind))
    _, records = taken_in(run, tmp_path)
    scores = sorted(json.loads(one["scores"])["overall"] for one in records)
    wanted = {"questions and answers": [1, 2, 2, 3, 3, 4], "with scores": [2, 2, 2, 4, 4, 4], "other names": [3] * 6}
    assert scores == wanted[shape]
    assert run.data.scale == ((1, 5) if shape != "other names" else (1, 3))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["constructed", "labelled", "pool_dialogue"])
def test_the_examples_need_no_mapping(tmp_path: Path, name: str) -> None:
    file = ROOT / "examples" / f"{name}.jsonl"
    run = initialised(tmp_path, file)
    counts, _ = taken_in(run, tmp_path)
    assert counts == Ingested(len(file.read_text().splitlines()), 0)
    assert not run.data.columns and run.data.task is None  # type: ignore[attr-defined]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the rated texts are not there: {SHARED}")
@pytest.mark.parametrize("name", ["topical_chat", "summeval", "hanna", "alce", "wmt23"])
def test_the_rated_data_sets(tmp_path: Path, name: str) -> None:
    file = SHARED / f"{name}.jsonl"
    counts, _ = taken_in(initialised(tmp_path, file), tmp_path)
    assert counts == Ingested(len(file.read_text(encoding="utf-8").splitlines()), 0)


def test_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    initialised(tmp_path, table(tmp_path, LONG))
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["column", "taken", "for", "example", "why"]
    assert [(line[0], line[1]) for line in lines[1:5]] == [
        ("question", "source"),
        ("answer", "candidate"),
        ("model", "system"),
        ("rating", "scores.overall"),
    ]
    assert "6 texts, 3 groups, 2 systems, task qa" in out and "overall 6" in out
    assert f"inverdict run {tmp_path / 'written.yaml'}" in err


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are read and hashed in place of a file."""
    monkeypatch.setitem(sys.modules, "datasets", Stub(LONG))
    name = "hf://someone/answers:test"
    run = initialised(tmp_path, name)
    assert taken_in(run, tmp_path)[0] == Ingested(6, 0)
    found = prepared(run)
    assert list(fingerprint(found.evaluation, found.asked)["files"]) == [name]
    monkeypatch.chdir(tmp_path)
    assert main(["init", name]) == 0 and (tmp_path / "answers.yaml").exists()
    hub._load.cache_clear()
    hub._hash.cache_clear()


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    initialised(tmp_path, jsonl(tmp_path, {**LONG[0], "question": "\x1b[31mRed \x1b[0m alert today?"}))
    assert "\x1b" not in capsys.readouterr().out


def test_rows_that_repeat_are_allowed_for(tmp_path: Path) -> None:
    rows = [*LONG, LONG[0], LONG[1]]
    run = initialised(tmp_path, table(tmp_path, rows))
    assert taken_in(run, tmp_path)[0] == Ingested(6, 2)
    assert run.data.max_rejected_share == 0.25  # type: ignore[attr-defined]


def test_a_group_of_several_sources_is_split(tmp_path: Path) -> None:
    run = initialised(tmp_path, table(tmp_path, [{"topic_id": "t", **one} for one in LONG]))
    assert run.data.group_by_source  # type: ignore[attr-defined]
    assert len({one["group_key"] for one in taken_in(run, tmp_path)[1]}) == 3


def test_scores_on_other_aspects_are_left_out(tmp_path: Path) -> None:
    rows = [{**one, "scores": {"overall": 3, "wit": 2}, "scale": [1, 5]} for one in LONG]
    run = initialised(tmp_path, jsonl(tmp_path, *({k: v for k, v in one.items() if k != "rating"} for one in rows)))
    assert run.data.aspects == {"qa": ("overall",)}  # type: ignore[attr-defined]
    assert taken_in(run, tmp_path)[0] == Ingested(6, 0)


def test_a_scale_that_the_rows_lack_is_guessed_from_all_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [
        {"candidate": r["answer"], "scores": {"overall": score}}
        for r, score in zip(LONG, [0, 55, 80, 3, 9, 10], strict=True)
    ]
    rows = [{"question": r["question"], "one": cell} for r, cell in zip(LONG, cells, strict=True)]
    run = initialised(tmp_path, jsonl(tmp_path, *rows))
    assert run.data.scale == (0, 100)  # type: ignore[attr-defined]
    assert taken_in(run, tmp_path)[0] == Ingested(6, 0) and "from 0 to 100" in capsys.readouterr().out


def test_a_long_text_gets_a_longer_context(tmp_path: Path) -> None:
    data = jsonl(tmp_path, {**LONG[0], "question": "Why? " * 4000})  # 20,000 characters: about 6,700 tokens
    out = tmp_path / "long.yaml"
    assert main(["init", str(data), "--out", str(out)]) == 0
    run = config.load(out, [], jobs.sections())
    assert run.models["qwen"].max_model_len == 8192  # type: ignore[union-attr]


AMBIGUOUS = [{"question": r["question"], "answer": r["answer"], "response": r["answer"][::-1]} for r in LONG]


@pytest.mark.parametrize(
    ("arguments", "systems"),
    [
        (("--map", "answer=candidate"), {""}),
        (("--systems", "answer,response"), {"answer", "response"}),
        (("--systems", "a,b", "--map", "answer=a", "--map", "response=b"), {"a", "b"}),
    ],
)
def test_what_cannot_be_told_can_be_said(tmp_path: Path, arguments: tuple[str, ...], systems: set[str]) -> None:
    _, records = taken_in(initialised(tmp_path, table(tmp_path, AMBIGUOUS), *arguments), tmp_path)
    assert {one["system"] for one in records} == systems


def test_one_column_a_system_is_said(tmp_path: Path) -> None:
    _, records = taken_in(initialised(tmp_path, table(tmp_path, WIDE), "--systems", "x, y"), tmp_path)
    assert {(one["system"], one["candidate"]) for one in records} == {(s, ANSWER.format(n, s)) for n, s in PAIRS}
    assert len({one["group_key"] for one in records}) == 3


@pytest.mark.parametrize(
    ("rows", "arguments", "naming"),
    [
        (WIDE, (), ("'x', 'y'", "--systems x,y")),
        (AMBIGUOUS, (), ("'answer', 'response'", "--map answer=candidate", "--systems answer,response")),
        ([{"question": "Why?", "number": 3}], (), ("candidate", "--map COLUMN=candidate")),
        ([{"answer": "So.", "number": 3}], (), ("source", "--map COLUMN=source", "'answer', 'number'")),
        (LONG, ("--map", "replies=candidate"), ("--map", "'replies'", "'question'")),
        (LONG, ("--systems", "x,y"), ("--systems", "'x'")),
        (LONG, ("--task", "poem"), ("'poem'", "qa")),
        (LONG, ("--map", "answer=candidates"), ("candidate", "--map")),
    ],
)
def test_what_cannot_be_told_is_a_sentence_and_exit_2(
    tmp_path: Path,
    rows: list[Row],
    arguments: tuple[str, ...],
    naming: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "written.yaml"
    code = main(["init", str(table(tmp_path, rows)), "--out", str(out), *arguments])
    assert code == 2 and not out.exists()
    error = capsys.readouterr().err
    assert error.startswith("inverdict init: ") and error.count("\n") == 1
    assert all(name in error for name in naming), error


def test_a_file_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write(tmp_path, "run: mine\n", "mine.yaml")
    assert main(["init", str(table(tmp_path, LONG)), "--out", str(out)]) == 2
    assert out.read_text() == "run: mine\n" and "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "naming"),
    [("", "empty"), ("not JSON\n", "no readable row"), ('{"question": "Why?", "answer": [1]}\n', "candidate")],
)
def test_data_that_cannot_be_read(
    tmp_path: Path, content: str, naming: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(write(tmp_path, content)), "--out", str(tmp_path / "written.yaml")]) == 2
    assert naming in capsys.readouterr().err
    assert main(["init", str(tmp_path / "none.csv")]) == 2


def test_many_invalid_rows_stop_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bad row of thirty is allowed for; one of six is not."""
    many = [{**one, "question": f"{one['question']} {n}"} for n in range(5) for one in LONG]
    data = write(tmp_path, "".join(f"{json.dumps(one)}\n" for one in many) + "{\n")
    run = initialised(tmp_path, data)
    assert run.data.max_rejected_share == 0.033  # type: ignore[attr-defined]
    assert "the first: " in capsys.readouterr().out
    data = write(tmp_path, "".join(f"{json.dumps(one)}\n" for one in LONG) + "{\n", "few.jsonl")
    assert main(["init", str(data), "--out", str(tmp_path / "few.yaml")]) == 2
    assert f"{data}, line 7: invalid JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ends", "scale"),
    [
        ((0, 1), (0, 1)),
        ((1, 3), (1, 3)),
        ((1, 4), (1, 5)),
        ((0, 4.5), (0, 5)),
        ((1, 9), (1, 10)),
        ((0, 87), (0, 100)),
        ((-0.5, 0.5), (-1, 1)),
        ((-3, 250.5), (-3, 251)),
        ((250, 250), (0, 250)),  # one value is no scale
    ],
)
def test_the_scale_is_the_smallest_usual_one(ends: tuple[float, float], scale: tuple[int, int]) -> None:
    assert scale_of(*ends) == scale


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_written_configuration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = table(tmp_path, SHAPES["with scores"][0])
    assert main(["init", data.name]) == 0
    assert main(["run", "table.yaml", "--set", SCRIPTED]) == 0
    scores = pq.read_table(tmp_path / "runs" / "table" / "evaluate" / "scores.parquet").to_pylist()
    assert len(scores) == 6 and all(one["panel.score"] is not None for one in scores)
