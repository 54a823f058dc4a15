"""`inverdict data list|fetch|show`, and a job whose data set is not on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from judging.public_data.registry import registry
from tests.judging.ratedfiles import row
from tests.published import topical_chat

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an empty cache and no local copies."""
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INVERDICT_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def local(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *rows: dict[str, Any]) -> None:
    folder.mkdir()
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    monkeypatch.setenv("INVERDICT_DATA", str(folder))


def test_the_list(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    local(monkeypatch, place / "own", "wmt23", row())
    (place / "given").mkdir()
    (place / "given" / "topical_chat.json").write_bytes(topical_chat()["topical_chat.json"])
    assert main(["data", "fetch", "topical_chat", "topical_chat", "--from", str(place / "given")]) == 0
    assert capsys.readouterr().out == f"{place}/cache/data/topical_chat.jsonl\n"
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "task", "rows", "state", "licence"]
    found = {line.split()[0]: line for line in lines[1:]}
    assert list(found) == [one for name, entry in registry().items() for one in (name, *entry.parts)]
    assert found["topical_chat"].split()[:4] == ["topical_chat", "dialogue", "360", "fetched"]
    assert "local copy (INVERDICT_DATA)" in found["wmt23"] and "unknown" in found["wmt23"]
    assert "not fetched" in found["summeval"] and "several" in found["aeollm_test"]
    assert main(["data", "list", "--json"]) == 0
    states = {one["name"]: one["state"] for one in json.loads(capsys.readouterr().out)}
    assert (states["topical_chat"], states["hanna"]) == ("fetched", "not fetched")


def test_the_list_in_the_docs_is_the_commands_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert f"$ inverdict data list\n{capsys.readouterr().out}```" in page


def test_what_is_shown_of_a_data_set(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "show", "hanna"]) == 0
    said = capsys.readouterr().out
    assert "not verified" in said and "1,056" in said and "row 1" not in said
    rows = [row(id=str(n), dataset=f"wmt23_{pair}", source="Why? " * 40) for n in range(3) for pair in ("ende", "zhen")]
    local(monkeypatch, place / "own", "wmt23", *rows)
    assert main(["data", "show", "wmt23_ende", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["rows"], about["groups"], about["systems"], about["scales"]) == (3, 1, 1, {"overall": [1, 5]})
    assert about["columns"] == list(rows[0]) and about["first_rows"] == rows[:4:2]
    assert main(["data", "show", "wmt23_ende", "--rows", "1"]) == 0
    said = capsys.readouterr().out
    assert said.count("\nrow ") == 1 and f"{place}/own/wmt23.jsonl" in said and "Why? Why?" in said
    assert max(len(line) for line in said[said.index("row 1") :].splitlines()) < 90


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        (["fetch", "topical_chat", "sumeval"], "Did you mean 'summeval'?"),
        (["show", "no-such"], "inverdict data list"),
        (["fetch", "hanna", "--from", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], naming: str
) -> None:
    assert main(["data", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and naming in said.err
    assert not (place / "cache").exists()


@pytest.mark.parametrize("job", ["run", "evaluate"])
def test_a_run_without_its_data_says_how_to_get_them(place: Path, capsys: pytest.CaptureFixture[str], job: str) -> None:
    assert main([job, str(ROOT / "configs" / "topical_chat.yaml")]) == 2
    assert capsys.readouterr().err == (
        f"inverdict {job}: Dataset topical_chat is not on this machine. Fetch it with `inverdict data fetch "
        "topical_chat`, or set INVERDICT_DATA to a folder with topical_chat.jsonl.\n"
    )
    assert list((place / "here").iterdir()) == [] and not (place / "cache").exists()


def test_all_missing_data_of_a_run_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(ROOT / "configs" / "full-small.yaml")]) == 2
    names = "sft_self_instruct sft_short_tasks topical_chat summeval hanna wmt23 alce"
    assert f"`inverdict data fetch {names}`" in capsys.readouterr().err


def test_a_job_needs_the_data_that_it_reads_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "run": "r",
        "data": {"records": ["dataset:hanna"]},
        "instructions": {"files": ["dataset:sft_roleplay"]},
        "distill": {"models": ["m"]},
        "models": {"m": {"backend": "scripted"}},
    }
    Path("c.yaml").write_text(yaml.safe_dump(config))
    assert main(["distill", "c.yaml"]) == 2
    said = capsys.readouterr().err
    assert "data fetch sft_roleplay" in said and "hanna" not in said
