"""A plan for the terminal: an aligned table of its rows, then its assumptions, numbered, each with its source.

Knows no job. The formats of numbers for people stand here too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = ("job", "model", "tokens in", "tokens out", "GPU h", "wall h", "disk", "GPU memory")
WORDS = 2  # columns of text, the others hold numbers
STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def render(summary: Mapping[str, Any]) -> str:
    """`summary`: `jobs`, `total` and `assumptions` of train.plan."""
    rows = [HEAD, *(_cells(row) for row in [*summary["jobs"], summary["total"]])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [_line(row, widths) for row in rows]
    said = [
        textwrap.fill(
            f"{number}. {one['words']} [{one['source']}]", 118, subsequent_indent="   ", break_on_hyphens=False
        )
        for number, one in enumerate(summary["assumptions"], start=1)
    ]
    kept = [_disk(row) for row in summary["jobs"] if len(row["disk"]) > 1]
    return "\n".join([*lines, *kept, "", "Assumptions, each with its source:", *said])


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


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    placed = [
        cell.ljust(width) if column < WORDS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(placed).rstrip()


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
    """102, 4.67, 0.12; "-" for none."""
    if number >= 10 or not number:
        return _short(number) if number else "-"
    return f"{number:.2f}" if number >= 0.01 else "<0.01"


def _short(number: float) -> str:
    """Three digits, and never fewer than the whole number has."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
