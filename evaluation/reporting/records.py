"""The record browser `records.html`: a self-contained page with every judged row, its texts, scores and reasons.

A file of its own beside `report.html`, so that the report opens at once however many rows and texts there are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cluster.artifacts import read_json, write_text
from evaluation.reporting.pages import TEMPLATES, rendered
from evaluation.reporting.record_data import packed
from evaluation.reporting.record_rows import finished_rows, rows_so_far

LIVE_ROWS = 5_000  # of an evaluation under way, so that a page that reloads them stays fast


def write_records(run: Path, limit: int) -> None:
    """Write `{run}/report/records.html` with at most `limit` rows; with 0, remove it."""
    path = run / "report" / "records.html"
    if limit:
        write_text(path, records_page(run, packed_records(run, limit)))
    else:
        path.unlink(missing_ok=True)


def records_page(run: Path, data: bytes | None = None) -> str:
    """The page. `data`: of `packed_records`; without them the page loads rows and progress from `inverdict view`."""
    style, script = (
        "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
        for names in (("report.css", "records.css"), ("records.js",))
    )
    policy = f"default-src 'none'; style-src {_hashed(style)}; script-src {_hashed(script)}"
    return rendered(
        "records.html",
        run=run,
        is_live=data is None,
        policy=Markup(policy if data is not None else f"{policy}; connect-src 'self'"),
        style=Markup(style),
        script=Markup(script),
        data=Markup(base64.b64encode(data or b"").decode()),
    )


def packed_records(run: Path, limit: int) -> bytes:
    """The rows of a run's evaluation: those of `scores.parquet` once it is finished, until then what has been judged.

    Args:
        run: the run folder.
        limit: the largest number of rows.

    Raises:
        UserError, InputError: a file of the run is damaged, or a record's task cannot be read.
    """
    folder = run / "evaluate"
    done, known = read_json(folder / "manifest.json"), read_json(folder / "fingerprint.json") or {}
    label = "constructed level" if known.get("data", {}).get("labels") == "constructed" else "human score"
    if done and (folder / "scores.parquet").exists():
        return packed(finished_rows(folder, limit), label=label, features=_features(done))
    judges = list(known.get("evaluate", {}).get("judges", {}))
    return packed(rows_so_far(folder, judges, min(limit, LIVE_ROWS)), label=label)


def _features(done: Mapping[str, Any]) -> dict[str, str]:
    return {name: one["feature"] for name, one in done["summary"]["judges"].items() if "feature" in one}


def _hashed(text: str) -> str:
    """The source of a content security policy that allows this inline text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
