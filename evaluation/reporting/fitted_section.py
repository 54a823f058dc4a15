"""The fitted judges of a run for the report: held-out agreement of each regression beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.artifacts import read_json
from evaluation.fitting.learning import POOLED, STATISTIC
from evaluation.judges.fitted_judges import folder_of
from evaluation.judges.judge_config import FITTED
from evaluation.measure.formatting import shown, with_interval
from evaluation.reporting.pages import rendered


def fitted_section(run: Path, judges: Mapping[str, Mapping[str, Any]]) -> str:
    """The section; empty if no judge is fitted, or if its folder is gone. `judges`: of the evaluation's summary."""
    fits = [
        {"judge": name, **_fit(key, one, done["summary"]["depth"])}
        for name, judge in judges.items()
        if judge.get("score_mode") == FITTED and (done := read_json(folder_of(run, name) / "manifest.json"))
        for key, one in done["summary"]["fits"].items()
    ]
    return rendered("fitted.html", fits=fits, statistics=(STATISTIC, POOLED)) if fits else ""


def _fit(key: str, one: Mapping[str, Any], depth: int) -> dict[str, Any]:
    half = one["half_width"]
    return {
        "key": key,
        "n": one["n"],
        "num_groups": one["num_groups"],
        "depth": depth,
        "half_width": "the whole scale" if half is None else f"± {shown(half)}",
        "rows": {
            name: [with_interval(found[statistic]) for statistic in (STATISTIC, POOLED)]
            for name, found in one["agreement"].items()
        },
    }
