"""Characters that a terminal would obey are shown; everything else is as it was."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.__main__ import main
from cluster.progress import Progress
from cluster.terminal import say, shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("two\nlines\tand Grüße, 好, \U0001f600", "two\nlines\tand Grüße, 好, \U0001f600"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\x7f\x9b", "a\\x0db\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_what_is_shown(text: str, written: str) -> None:
    assert shown(text) == written


@given(st.text())
def test_any_text_is_shown_once(text: str) -> None:
    assert shown(shown(text)) == shown(text)
    assert not any(ord(char) < 32 and char not in "\n\t" for char in shown(text))


def test_lines_of_progress_obey_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say("a \x1b[2J of work")
    Progress("model \x1b[2J", 1).add(1)
    said = capsys.readouterr().err
    assert said.count("\\x1b[2J") == 2
    assert "\x1b" not in said


def test_a_summary_obeys_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As a data set's name in the report's table would be.
    monkeypatch.setattr("evaluation.reporting.report.main", lambda run: (0, {"dataset": "\x1b[31mred"}))
    monkeypatch.setattr("evaluation.reporting.report.render", lambda summary: summary["dataset"])
    (tmp_path / "c.yaml").write_text("run: r\n")
    assert main(["report", str(tmp_path / "c.yaml")]) == 0
    assert capsys.readouterr().out == "\\x1b[31mred\n"


def test_an_error_about_a_hostile_name_obeys_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cluster", "evaluate", str(tmp_path / "\x1b[31mred.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "\\x1b[31mred.yaml" in done.stderr
    assert "\x1b" not in done.stderr
