"""The report's plots: names of any kind beside the axes, without a word on stderr."""

import logging
import warnings
from pathlib import Path

import pytest

from evaluation.reporting import plots
from tests.evaluation.reporting.test_report import finished, page, rows


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", "a b"),
        ("  ", "(blank)"),
        ("$x", r"\$x"),
        ("x" * 29, "x" * 27 + "…"),
        ("a\x1b[31m", r"a\x1b[31m"),
    ],
)
def test_a_name_beside_an_axis_is_one_short_line(name: str, shown: str) -> None:
    assert plots._short(name) == shown


@pytest.mark.draws
def test_characters_of_no_font_are_drawn_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = finished(tmp_path / "run", [{**one, "system": f"名前 {one['system']}"} for one in rows([1, 4, 2, 5])])
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error", UserWarning)
        assert "img" in page(run).tags
    assert not [one for one in caplog.records if one.name.startswith("matplotlib")]
