"""Our Jinja2 templates with values of anybody's -> HTML: whatever a model or a data set wrote is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.terminal import shown as visible
from evaluation.measure.formatting import shown

TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, **values: Any) -> Markup:
    """The file of that name in `templates`. A value that is `Markup`, such as another section, stands as it is."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure": shown, "visible": visible, "words": lambda name: name.replace("_", " ")}
    return made
