"""The web page at `/` and the list of endpoints at `/docs`: each one file that loads nothing from outside.

Jinja2 templates with autoescape. The content security policy allows exactly a page's own script and style, by hash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.reporting.pages import hashed

HERE = Path(__file__).parent
FORBIDDEN = ("frame-ancestors", "base-uri", "form-action")
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def web_page(tasks: Mapping[str, Sequence[str]], judges: Sequence[str], *, has_report: bool) -> str:
    """The page in which a person enters a text and reads the panel's judgement.

    Args:
        tasks: aspects by task.
        judges: names of the configured judges.
        has_report: whether the page links to the agreement report.
    """
    served = {"tasks": tasks, "judges": list(judges)}
    return _environment().get_template("page.html").render(served=served, has_report=has_report)


def docs_page(openapi: Mapping[str, Any]) -> str:
    """The endpoints with their bodies' schemas."""
    schemas = openapi.get("components", {}).get("schemas", {})
    endpoints = []
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = str(body.get("$ref", "")).rpartition("/")[2]
            endpoints.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "description": operation.get("description", ""),
                    "body": name if name in schemas else "",
                    "body_schema": json.dumps(schemas.get(name), indent=1),
                }
            )
    return _environment().get_template("endpoints.html").render(endpoints=endpoints)


def csp_of(page: str) -> str:
    """A content security policy: the page's own inline script and style, requests to this server, nothing else."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in INLINE.findall(page):
        hashes[kind].append(hashed(text))
    rules = [f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    return "; ".join(["default-src 'none'", *rules, "connect-src 'self'", *(f"{what} 'none'" for what in FORBIDDEN)])


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {}  # tasks and judges in the order of the configuration, not sorted
    return made
