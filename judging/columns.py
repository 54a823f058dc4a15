"""Maps a file's columns to the record's fields by name and converts any value to text.

Names are trimmed and renamed; a name that nearly matches a known one is an error. Conversion to text: strings as they
are; numbers and decimals as they are written; true and false; dates and times in ISO 8601; UTF-8 bytes; a list of such
values one per line; objects and nested lists as JSON. Null and NaN (pandas' missing value) are missing values.
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

INNER = ("scores", "scales", "ratings")  # a dotted column such as `scores.overall` is a key of one of these
KNOWN = ("id", "task", "group", "system", "dataset", "source", "candidate", "preferred", "scale", *INNER)
FIELDS = "fields"  # an object of further texts, as in the HTTP interface
# Common names of label columns; read as a text they would be lost silently.
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
# Suffixes of `score_` that describe a label and are not one.
ABOUT_A_SCORE = frozenset(
    (
        *("std", "var", "sd", "se", "min", "max", "mode", "type", "kind", "count", "n", "id", "low", "high"),
        *("reason", "explanation", "comment"),
    )
)
PLACES = re.compile(r"[.:/\[(]")
PANDAS_INDEX = re.compile(r"Unnamed: \d+|__index_level_\d+__|")
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"
MAX_WHOLE = 10**400  # above all floats; a decimal may have a billion digits
NEAR = 0.8  # difflib's ratio: one letter of five added, two of six swapped
MIN_NEAR = 4  # letters: almost any name is near a shorter one


def renamed(raw: Mapping[str, Any], columns: Mapping[str, str], task: str | None) -> dict[str, Any]:
    """The columns by the record's names, without missing values; `scores.overall` joins the object `scores`.

    Args:
        raw: a row of the file.
        columns: names in the file -> names of the record (`data.columns`).
        task: the task of rows without one; its fields are known names too.

    Raises:
        RowError: for an unknown name that nearly matches a known one, and for two columns of one name.
    """
    row: dict[str, Any] = {}
    check_names(tuple(map(str, raw)))
    held = {trimmed(name): value for name, value in raw.items() if not is_missing(value)}
    if isinstance(held.get(FIELDS), Mapping) and FIELDS not in columns:
        held = _unfolded(held)
    to = {trimmed(theirs): ours.strip() for theirs, ours in columns.items()}
    own_task = next((str(value) for name, value in held.items() if to.get(name, name) == "task"), "")
    names = _ours(tuple(held), tuple(to.items()), own_task, task or "")
    if "candidate" not in names and any(to.get(trimmed(name), trimmed(name)) == "candidate" for name in raw):
        row["candidate"] = ""  # a missing answer
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
            value = {str(key).strip(): _without_missing(item) for key, item in value.items() if not is_missing(item)}
            known = row.get(place, {})
            if not isinstance(known, dict) or known.keys() & value.keys():
                raise _twice(ours)
            row[place] = known | value
        elif place in row:
            raise _twice(ours)
        else:
            row[place] = value
    return row


def _twice(ours: str) -> RowError:
    return RowError(
        f"two columns map to {ours!r}. Rename one of them in data.columns, for example {{{ours}: my_{ours}}}.",
        code="duplicate_key",
        key=ours,
    )


@lru_cache(maxsize=4096)
def check_names(names: tuple[str, ...]) -> None:
    """Raises RowError where two names of a row are the same without surrounding whitespace."""
    short = [trimmed(name) for name in names]
    if twice := [name for name in short if short.count(name) > 1]:
        raise RowError(
            f"two columns are named {twice[0]!r}, apart from whitespace. Rename one of them.",
            code="duplicate_key",
            key=twice[0],
        )


def trimmed(name: Any) -> str:
    """A column's name without surrounding whitespace and zero-width characters."""
    return str(name).strip(f" \t\r\n\v\f{INVISIBLE}").strip()


def _unfolded(held: dict[str, Any]) -> dict[str, Any]:
    inner = {trimmed(name): value for name, value in held[FIELDS].items() if not is_missing(value)}
    if twice := sorted(inner.keys() & (held.keys() | set(KNOWN))):
        message = f"two columns map to {twice[0]!r}, one of them in `{FIELDS}`. Remove or rename one of them."
        raise RowError(message, code="duplicate_key", key=twice[0])
    return {**{name: value for name, value in held.items() if name != FIELDS}, **inner}


def _without_missing(value: Any) -> Any:
    """NaN in a list of ratings is a missing rating."""
    return [None if is_missing(item) else item for item in value] if isinstance(value, list | tuple) else value


def is_missing(value: Any) -> bool:
    """Whether the value is null, or NaN as pandas writes missing values."""
    if isinstance(value, decimal.Decimal):
        return value.is_nan()  # a signalling NaN cannot be compared
    return value is None or (isinstance(value, float) and value != value)


def number_as_text(value: Any) -> Any:
    """A number as text, 7.0 as "7", as pandas writes 7 beside missing values; others unchanged."""
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal | uuid.UUID):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return value
    try:
        if isinstance(value, float | decimal.Decimal) and -MAX_WHOLE < value < MAX_WHOLE and value == int(value):
            value = int(value)
        return str(value)
    except ValueError:  # more digits than Python converts
        return value


