"""Formats numbers and intervals for the tables of the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from judging.stats.estimate import Estimate


def shown(value: float, digits: int = 2) -> str:
    """A number for a table: ".48", "-.03", "1.00"; a dash for an undefined one."""
    if not math.isfinite(value):
        return "–"
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-.00"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def part_title(task: str, dataset: str, aspect: str) -> str:
    """What a part of the data is called: one task, data set and aspect."""
    return f"{task} / {dataset or 'records'} / {aspect}"


def one_line(name: str) -> str:
    """A name for a table or sentence: line breaks and other white space are one space."""
    return " ".join(name.split())


def with_interval(one: Estimate | Mapping[str, Any] | None) -> str:
    """ ".48 [.31, .62]" for an estimate or its JSON (null: undefined); a dash for None."""
    if one is None:
        return "–"
    known: Mapping[str, Any] = one.to_json() if isinstance(one, Estimate) else one
    value, low, high = (math.nan if known[end] is None else known[end] for end in ("value", "low", "high"))
    return f"{shown(value)} [{shown(low)}, {shown(high)}]"
