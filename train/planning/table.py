"""A plan for the terminal: an aligned table of its rows, then its numbered assumptions with their sources.

Knows no jobs. Also holds the number formats of the plan.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.tables import aligned

HEAD = ("job", "model", "tokens in", "tokens out", "GPU time", "wall time", "disk", "GPU memory")
NODE_HEAD = ("all on", "GPU time", "wall time", "nodes", "node time", "fits")
WORDS = 2  # columns of text, the others hold numbers
STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def render(summary: Mapping[str, Any]) -> str:
    """`summary`: `jobs`, `total` and `assumptions` of train.planning.plan."""
    rows = [HEAD, *(_cells(row) for row in [*summary["jobs"], summary["total"]])]
    table = aligned(rows, num_left=WORDS)
    said = [
        textwrap.fill(
            f"{number}. {one['words']} [{one['source']}]", 118, subsequent_indent="   ", break_on_hyphens=False
        )
        for number, one in enumerate(summary["assumptions"], start=1)
    ]
    kept = [_disk(row) for row in summary["jobs"] if len(row["disk"]) > 1]
    assumed = ["", "Assumptions, each with its source:", *said]
    return "\n".join([f"on {summary['node']}", table, *kept, "", _nodes(summary["nodes"]), *assumed])


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A line for each type of machine, with the cost where a price is known."""
    with_money = any(row["money"] is not None for row in nodes)
    rows = [(*NODE_HEAD, "money") if with_money else NODE_HEAD]
    for row in nodes:
        cells = (
            row["node"],
            *(hours(row[name]) for name in ("gpu_hours", "wall_hours")),
            str(row["num_nodes"]) if row["num_nodes"] else "-",
            hours(row["node_hours"]),
            "yes" if row["fits"] else "no",
        )
        rows.append((*cells, f"{row['money']:,.2f}" if row["money"] is not None else "?") if with_money else cells)
    return aligned(rows)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (
        *(count(row[name]) for name in ("tokens_in", "tokens_out")),
        *(hours(row[name]) for name in ("gpu_hours", "wall_hours")),
        *(size(row[name]) for name in ("disk_bytes", "gpu_memory_bytes")),
    )
    return (row["job"], row["model"], *numbers)


def _disk(row: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {size(num_bytes)}" for name, num_bytes in row["disk"].items())
    return f"disk of {row['job']} {row['model']}: {parts}"


def count(number: float) -> str:
    """1.2 B, 84.5 M, 660 k; "-" for none."""
    for step, letter in STEPS:
        if number >= 0.9995 * step:
            return f"{_short(number / step)} {letter}"
    return _short(number) if number else "-"


def size(num_bytes: float) -> str:
    """14.1 GB; "-" for none."""
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= 0.9995 * step:
            return f"{_short(num_bytes / step)} {unit}"
    return f"{_short(num_bytes / 1e3)} kB" if num_bytes else "-"


def hours(number: float) -> str:
    """103 h, 4.66 h, 7.2 min, 31 s; "-" for none."""
    if not number:
        return "-"
    if number >= 1:
        return f"{_short(number)} h"
    return f"{_short(number * 60)} min" if number * 60 >= 1 else f"{max(1, round(number * 3600))} s"


def _short(number: float) -> str:
    """Three significant digits, and all digits of the integer part."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
