"""The record browser `records.html`: a self-contained page with every judged row, its texts, scores and reasons.

A file of its own beside `report.html`, so that the report opens at once however many rows and texts there are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cluster.artifacts import read_json, write_text
from evaluation.reporting.pages import inline, label_name, policy, rendered
from evaluation.reporting.record_data import packed
from evaluation.reporting.record_rows import finished_rows, rows_so_far

LIVE_ROWS = 5_000  # of an evaluation under way, so that a page that reloads them stays fast


def write_records(run: Path, limit: int) -> None:
    """Write `{run}/report/records.html` with at most `limit` rows; with 0, remove it."""
    path = run / "report" / "records.html"
    if limit:
        write_text(path, records_page(run, packed_records(run, limit, why=f"report.records: {limit:,}")))
    else:
        path.unlink(missing_ok=True)


def records_page(run: Path, data: bytes | None = None) -> str:
    """The page. `data`: of `packed_records`; without them the page loads rows and progress from `inverdict view`."""
    style, script = inline("report.css", "records.css"), inline("records.js", "records_source.js")
    allowed = policy(style=style, script=script)
    return rendered(
        "records.html",
        run=run,
        is_live=data is None,
        policy=allowed if data is not None else Markup(f"{allowed}; connect-src 'self'"),
        style=style,
        script=script,
        data=Markup(base64.b64encode(data or b"").decode()),
    )


def packed_records(run: Path, limit: int, *, why: str) -> bytes:
    """The rows of a run's evaluation: those of `scores.parquet` once it is finished, until then what has been judged.

    Args:
        run: the run folder.
        limit: the largest number of rows.
        why: whose limit that is, for the page.

    Raises:
        UserError, InputError: a file of the run is damaged, or a record's task cannot be read.
    """
    folder = run / "evaluate"
    done, known = read_json(folder / "manifest.json"), read_json(folder / "fingerprint.json") or {}
    label = label_name(known.get("data", {}).get("labels", ""))
    if done and (folder / "scores.parquet").exists():
        return packed(finished_rows(folder, limit, why), label=label, features=_features(done))
    judges = list(known.get("evaluate", {}).get("judges", {}))
    return packed(rows_so_far(folder, judges, min(limit, LIVE_ROWS)), label=label)


def _features(done: Mapping[str, Any]) -> dict[str, str]:
    judges = done.get("summary", {}).get("judges", {})
    return {name: one["feature"] for name, one in judges.items() if "feature" in one}