def name_as_text(value: Any) -> Any:
    """The same for what names something: a text is stripped too."""
    return value.strip() if isinstance(value, str) else number_as_text(value)


@lru_cache(maxsize=4096)
def _ours(names: tuple[str, ...], columns: tuple[tuple[str, str], ...], own_task: str, task: str) -> tuple[str, ...]:
    """The record's names of a row's columns. Raises RowError for one that nearly matches a known name."""
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
                raise RowError(
                    f"data.columns maps {name!r} to unknown {ours!r}. Did you mean {near!r}?",
                    code="unknown_key",
                    key="data.columns",
                )
            raise RowError(
                f"Unknown column {name!r}. Did you mean {near!r}? Rename it or map it in data.columns "
                f"({{{name}: {near}}}; {{{name}: {name}}} keeps it as a text).",
                code="unknown_key",
                key=name,
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


def first_aspect(task: Any, configured: str | None) -> str | None:
    """The aspect that a task names first; None where the task is unknown here."""
    if not isinstance(task, str) or (is_task_file(task) and task != configured):
        return None
    try:
        return next(iter(load_task(task).aspects))
    except InputError:
        return None


def aspects_of(task: str | None) -> frozenset[str]:
    """The aspects of a task; none where it is unknown."""
    return _known_of(task or "")[1]


def task_fields(task: str, configured: str | None) -> frozenset[str] | None:
    """The further fields that a prompt of the task can show; None where the task is unknown here."""
    if is_task_file(task) and task != configured:
        return None
    known, aspects = _known_of(task)
    return known - set(KNOWN) if aspects else None


def _near(name: str, known: frozenset[str], aspects: frozenset[str], present: set[str]) -> str | None:
    """The known name that `name` nearly matches and the row lacks (`present`); None where it matches none or is one."""
    outer, dot, inner = name.partition(".")
    if name in known or (dot and outer in INNER and inner):
        return None
    plain = {folded(known_name): known_name for known_name in sorted(known)}
    head, *rest = PLACES.split(name, maxsplit=1)
    if rest and (near := _nearest(head, {**plain, **dict.fromkeys(LABELS, "scores")}, set())) in INNER:
        return f"{near}.{rest[0].strip(')] ') or 'ASPECT'}"
    if of_aspect := OF_AN_ASPECT.fullmatch(name):
        kind, what = of_aspect.groups()
        return None if folded(what) in ABOUT_A_SCORE else f"{kind.lower()}s.{what}"
    if "scores" not in present and "ratings" not in present:
        if folded(name) in LABELS:
            return "scores.ASPECT"
        for aspect in sorted(aspects):
            if folded(name) in {folded(f"{front}{aspect}{end}") for front in FRONTS for end in ENDS}:
                return f"scores.{aspect}"
    return _nearest(name, plain, present)


FRONTS = ("", "human_", "mean_", "avg_", "gold_", "expert_")
ENDS = ("", "_score", "_scores", "_rating", "_ratings")


def _nearest(name: str, plain: Mapping[str, str], present: set[str]) -> str | None:
    free = {short: known for short, known in plain.items() if known not in present}
    short = folded(name)
    if short in free:
        return free[short]
    if len(short) < MIN_NEAR:
        return None
    near = difflib.get_close_matches(short, free, 1, NEAR)
    return free[near[0]] if near else None


def folded(name: str) -> str:
    """A name without case and without anything but letters and digits."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _from_json(name: str, value: Any) -> Any:
    """The list in a CSV cell such as `[1, 5]`; anything else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{name}: invalid JSON: {error}", code="invalid_json", key=name) from error


def as_text(name: str, value: Any) -> str:
    """A field's value as the judge reads it. Raises RowError where it cannot be converted to text."""
    if isinstance(value, list | tuple) and not any(isinstance(one, list | tuple | dict) for one in value):
        return "\n".join(_plain_text(name, item) for item in value if not is_missing(item))
    if isinstance(value, list | tuple | dict):
        try:
            return json.dumps(_for_json(name, value), ensure_ascii=False)
        except (TypeError, RecursionError, ValueError) as error:
            raise RowError(f"{name}: cannot be converted to text: {error}", code="invalid_value", key=name) from error
    return _plain_text(name, value)


def _for_json(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _for_json(name, item) for key, item in value.items() if not is_missing(item)}
    if isinstance(value, list | tuple):
        return [_for_json(name, item) for item in value if not is_missing(item)]
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _plain_text(name, value)


def _plain_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        raise RowError(f"{name}: must be a finite number, not {value}", code="invalid_value", key=name)
    if isinstance(value, int | float | decimal.Decimal | dt.timedelta | uuid.UUID):
        try:
            return str(value)
        except ValueError as error:
            raise RowError(f"{name}: the number has too many digits", code="invalid_value", key=name) from error
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RowError(f"{name}: bytes that are not UTF-8", code="unreadable_file", key=name) from error
    raise RowError(f"{name}: must be text, not {type(value).__name__}", code="invalid_value", key=name)
