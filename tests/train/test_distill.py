"""The job `distill` over Ray Data with scripted models: complete, resumed, refused, killed; every row exactly once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cluster.__main__ import main
from judging.records import content_id
from tests.killing import killed_when
from tests.train.making import jsonl
from train.distill import INSTRUCTION_SCHEMA, SCHEMA, _requests

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
ROOT = Path(__file__).parents[2]
SCRIPTED: dict[str, Any] = {"backend": "scripted"}


def configuration(folder: Path, rows: list[Any], *, limit: int | None = None, **distill: Any) -> str:
    """Write instructions and configuration; `models`: their specifications by name, all of which answer."""
    folder.mkdir(exist_ok=True)
    models = distill.pop("models", {"m": SCRIPTED})
    config = {
        "run": str(folder / "run"),
        "instructions": {"files": [jsonl(folder / "in.jsonl", rows)], "limit": limit},
        "models": models,
        "distill": {"models": list(models), "block_rows": 4, **distill},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def answers(folder: Path, model: str = "m") -> list[dict[str, Any]]:
    parts = sorted((folder / "run" / "distill" / model).glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part, schema=SCHEMA).to_pylist()]


def times(folder: Path) -> dict[str, int]:
    """When each part was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "run" / "distill" / "m").glob("part-*.parquet")}


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"instruction": f"Number {number:02d}."} for number in range(count)]


def ids(count: int) -> list[str]:
    return sorted(content_id(row["instruction"]) for row in numbered(count))


