"""The column `preferred`: which texts of a group people prefer, as scores of 1, 0.5 (a tie) or 0 on a scale of 0 to 1.

A row says of its own text true, false or tie; in wide form the row names the preferred system. It reads no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from judging.columns import folded, name_as_text
from judging.readers import RowError

PREFERRED = "preferred"
SCALE = (0.0, 1.0)
TIES = frozenset({"tie", "tied", "draw", "both", "neither", "bothbad", "tiebothbad", "bothgood"})
POINTS = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0, "0.5": 0.5}


def is_tie(said: str) -> bool:
    """Whether the words say that people prefer no text: `tie`, `tie (bothbad)`, `neither`."""
    return folded(said) in TIES


def with_preference(values: Mapping[str, Any], aspect: str | None) -> Mapping[str, Any]:
    """The row with the preference as a score.

    Args:
        values: the row, with the record's names.
        aspect: what the preference is about, the task's first aspect; None: the task is unknown.

    Raises:
        RowError: the preference cannot be read, or the aspect has a score too.
    """
    if PREFERRED not in values:
        return values
    points, scores, scales = _points(values[PREFERRED]), values.get("scores") or {}, values.get("scales") or {}
    if aspect is None:
        raise _refused("needs a built-in task, or a task file in data.task, whose first aspect it rates", "conflict")
    if not isinstance(scores, Mapping) or not isinstance(scales, Mapping):
        return {name: value for name, value in values.items() if name != PREFERRED}  # refused by their own names
    if aspect in scores or aspect in (values.get("ratings") or {}):
        raise _refused(f"{aspect} has a score too. Remove one of the two (data.columns)", "conflict")
    rest = {name: value for name, value in values.items() if name != PREFERRED}
    return {**rest, "scores": {**scores, aspect: points}, "scales": {**scales, aspect: SCALE}}


def _points(value: Any) -> float:
    said = str(name_as_text(value))
    if is_tie(said):
        return 0.5
    if said.casefold() not in POINTS:
        raise _refused(
            f"must be true, false or tie, not {said[:40]!r}; in wide form (data.systems) it may name a system",
            "invalid_value",
        )
    return POINTS[said.casefold()]


def _refused(what: str, code: str) -> RowError:
    return RowError(f"{PREFERRED}: {what}.", code=code, key=PREFERRED)
