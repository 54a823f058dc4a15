"""Lines of progress: when they come, what they say, and nothing on stdout."""

import io
import sys

import pytest

from cluster import progress as module
from cluster.progress import Progress, progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the module reads; a test moves them on."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_comes_now_and_then_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("judging", 100) as bar:
        clock[0] += 10
        bar.add(10)
        assert capsys.readouterr().err == ""
        clock[0] += 10
        bar.add(10)
        # 10 in the 10 s since the first 10: 1 a second, 80 left.
        assert capsys.readouterr().err == "judging: 20 of 100, 1.0 a second, about 80 s left\n"
        bar.add(10)
        assert capsys.readouterr().err == ""
        clock[0] += 20
        bar.add(70)
    said = capsys.readouterr()
    assert said.err == "judging: 100 of 100 in 40 s (2.5 a second)\n"
    assert said.out == ""


def test_what_was_done_before_does_not_count_as_speed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("judging", 100, done=60)
    clock[0] += 100  # the model starts
    bar.add(10)
    assert capsys.readouterr().err == "judging: 70 of 100\n"
    clock[0] += 20
    bar.add(10)
    # 10 in the 20 s since the first 10 of this process; 20 left.
    assert capsys.readouterr().err == "judging: 80 of 100, 0.5 a second, about 40 s left\n"


def test_no_time_has_passed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    Progress("judging", 1).add(1)
    assert capsys.readouterr().err == "judging: 1 of 1 in 0 s (0.0 a second)\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("judging", 4, done=1) as bar:
        bar.add(3)
    assert "judging" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
