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
import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from judging.errors import InputError
from judging.readers import RowError
from judging.tasks import is_task_file, load_task

INNER = ("scores", "scales", "ratings")  # a dotted column such as `scores.overall` stands for a key of one of these
KNOWN = ("id", "task", "group", "system", "dataset", "source", "candidate", "scale", *INNER)
FIELDS = "fields"  # an object of further texts, as our HTTP interface takes them
# What people call their labels elsewhere; as a text they would be lost without a word.
LABELS = frozenset(
    {
        *("score", "scores", "rating", "ratings", "label", "labels", "human", "gold", "annotation", "annotations"),
        *("grade", "grades", "stars", "points", "mos", "goldlabel"),
        *(
            f"{whose}{what}"
            for whose in ("human", "gold", "expert", "annotator", "mean", "avg", "average", "total", "overall", "final")
            for what in ("score", "scores", "rating", "ratings")
        ),
    }
)
OF_AN_ASPECT = re.compile(r"(score|rating)s?[._: /-]+(.+)", re.IGNORECASE)
# Behind `score_`: what is said about a label, not one.
ABOUT_A_SCORE = frozenset(
    (
        *("std", "var", "sd", "se", "min", "max", "mode", "type", "kind", "count", "n", "id", "low", "high"),
        *("reason", "explanation", "comment"),
    )
)
PLACES = re.compile(r"[.:/\[(]")
PANDAS_INDEX = re.compile(r"Unnamed: \d+|__index_level_\d+__|")
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"
NEAR = 0.8  # difflib's ratio: a letter of five more, two of six turned
MIN_NEAR = 4  # letters: of shorter names any other is near


def renamed(raw: Mapping[str, Any], columns: Mapping[str, str], task: str | None) -> dict[str, Any]:
    """Columns by our names, without those that hold nothing; `scores.overall` joins the object `scores`.

    `task`: of rows that name none; its fields are known names too. Raises RowError.
    """
    row: dict[str, Any] = {}
    held = {trimmed(name): value for name, value in raw.items() if not is_missing(value)}
    if isinstance(held.get(FIELDS), Mapping) and FIELDS not in columns:
        held = _unfolded(held)
    to = {trimmed(theirs): ours.strip() for theirs, ours in columns.items()}
    own_task = next((str(value) for name, value in held.items() if to.get(name, name) == "task"), "")
    names = _ours(tuple(held), tuple(to.items()), own_task, task or "")
    if "candidate" not in names and any(to.get(trimmed(name), trimmed(name)) == "candidate" for name in raw):
        row["candidate"] = ""  # an answer that is not there
    for value, ours in zip(held.values(), names, strict=True):
        if PANDAS_INDEX.fullmatch(ours):
            continue
        outer, dot, inner = (part.strip() for part in ours.partition("."))
        if dot and outer in INNER:
            value = {inner: value if outer == "scores" else _from_json(ours, value)}
        elif ours == "scale":
            value = _from_json(ours, value)
        place = outer if outer in INNER else ours
        if place in INNER and isinstance(value, dict):
            value = {str(key).strip(): _without_missing(one) for key, one in value.items() if not is_missing(one)}
            known = row.get(place, {})
            if not isinstance(known, dict) or known.keys() & value.keys():
                raise RowError(_twice(ours))
            row[place] = known | value
        elif place in row:
            raise RowError(_twice(ours))
        else:
            row[place] = value
    return row


def _twice(ours: str) -> str:
    return f"two columns give {ours!r}: call one of them otherwise in data.columns, as in {{{ours}: my_{ours}}}"


def trimmed(name: Any) -> str:
    """A column's name without white space and signs of no width around it."""
    return str(name).strip(f" \t\r\n\v\f{INVISIBLE}").strip()


def _unfolded(held: dict[str, Any]) -> dict[str, Any]:
    inner = {trimmed(name): value for name, value in held[FIELDS].items() if not is_missing(value)}
    if twice := sorted(inner.keys() & (held.keys() | set(KNOWN))):
        raise RowError(f"two columns give {twice[0]!r}: one of them stands in `{FIELDS}`")
    return {**{name: value for name, value in held.items() if name != FIELDS}, **inner}


def _without_missing(value: Any) -> Any:
    """NaN in a list of ratings is a rating that is not there."""
    return [None if is_missing(one) else one for one in value] if isinstance(value, list | tuple) else value


