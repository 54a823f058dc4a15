"""The example baseline of each judge as a table: for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.measure.example_baseline import FOLLOWS, Neighbours
from evaluation.measure.formatting import with_interval
from evaluation.reporting.pages import rendered

SHOWN = ("dataset.spearman", "group.spearman")


def table_rows(found: Mapping[str, Neighbours]) -> list[list[str]]:
    """The terminal's table: a head, then one row per judge."""
    head = ["shown examples", f"their mean alone ({FOLLOWS})", "judge minus it", "judge with it", "coverage"]
    return [head, *([judge, *_cells(one, (FOLLOWS,))] for judge, one in found.items())]


def section(found: Mapping[str, Neighbours], label: str) -> str:
    """The report's section of one slice; empty if no judge had examples. `label`: "human score"."""
    if not found:
        return ""
    return rendered(
        "neighbours.html",
        label=label,
        statistics=SHOWN,
        follows=FOLLOWS,
        numbers=", ".join(f"{judge} {one.follows[FOLLOWS].n}" for judge, one in found.items()),
        rows={judge: _cells(one, SHOWN) for judge, one in found.items()},
    )


def _cells(one: Neighbours, statistics: Sequence[str]) -> list[str]:
    estimates = [found[name] for found in (one.alone, one.minus_alone) for name in statistics]
    return [
        *(with_interval(estimate) for estimate in (*estimates, one.follows[FOLLOWS])),
        f"{one.alone[FOLLOWS].coverage:.3f}",
    ]