RULES = [
    {"contains": "Number 03", "error": "error"},
    {"contains": "Number 04", "error": "timeout"},
    {"contains": "Number 05", "reply": "It goes on and", "finish_reason": "length"},
    {"contains": "Number 06", "reply": ""},
    {"contains": "Number 07", "reply": "<think>\nSeven it is.\n</think>\n\nSeven, 七."},
    {"contains": "Number 08", "reply": "<think>\nEight, or"},
]
# 18 rows that fit, one of them twice, and four that do not fit.
ROWS = [
    *numbered(9),
    "{broken",
    {"instruction": " "},
    {"instruction": "Number 01."},
    {"instruction": 5},
    {"question": "What?"},
    *numbered(18)[9:],
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A folder where two models have answered; tests only read it."""
    folder = tmp_path_factory.mktemp("done")
    models = {"m": {**SCRIPTED, "rules": RULES, "num_engines": 2}, "other": SCRIPTED}
    assert main(["distill", configuration(folder, ROWS, models=models)]) == 0
    return folder


def test_every_instruction_has_one_answer_of_each_model(done: Path) -> None:
    for model in ("m", "other"):
        found = answers(done, model)
        assert sorted(row["id"] for row in found) == ids(18)
        assert all(row["id"] == content_id(row["instruction"]) for row in found)
    by_text = {row["instruction"]: row for row in answers(done)}
    told = {text: (row["response"], row["finish_reason"], row["error"]) for text, row in by_text.items()}
    assert told["Number 03."] == ("", "stop", "error")
    assert told["Number 04."] == ("", "stop", "timeout")
    assert told["Number 05."] == ("It goes on and", "length", "")
    assert told["Number 06."] == ("", "stop", "")
    # No thinking is ever trained on, and an answer that did not begin is none.
    assert told["Number 07."] == ("Seven, 七.", "stop", "")
    assert told["Number 08."] == ("", "length", "")
    # The others are answered by hash, each in its own way.
    others = {row["response"] for row in answers(done, "other")}
    assert len(others) == 18
    assert all(text.startswith("Scripted reply") for text in others)
    assert told["Number 17."][0] in others


def test_what_a_finished_job_leaves(done: Path) -> None:
    folder = done / "run" / "distill" / "m"
    # 18 instructions in blocks of 4: five parts of each kind.
    assert len(list((folder / "instructions").glob("part-*.parquet"))) == 5
    assert len(list(folder.glob("part-*.parquet"))) == 5
    asked = pq.read_table(folder / "instructions", schema=INSTRUCTION_SCHEMA).to_pylist()
    assert sorted(row["id"] for row in asked) == ids(18)
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rejected] == [10, 11, 13, 14]
    assert {row["file"] for row in rejected} == {str(done / "in.jsonl")}
    assert rejected[2]["reason"] == "instruction: must be a string, not int"
    manifest = json.loads((folder / "manifest.json").read_text())
    # A rule's answer counts one token, one by hash eight: 6 x 1 + 12 x 8.
    assert manifest["summary"] == {
        "num_instructions": 18,
        "num_rejected": 4,
        "num_duplicates": 1,
        "num_over_limit": 0,
        "num_tokens": 102,
        "num_cut_off": 2,
        "errors": {"error": 1, "timeout": 1},
        "folder": str(folder),
    }
    assert "rejected.jsonl" in manifest["files"]
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]


def test_the_second_run_does_nothing_and_says_the_same(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = times(done)
    # What changes speed or place is no other work.
    settings = ("distill.block_rows=3", "models.m.num_engines=1", "models.m.delay_s=1", "distill.models=[other, m]")
    assert main(["distill", str(done / "c.yaml"), *(word for one in settings for word in ("--set", one))]) == 0
    said = capsys.readouterr()
    assert said.err.count("done before") == 2
    assert said.out.splitlines()[2:] == [
        "m: 18 responses, 102 tokens, 2 truncated, 1 error, 1 timeout; 4 invalid rows, 1 duplicates",
        f"  {done / 'run' / 'distill' / 'm'}",
    ]
    assert main(["distill", str(done / "c.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"]["m"]["num_tokens"] == 102
    assert times(done) == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("distill.max_tokens=99", "distill.max_tokens (512, now 99)"),
        ("distill.temperature=0", "distill.temperature (0.7, now 0.0)"),
        ("instructions.limit=5", "instructions.limit (none, now 5)"),
        ("models.m.garbage_share=0.5", "model.garbage_share (0.0, now 0.5)"),
        ("seed=1", "seed (0, now 1)"),
    ],
)
def test_other_work_in_the_same_place_is_refused_by_key(
    done: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    assert main(["distill", str(done / "c.yaml"), "--set", setting]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_other_instructions_in_the_same_place_are_refused_by_file(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = done / "in.jsonl"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept + b"\n")
        assert main(["distill", str(done / "c.yaml")]) == 2
    finally:
        file.write_bytes(kept)
    assert f"instructions.files.{file}" in capsys.readouterr().err


def test_answers_are_drawn_with_the_runs_seed(done: Path, tmp_path: Path) -> None:
    config = configuration(tmp_path, ROWS, models={"other": SCRIPTED})
    assert main(["distill", config, "--set", "distill.block_rows=64"]) == 0
    before = {row["id"]: row["response"] for row in answers(done, "other")}
    again = {row["id"]: row["response"] for row in answers(tmp_path, "other")}
    assert again == before
    assert main(["distill", config, "--set", "seed=1", "--set", f"run={tmp_path}/2/run"]) == 0
    other = {row["id"]: row["response"] for row in answers(tmp_path / "2", "other")}
    assert other.keys() == before.keys()
    assert all(other[id] != before[id] for id in before)


def test_each_instruction_has_a_seed_of_its_own_in_whatever_block(tmp_path: Path) -> None:
    rows = [{"id": content_id(row["instruction"]), **row} for row in numbered(6)]

    def seeds(seed: int, *blocks: list[dict[str, Any]]) -> dict[str, int]:
        files = []
        for number, block in enumerate(blocks):
            files.append(tmp_path / f"{number}.parquet")
            pq.write_table(pa.Table.from_pylist(block, schema=INSTRUCTION_SCHEMA), files[-1])
        found = _requests({"part": [str(file) for file in files]}, set(), seed)
        return dict(zip(found["id"], found["seed"], strict=True))

    whole = seeds(7, rows)
    assert len(set(whole.values())) == 6
    # The first 28 bits of the hash of the run's seed and the id.
    assert whole[rows[0]["id"]] == int(content_id("7", rows[0]["id"])[:7], 16)
    assert seeds(7, rows[4:], rows[:4]) == whole
    assert not set(seeds(8, rows).values()) & set(whole.values())


def test_replies_sampled_with_one_seed_for_all_are_not_mixed_with_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, numbered(5))
    assert main(["distill", config]) == 0
    file = tmp_path / "run" / "distill" / "m" / "fingerprint.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in told.items() if name != "seeds"}))
    assert main(["distill", config]) == 2
    assert "seeds (none, now by id)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["{broken", {"instruction": ""}], "none of 2 rows"),
        ([""], "none of 0 rows"),
        ([], "in.jsonl"),
    ],
)
def test_without_a_usable_row_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], words: str
) -> None:
    assert main(["distill", configuration(tmp_path, rows)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "run").exists()


def test_the_limit_is_kept_and_the_rest_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", configuration(tmp_path, numbered(20), limit=7), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["models"]["m"]
    assert (found["num_instructions"], found["num_over_limit"]) == (7, 13)
    known = {row["id"] for row in answers(tmp_path)}
    assert len(known) == 7
    # The same seven of the same rows in another order, in another place.
    assert main(["distill", configuration(tmp_path / "turned", numbered(20)[::-1], limit=7)]) == 0
    assert {row["id"] for row in answers(tmp_path / "turned")} == known


def test_a_model_that_always_fails_is_no_end_of_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = {"m": {**SCRIPTED, "rules": [{"contains": "", "error": "error"}]}, "short": {**SCRIPTED}}
    models["short"]["max_prompt_chars"] = 5
    assert main(["distill", configuration(tmp_path, numbered(5), models=models), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["models"]
    assert (found["m"]["errors"], found["m"]["num_tokens"]) == ({"error": 5}, 5)
    assert (found["short"]["errors"], found["short"]["num_tokens"]) == ({"too_long": 5}, 0)


# ---------------------------------------------------------------------- resume


def half_done(folder: Path, *, keep: int) -> dict[str, int]:
    """Take `folder` back to where a kill might have left it, with `keep` parts; returns them."""
    job = folder / "run" / "distill" / "m"
    (job / "manifest.json").unlink()
    for part in sorted(job.glob("part-*.parquet"))[keep:]:
        part.unlink()
    return times(folder)


@pytest.mark.parametrize("keep", [0, 2, 5])
def test_what_is_missing_is_answered_and_what_is_there_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: int
) -> None:
    config = configuration(tmp_path, numbered(18))
    assert main(["distill", config, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    whole = answers(tmp_path)
    kept = half_done(tmp_path, keep=keep)
    assert len(kept) == keep
    assert main(["distill", config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert answers(tmp_path) == whole
    assert kept.items() <= times(tmp_path).items()


def test_a_damaged_part_is_answered_anew(tmp_path: Path) -> None:
    config = configuration(tmp_path, numbered(18))
    assert main(["distill", config]) == 0
    whole = answers(tmp_path)
    half_done(tmp_path, keep=5)
    job = tmp_path / "run" / "distill" / "m"
    damaged = sorted(job.glob("part-*.parquet"))[1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    # Of a part that was being written there is a hidden file.
    (job / f".{damaged.name}").write_bytes(b"half")
    (next((job / "instructions").glob("part-*"))).write_bytes(b"half")
    assert main(["distill", config]) == 0
    assert answers(tmp_path) == whole
    assert not [path for path in job.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("block_rows", [3, 100])
def test_other_blocks_after_a_kill_answer_nothing_twice(tmp_path: Path, block_rows: int) -> None:
    config = configuration(tmp_path, numbered(18))
    assert main(["distill", config]) == 0
    before = {row["id"]: row["response"] for row in answers(tmp_path)}
    kept = half_done(tmp_path, keep=2)
    assert main(["distill", config, "--set", f"distill.block_rows={block_rows}"]) == 0
    assert sorted(row["id"] for row in answers(tmp_path)) == ids(18)
    assert {row["id"]: row["response"] for row in answers(tmp_path)} == before
    assert kept.items() <= times(tmp_path).items()
    asked = pq.read_table(tmp_path / "run" / "distill" / "m" / "instructions").to_pylist()
    assert sorted(row["id"] for row in asked) == ids(18)


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on_with_the_same_command(tmp_path: Path) -> None:
    # A block of four takes 0.4 s: ten of them leave time to kill in between.
    config = configuration(tmp_path, numbered(40), models={"m": {**SCRIPTED, "delay_s": 0.4}})
    killed_when("distill", config, lambda: len(times(tmp_path)) >= 2)
    before = times(tmp_path)
    num_done = len(answers(tmp_path))
    assert 0 < num_done < 40
    assert not (tmp_path / "run" / "distill" / "m" / "manifest.json").exists()

    assert main(["distill", config]) == 0
    assert Counter(row["id"] for row in answers(tmp_path)) == Counter(ids(40))
    # What was there was not asked again.
    assert before.items() <= times(tmp_path).items()
    calm = configuration(tmp_path / "calm", numbered(40))
    assert main(["distill", calm]) == 0
    assert answers(tmp_path) == answers(tmp_path / "calm")
