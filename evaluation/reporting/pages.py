"""Renders the report's Jinja2 templates to HTML. All values are escaped, since models and data sets are untrusted."""

from __future__ import annotations

import base64
import hashlib
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


def label_name(labels: str) -> str:
    """What labels are called: `human` or `constructed` ones."""
    return "constructed level" if labels == "constructed" else "human score"


def inline(*names: str) -> Markup:
    """The style sheets or scripts of those names in `templates`, one after the other."""
    return Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))


def policy(**allowed: str) -> Markup:
    """A page's own content security policy: it loads nothing, sends nothing, and has its inline texts alone.

    Args:
        allowed: inline text by what it is, such as `style`.
    """
    sources = [f"{kind}-src {hashed(text)}" for kind, text in allowed.items()]
    return Markup("; ".join(["default-src 'none'", *sources, "base-uri 'none'", "form-action 'none'"]))


def hashed(text: str) -> str:
    """The source of a content security policy that allows this inline text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


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
