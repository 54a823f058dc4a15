"""Renders the report's Jinja2 templates to HTML. All values are escaped, since models and data sets are untrusted."""

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
    """The rendered file of that name in `templates`. `Markup` values, such as other sections, are not escaped."""
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
