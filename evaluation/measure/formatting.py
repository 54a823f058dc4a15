"""Formats numbers, intervals, shares and names for the tables of the terminal and the report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.terminal import shown as visible
from judging.stats.estimate import Estimate

MOST_CHARACTERS = 80  # of a name
DIGITS, MOST_DIGITS = 2, 6  # after the point
NOISE = 0.5 * 10**-MOST_DIGITS  # a width or number below it is shown as 0


def shown(value: float, digits: int = DIGITS) -> str:
    """A number for a table: ".48", "-.03", "1.00"; a dash for an undefined one."""
    if not math.isfinite(value):
        return "–"
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-.00"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def share(value: float, *, is_floored: bool = False) -> str:
    """ "25%" for .25; "100%" and "0%" only for all and none, else ">99%" and "<1%".

    Args:
        value: 0 to 1.
        is_floored: never more than it is, as a coverage that has to reach a bar.
    """
    if not math.isfinite(value):
        return "–"
    percent = math.floor(round(100 * value, 9)) if is_floored else round(100 * value)
    if percent >= 100 and value < 1:
        return ">99%"
    return "<1%" if percent <= 0 < value else f"{percent}%"


def part_title(task: str, dataset: str, aspect: str, scale: Sequence[float] | None = None) -> str:
    """What a part of the data is called: one task, data set and aspect; with the scale, where there are several."""
    words = " / ".join(map(_plain, (task, dataset or "records", aspect)))
    return f"{words} ({scale[0]:g} to {scale[1]:g})" if scale else words


def several_scales(keys: Iterable[Sequence[Any]]) -> set[tuple[str, str, str]]:
    """Of parts (task, data set, aspect, low and high end of the scale) those that have more than one scale."""
    return {part for part, num in Counter(tuple(key[:3]) for key in keys).items() if num > 1}


def one_line(name: str) -> str:
    """A name for a table or sentence: white space is one space, control characters are escaped, the middle is cut."""
    text, half = _plain(name), MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]}…{text[1 - half :]}"


def _plain(name: str) -> str:
    return visible(" ".join(name.split()))


def with_interval(one: Estimate | Mapping[str, Any] | None) -> str:
    """ ".48 [.31, .62]" for an estimate or its JSON (null: undefined); a dash for None.

    Two digits after the point, and more where the interval's half width has no significant one, or an end would be 0.
    """
    if one is None:
        return "–"
    known: Mapping[str, Any] = one.to_json() if isinstance(one, Estimate) else one
    value, low, high = (math.nan if known[end] is None else known[end] for end in ("value", "low", "high"))
    digits = _digits(value, low, high)
    return f"{shown(value, digits)} [{shown(low, digits)}, {shown(high, digits)}]"


def _digits(value: float, low: float, high: float) -> int:
    """After the point: a significant one of the half width, or of the value where there is no width."""
    half_width = (high - low) / 2
    size = half_width if half_width > NOISE else abs(value)
    if not math.isfinite(size) or size <= NOISE:
        return DIGITS
    digits = max(DIGITS, -math.floor(math.log10(size * (1 + NOISE))))
    # An end that rounds to 0 would hide on which side of 0 the interval lies.
    while digits < MOST_DIGITS and any(abs(end) > NOISE and round(end, digits) == 0 for end in (low, high)):
        digits += 1
    return min(MOST_DIGITS, digits)
