"""The web page at `/` and the list of endpoints at `/docs`: each one file without anything from outside.

The content security policy allows exactly the page's own script and style, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCS_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{overflow:auto;background:#f4f4f2;padding:1rem}h2{font-size:1rem}"
)
FORBIDDEN = ("frame-ancestors", "base-uri", "form-action")
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def web_page(tasks: Mapping[str, Sequence[str]], judges: Sequence[str], *, has_report: bool) -> str:
    """`page.html` with what is served: names of ours alone."""
    served = json.dumps({"tasks": tasks, "judges": list(judges)}).replace("<", "\\u003c")
    link = '<a href="report">Agreement report</a>' if has_report else ""
    page = (HERE / "page.html").read_text(encoding="utf-8")
    return page.replace("/*SERVED*/ null", served).replace("<!--REPORT-->", link)


def csp_of(page: str) -> str:
    """A content security policy: the page's own inline script and style, requests to this server, nothing else."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in INLINE.findall(page):
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    rules = [f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    return "; ".join(["default-src 'none'", *rules, "connect-src 'self'", *(f"{what} 'none'" for what in FORBIDDEN)])


def docs_page(openapi: Mapping[str, Any]) -> str:
    """The endpoints with their bodies' schemas."""
    schemas = openapi.get("components", {}).get("schemas", {})
    items = []
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = str(body.get("$ref", "")).rpartition("/")[2]
            shown = (
                f"<details><summary>{escape(name)}</summary>"
                f"<pre>{escape(json.dumps(schemas[name], indent=1))}</pre></details>"
                if name in schemas
                else ""
            )
            words = escape(operation.get("description", ""))
            items.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{words}</p>{shown}")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Inverdict: endpoints</title>"
        f"<style>{DOCS_STYLE}</style>"
        f"<h1>Endpoints</h1><p>The whole schema: <a href=openapi.json>openapi.json</a></p>{''.join(items)}</html>"
    )
