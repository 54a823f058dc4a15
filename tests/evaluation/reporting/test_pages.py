"""The report's templates: all values are escaped, and a missing value is an error instead of an empty string."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from evaluation.reporting.pages import TEMPLATES, rendered

HOSTILE = "<script>alert('x')</script>{{ 7 * 7 }}{% include 'report.css' %}"


def test_values_are_escaped_and_never_read_as_a_template() -> None:
    values = {"label": HOSTILE, "statistics": (), "follows": HOSTILE, "numbers": HOSTILE, "rows": {HOSTILE: [HOSTILE]}}
    page = rendered("neighbours.html", **values)
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{ 7 * 7 }}{% include") == 6
    assert "<script" not in page


def test_a_rendered_section_is_not_escaped_again() -> None:
    assert Markup("{}").format(rendered("training.html", trainings=[])).startswith("<details class=chapter>")


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="trainings"):
        rendered("training.html")


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_no_template_turns_escaping_off(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "safe" not in text
    assert "autoescape" not in text
