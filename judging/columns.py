"""A file's columns -> ours, by name: trimmed, renamed, a near miss refused; and any value as text by one rule.

What reaches a text: text as it is; numbers and decimals as they are written; true and false; dates and times in ISO
8601; bytes that are UTF-8; a list of such values one a line; objects and lists of lists as JSON. Null and NaN (pandas'
missing value) are nothing. Nothing is dropped.
"""

from __future__ import annotations

import datetime as dt
import decimal
import difflib
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from judging.errors import InputError
from judging.rowfiles import RowError
from judging.tasks import is_task_file, load_task

INNER = ("scores", "scales", "ratings")  # a dotted column such as `scores.overall` stands for a key of one of these
KNOWN = ("id", "task", "group", "system", "dataset", "source", "candidate", "scale", *INNER)
# What people call their labels elsewhere; as a text they would be lost without a word.
LABELS = frozenset({"label", "labels", "human", "humanscore", "humanscores", "humanrating", "humanratings", "gold"})
LABELS |= {"goldscore", "goldlabel", "annotation", "annotations", "ground_truth_score"}
OF_AN_ASPECT = re.compile(r"(score|rating|scale)s?[._: -]+(.+)", re.IGNORECASE)
NEAR = 0.8  # difflib's ratio: a letter of five more, two of six turned


def renamed(raw: Mapping[str, Any], columns: Mapping[str, str], task: str | None) -> dict[str, Any]:
    """Columns by our names, without those that hold nothing; `scores.overall` joins the object `scores`.

    `task`: of rows that name none; its fields are known names too. Raises RowError.
    """
    row: dict[str, Any] = {}
    held = {name: value for name, value in raw.items() if not is_missing(value)}
    names = _ours(tuple(held), tuple(columns.items()), str(raw.get("task") or task or ""))
    if "candidate" not in names and any(columns.get(name, name).strip() == "candidate" for name in raw):
        row["candidate"] = ""  # an answer that is not there
    for value, ours in zip(held.values(), names, strict=True):
        outer, dot, inner = ours.partition(".")
        if dot and outer in INNER:
            value = {inner: value if outer == "scores" else _from_json(ours, value)}
        elif ours == "scale":
            value = _from_json(ours, value)
        place = outer if outer in INNER else ours
        if place in INNER and isinstance(value, dict):
            value = {key: one for key, one in value.items() if one is not None}
            known = row.get(place, {})
            if not isinstance(known, dict) or known.keys() & value.keys():
                raise RowError(f"two columns give {ours!r}")
            row[place] = known | value
        elif place in row:
            raise RowError(f"two columns give {ours!r}")
        else:
            row[place] = value
    return row


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | decimal.Decimal) and value != value)


@lru_cache(maxsize=4096)
def _ours(names: tuple[str, ...], columns: tuple[tuple[str, str], ...], task: str) -> tuple[str, ...]:
    """Our names for a row's columns. Raises RowError for one that is nearly a known one."""
    to = {theirs.strip(): ours for theirs, ours in columns}
    known = {*KNOWN, *_fields_of(task)}
    present = {to.get(name.strip(), name.strip()).partition(".")[0] for name in names}
    found = []
    for name in map(str.strip, names):
        if name not in to and (near := _near(name, known, present)):
            raise RowError(
                f"the column {name!r} is unknown: did you mean {near!r}? Rename it, or say so in data.columns "
                f"({{{name}: {near}}}; {{{name}: {name}}} keeps it as a text)"
            )
        found.append(to.get(name, name))
    return tuple(found)


def _fields_of(task: str) -> tuple[str, ...]:
    if not task or is_task_file(task):
        # A task file is read only where the configuration names it; the reader's caller says so.
        return ()
    try:
        return tuple(field.name for field in load_task(task).fields)
    except InputError:
        return ()


def _near(name: str, known: set[str], present: set[str]) -> str | None:
    """The known name that `name` is nearly, or None where it is one, or like none that the row lacks (`present`)."""
    outer, dot, inner = name.partition(".")
    if name in known or (dot and outer in INNER and inner):
        return None
    if of_aspect := OF_AN_ASPECT.fullmatch(name):
        return f"{of_aspect.group(1).lower()}s.{of_aspect.group(2)}"
    plain = {_plain(one): one for one in known}
    if _plain(name) in ("score", "rating", *LABELS):
        return "scores.ASPECT"
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = difflib.get_close_matches(_plain(name), [one for one in plain if plain[one] not in present], 1, NEAR)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _from_json(name: str, value: Any) -> Any:
    """The list in a CSV cell such as `[1, 5]`; anything else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{name}: broken JSON: {error}") from error


def as_text(name: str, value: Any) -> str:
    """A field's value as the judge reads it. Raises RowError where it is no text."""
    if isinstance(value, list | tuple) and not any(isinstance(one, list | tuple | dict) for one in value):
        return "\n".join(_plain_text(name, one) for one in value if not is_missing(one))
    if isinstance(value, list | tuple | dict):
        try:
            return json.dumps(value, ensure_ascii=False, default=lambda one: _plain_text(name, one))
        except (TypeError, RecursionError, ValueError) as error:
            raise RowError(f"{name}: it cannot be written as text: {error}") from error
    return _plain_text(name, value)


def _plain_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        raise RowError(f"{name}: {value} is no number that a text can hold")
    if isinstance(value, int | float | decimal.Decimal):
        return str(value)
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RowError(f"{name}: bytes that are not UTF-8") from error
    raise RowError(f"{name}: a text is needed, not {type(value).__name__}")
