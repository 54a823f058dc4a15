"""The report's part on shown examples: what they say without the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from evaluation.measure.example_baseline import FOLLOWS, Neighbours
from evaluation.measure.formatting import with_interval

SHOWN = ("dataset.spearman", "group.spearman")


def table_rows(found: Mapping[str, Neighbours]) -> list[list[str]]:
    """For the terminal: a head, then one line a judge."""
    head = ["shown examples", f"their mean alone ({FOLLOWS})", "judge minus it", "judge with it", "coverage"]
    return [head, *([judge, *_cells(one, (FOLLOWS,))] for judge, one in found.items())]


def section(found: Mapping[str, Neighbours], label: str) -> str:
    """The report's section of one slice; empty where no judge was shown examples. `label`: "human score"."""
    if not found:
        return ""
    rows = "".join(
        f"<tr><th>{escape(judge)}{''.join(f'<td>{escape(cell)}' for cell in _cells(one, SHOWN))}"
        for judge, one in found.items()
    )
    heads = "".join(f"<th>{what}, {name}" for what in ("alone", "judge minus it") for name in SHOWN)
    n = ", ".join(f"{judge} {one.follows[FOLLOWS].n}" for judge, one in found.items())
    return (
        f"<h3>What the shown examples say without the judge</h3><p>The mean {escape(label)} of a text's examples, "
        "taken as that text's score. A judge should be better than that; one whose scores go along with it far more "
        f"closely than with the {escape(label)}s copies its examples. Rows scored with examples: {escape(n)}.</p>"
        f"<table><tr><th>{heads}<th>judge with it, {FOLLOWS}<th>coverage{rows}</table>"
    )


def _cells(one: Neighbours, statistics: Sequence[str]) -> list[str]:
    told = [found[name] for found in (one.alone, one.minus_alone) for name in statistics]
    return [
        *(with_interval(estimate) for estimate in (*told, one.follows[FOLLOWS])),
        f"{one.alone[FOLLOWS].coverage:.3f}",
    ]
