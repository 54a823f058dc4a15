"""`inverdict init`: what it must not lose silently, what it says of rows and columns, and what it refuses."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main
from evaluation.batch.ingest import Ingested
from tests.evaluation.test_init_config import ANSWER, LONG, PAIRS, QUESTION, chat, initialised, table, taken_in
from tests.judging.ratedfiles import jsonl, parquet, write

BARE = [{name: one[name] for name in ("question", "answer", "model")} for one in LONG]


def refusal(tmp_path: Path, data: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `init` says, which must be one sentence on one line, with exit code 2 and no file."""
    out = tmp_path / "refused.yaml"
    assert main(["init", str(data), "--out", str(out), *arguments]) == 2 and not out.exists()
    error = capsys.readouterr().err
    assert error.startswith("inverdict init: ") and error.count("\n") == 1
    return error


def test_an_id_that_comes_twice_in_many_rows_is_the_group(tmp_path: Path) -> None:
    """More questions than values are remembered; every row must be read."""
    rows = [
        {"id": n // 2, "question": QUESTION.format(n // 2), "answer": ANSWER.format(n // 2, "xy"[n % 2])}
        for n in range(10_400)
    ]
    run = initialised(tmp_path, table(tmp_path, rows))
    counts, records = taken_in(run, tmp_path)
    assert counts == Ingested(10_400, 0) and len({one["group_key"] for one in records}) == 5200


@pytest.mark.parametrize("arguments", [(), ("--map", "qid=id")])
def test_an_id_of_two_texts_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "qid" if arguments else "id"
    # Without a mapping: five ids for six rows, so that the id does not repeat as the source does.
    ids = [0, 0, 1, 1, 2, 2] if arguments else [0, 1, 2, 3, 4, 0]
    data = table(tmp_path, [{name: id, **one} for id, one in zip(ids, BARE, strict=True)])
    error = refusal(tmp_path, data, *arguments, capsys=capsys)
    assert "duplicate id '0'" in error and f"--map {name}=group" in error


def test_a_row_twice_is_no_other_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": n, **one} for n, one in enumerate(BARE)]
    run = initialised(tmp_path, table(tmp_path, [*rows, rows[0]]))
    counts, records = taken_in(run, tmp_path)
    assert counts == Ingested(6, 1) and len({one["group_key"] for one in records}) == 3
    assert "Rows that repeat an earlier text: 1, left out." in capsys.readouterr().out


def test_the_allowed_share_is_below_one(tmp_path: Path) -> None:
    # 2000 of 2001 rows repeat the first: .9995, which is 1.0 with three digits.
    run = initialised(tmp_path, table(tmp_path, [BARE[0]] * 2001))
    assert run.data.max_rejected_share == 2000 / 2001  # type: ignore[attr-defined]
    assert taken_in(run, tmp_path)[0] == Ingested(1, 2000)


def test_the_only_score_is_that_of_a_row_that_repeats(tmp_path: Path) -> None:
    rows = [*({**one, "rating": ""} for one in BARE), {**BARE[0], "rating": 4}]
    assert taken_in(initialised(tmp_path, table(tmp_path, rows)), tmp_path)[0] == Ingested(6, 1)


def test_a_score_beyond_any_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = jsonl(tmp_path, *({**one, "scores": {"overall": 1e25}} for one in BARE))
    assert "line 1: scores.overall: 1e+25 lies outside" in refusal(tmp_path, data, capsys=capsys)


def test_the_scale_holds_single_ratings(tmp_path: Path) -> None:
    """4 and 9 have the mean 6.5, which the scale from 1 to 7 would hold."""
    run = initialised(tmp_path, jsonl(tmp_path, *({**one, "ratings": {"overall": [4, 9]}} for one in BARE)))
    assert run.data.scale == (1, 10) and taken_in(run, tmp_path)[0] == Ingested(6, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("cell", ["N/A", "4/5", "True"])
def test_a_rating_that_is_no_number(tmp_path: Path, cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**one, "rating": cell if n == 1 else 3} for n, one in enumerate(BARE)]
    error = refusal(tmp_path, table(tmp_path, rows), capsys=capsys)
    assert f"'rating' holds numbers, and {cell!r}" in error and "--map rating=scores.overall" in error
    # In all rows it is a label, which is said.
    initialised(tmp_path, table(tmp_path, [{**one, "rating": cell} for one in BARE]))
    assert f"Column 'rating' is kept as a text, not as scores: {cell!r} is no number." in capsys.readouterr().out


def test_a_mapped_rating_leaves_out_what_is_no_number(tmp_path: Path) -> None:
    rows = [{**one, "question": f"{one['question']} {n}", "rating": 3} for n in range(5) for one in BARE]
    rows[7]["rating"] = "N/A"  # one of 30
    run = initialised(tmp_path, table(tmp_path, rows), "--map", "rating=scores.overall")
    assert taken_in(run, tmp_path)[0] == Ingested(29, 1)


def test_decimals_are_scores(tmp_path: Path) -> None:
    data = parquet(tmp_path / "x.parquet", *({**one, "rating": Decimal("3.5")} for one in BARE))
    _, records = taken_in(initialised(tmp_path, data), tmp_path)
    assert {one["scores"] for one in records} == {'{"overall": 3.5}'}


def test_an_aspect_that_the_task_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    initialised(tmp_path, jsonl(tmp_path, *({**one, "scores": {"wit": 4}, "scale": [1, 5]} for one in BARE)))
    assert "Scores on wit are left out: the task qa has overall, utility." in capsys.readouterr().out
    data = table(tmp_path, [{**one, "r": 3} for one in BARE])
    error = refusal(tmp_path, data, "--map", "r=scores.wit", capsys=capsys)
    assert "--map r=scores.wit: the task qa has no aspect 'wit'. It has overall, utility" in error


def test_groups_of_one_text_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    initialised(tmp_path, table(tmp_path, [{"group": n, **one} for n, one in enumerate(BARE)]))
    assert "6 of 6 groups hold one text" in capsys.readouterr().out


def test_numbers_may_be_answers(tmp_path: Path) -> None:
    kinds: dict[str, Any] = {"x.jsonl": jsonl, "x.csv": None}
    for name, stored in kinds.items():
        rows = [{**one, "answer": 40 + n} for n, one in enumerate(BARE)]
        data = stored(tmp_path, *rows, name=name) if stored else table(tmp_path, rows, name)
        (tmp_path / "written.yaml").unlink(missing_ok=True)
        _, records = taken_in(initialised(tmp_path, data), tmp_path / name.partition(".")[2])
        assert sorted(one["candidate"] for one in records) == ["40", "41", "42", "43", "44", "45"]


def test_one_conversation_with_a_call_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [{"messages": chat(QUESTION.format(n), ANSWER.format(n, "x"))} for n in range(30)]
    rows[3]["messages"][1]["tool_calls"] = [{"id": "1"}]
    assert taken_in(initialised(tmp_path, jsonl(tmp_path, *rows)), tmp_path)[0] == Ingested(29, 1)
    assert "line 4: candidate: message 2 has `tool_calls`" in capsys.readouterr().out
    assert "message 2 has `tool_calls`" in refusal(tmp_path, jsonl(tmp_path, *rows[:5]), capsys=capsys)


def test_messages_in_a_csv_cell(tmp_path: Path) -> None:
    rows = [{"messages": str(chat(one["question"], one["answer"])), "model": one["model"]} for one in BARE]
    _, records = taken_in(initialised(tmp_path, table(tmp_path, rows)), tmp_path)
    assert {one["candidate"] for one in records} == {ANSWER.format(n, s) for n, s in PAIRS}


@pytest.mark.parametrize(
    ("rows", "arguments", "naming"),
    [
        ([{"conversations": [{"from": "human", "value": "Why?"}]}], (), ("`from` and `value`", "`role`")),
        ([{"instruction": "Say it.", "input": "it", "output": "It."}], (), ("'instruction' and 'input'", "source")),
        ([{**one, "question": None} for one in BARE], (), ("source",)),
        (BARE, ("--map", "answer=candidate", "--map", "question=candidate"), ("'candidate' twice",)),
        (BARE, ("--map", "answer=candidate", "--map", "answer=source"), ("'answer' twice",)),
        (BARE, ("--map", "answer=foo"), ("--map answer=foo", "source, candidate")),
        (
            [BARE[0], {**BARE[1], "question": None}],
            (),
            ("line 2: source: field required", "data.columns is --map COLUMN=FIELD"),
        ),
    ],
)
def test_refusals(
    tmp_path: Path,
    rows: list[dict[str, Any]],
    arguments: tuple[str, ...],
    naming: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = refusal(tmp_path, jsonl(tmp_path, *rows), *arguments, capsys=capsys)
    assert all(name in error for name in naming), error


@pytest.mark.parametrize("arguments", ["--systems=", "--systems=a,,b", "--systems=a,a", "--systems=id,b", "--task= "])
def test_arguments_that_name_nothing(tmp_path: Path, arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["init", str(table(tmp_path, BARE)), arguments])
    assert caught.value.code == 2


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the data are read: they are not there."""
    assert main(["init", "none.csv", "--out", str(tmp_path / "no" / "o.yaml")]) == 2
    assert f"there is no folder {tmp_path / 'no'}" in capsys.readouterr().err
    (tmp_path / "o.yaml").symlink_to(tmp_path / "nothing")
    assert main(["init", "none.csv", "--out", str(tmp_path / "o.yaml")]) == 2
    assert "o.yaml exists" in capsys.readouterr().err


def test_a_format_that_init_cannot_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "`inverdict init` data.format cannot be set" in refusal(
        tmp_path, write(tmp_path, "x", "x.txt"), capsys=capsys
    )
    assert "is compressed. Unpack it" in refusal(tmp_path, write(tmp_path, "x", "x.csv.gz"), capsys=capsys)