def is_missing(value: Any) -> bool:
    """Null, and NaN as pandas writes what is missing."""
    return value is None or (isinstance(value, float | decimal.Decimal) and value != value)


@lru_cache(maxsize=4096)
def _ours(names: tuple[str, ...], columns: tuple[tuple[str, str], ...], own_task: str, task: str) -> tuple[str, ...]:
    """Our names for a row's columns. Raises RowError for one that is nearly a known one."""
    to = dict(columns)
    # A task file is read only where the configuration names it.
    of = own_task if own_task and (own_task == task or not is_task_file(own_task)) else task if not own_task else ""
    known, aspects = _known_of(of)
    present = {to.get(name, name).partition(".")[0] for name in names}
    found = []
    for name in names:
        ours = to.get(name, name)
        if (name not in to or ours != name) and (near := _near(ours, known, aspects, present)):
            if name in to:
                raise RowError(f"data.columns: {name!r} becomes {ours!r}, which is unknown: did you mean {near!r}?")
            raise RowError(
                f"the column {name!r} is unknown: did you mean {near!r}? Rename it, or say so in data.columns "
                f"({{{name}: {near}}}; {{{name}: {name}}} keeps it as a text)"
            )
        found.append(ours)
    return tuple(found)


def _known_of(task: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a row of the task may have, and its aspects."""
    try:
        spec = load_task(task) if task else None
    except InputError:
        spec = None
    fields = {field.name for field in spec.fields} if spec else set()
    return frozenset({*KNOWN, *fields}), frozenset(spec.aspects if spec else ())


def task_fields(task: str, configured: str | None) -> frozenset[str] | None:
    """The further fields that a prompt of the task can show; None where the task is not known here."""
    if is_task_file(task) and task != configured:
        return None
    known, aspects = _known_of(task)
    return known - set(KNOWN) if aspects else None


def _near(name: str, known: frozenset[str], aspects: frozenset[str], present: set[str]) -> str | None:
    """The known name that `name` is nearly, or None where it is one, or like none that the row lacks (`present`)."""
    outer, dot, inner = name.partition(".")
    if name in known or (dot and outer in INNER and inner):
        return None
    plain = {_plain(one): one for one in sorted(known)}
    head, *rest = PLACES.split(name, maxsplit=1)
    if rest and (near := _nearest(head, {**plain, **dict.fromkeys(LABELS, "scores")}, set())) in INNER:
        return f"{near}.{rest[0].strip(')] ') or 'ASPECT'}"
    if of_aspect := OF_AN_ASPECT.fullmatch(name):
        kind, what = of_aspect.groups()
        return None if _plain(what) in ABOUT_A_SCORE else f"{kind.lower()}s.{what}"
    if "scores" not in present and "ratings" not in present:
        if _plain(name) in LABELS:
            return "scores.ASPECT"
        for aspect in sorted(aspects):
            if _plain(name) in {_plain(f"{front}{aspect}{end}") for front in FRONTS for end in ENDS}:
                return f"scores.{aspect}"
    return _nearest(name, plain, present)


FRONTS = ("", "human_", "mean_", "avg_", "gold_", "expert_")
ENDS = ("", "_score", "_scores", "_rating", "_ratings")


def _nearest(name: str, plain: Mapping[str, str], present: set[str]) -> str | None:
    free = {folded: one for folded, one in plain.items() if one not in present}
    if _plain(name) in free:
        return free[_plain(name)]
    if len(_plain(name)) < MIN_NEAR:
        return None
    near = difflib.get_close_matches(_plain(name), free, 1, NEAR)
    return free[near[0]] if near else None


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
            return json.dumps(_for_json(name, value), ensure_ascii=False)
        except (TypeError, RecursionError, ValueError) as error:
            raise RowError(f"{name}: it cannot be written as text: {error}") from error
    return _plain_text(name, value)


def _for_json(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _for_json(name, one) for key, one in value.items() if not is_missing(one)}
    if isinstance(value, list | tuple):
        return [_for_json(name, one) for one in value if not is_missing(one)]
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _plain_text(name, value)


def _plain_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        raise RowError(f"{name}: {value} is no number that a text can hold")
    if isinstance(value, int | float | decimal.Decimal | dt.timedelta | uuid.UUID):
        return str(value)
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RowError(f"{name}: bytes that are not UTF-8") from error
    raise RowError(f"{name}: a text is needed, not {type(value).__name__}")
