"""Wide form: a row with one column per system -> one row per system. It reads no values except which are missing.

A column named like a system of `data.systems` holds its text; a column `SYSTEM.NAME` is the column NAME of that
system's row alone (`a.scores.overall`, `a.system`); every other column is shared by all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from judging.columns import INNER, LABELS, aspects_of, check_names, folded, is_missing, name_as_text, trimmed
from judging.preferences import PREFERRED, is_tie
from judging.readers import RowError

# Columns about one text, which a row with several texts cannot have.
OF_ONE_TEXT = ("candidate", "system", *INNER)
SEPARATORS = " _-.:/"


class _Column(NamedTuple):
    """A column of a wide row: its system (None: shared by all), and its name in that system's row."""

    ours: str
    system: str | None
    name: str


def split_systems(
    raw: Mapping[str, Any], columns: Mapping[str, str], systems: Sequence[str], task: str | None
) -> list[dict[str, Any]]:
    """The rows of the systems that have a text in this row, with the shared columns under the file's names.

    The row's `id` is the group where there is none; followed by the system's name, it is the id.

    Args:
        raw: a row of the file.
        columns: names in the file -> names of the record (`data.columns`), or of a system's column.
        systems: the systems of `data.systems`.
        task: the task of rows without one; its aspects are known names of scores.

    Raises:
        RowError: no system has a text, a column belongs to no system, or two columns are the same one of a system.
    """
    shared: dict[str, tuple[str, Any]] = {}  # the file's name -> ours, value
    own: dict[str, dict[str, Any]] = {system: {} for system in systems}
    plan = _columns(tuple(map(str, raw)), tuple(columns.items()), tuple(systems), task)
    for (name, value), column in zip(raw.items(), plan, strict=True):
        if is_missing(value):
            continue
        if column.system is None:
            shared[name] = (column.ours, value)
        else:
            _put(own[column.system], column.ours, column.name, value)
    present = [system for system in systems if "candidate" in own[system]]
    if not present:
        raise RowError(
            f"no system of data.systems has a text here: {', '.join(systems)} are missing or empty. Remove the row, or "
            "allow for it with data.max_rejected_share.",
            code="missing_key",
            key="data.systems",
        )
    names = {system: str(name_as_text(own[system].get("system", system))) for system in present}
    said = {name: value for name, (ours, value) in shared.items() if ours == PREFERRED}
    return [
        _row(shared, own[system], system) | {name: _is_preferred(value, system, names) for name, value in said.items()}
        for system in present
    ]


@lru_cache(maxsize=4096)
def _columns(
    names: tuple[str, ...], columns: tuple[tuple[str, str], ...], systems: tuple[str, ...], task: str | None
) -> tuple[_Column, ...]:
    """The columns in the order of `names`. Raises RowError for one that can belong to one system alone and does not."""
    check_names(names)
    to = {trimmed(theirs): ours.strip() for theirs, ours in columns}
    found = []
    for name in map(trimmed, names):
        ours = to.get(name, name)
        system = owner_of(ours, systems)
        if system is None and ours.partition(".")[0] in OF_ONE_TEXT:
            raise RowError(
                f"`{ours}` belongs to one text, and data.systems makes several of this row. Map it to its system "
                f"(`{systems[0]}.{ours}`) or to another name in data.columns.",
                code="conflict",
                key=ours,
            )
        if system is None and (name not in to or ours != name) and (near := _near(ours, systems, aspects_of(task))):
            raise RowError(
                f"Unknown column {name!r}. Did you mean {near!r}? Rename it or map it in data.columns "
                f"({{{name}: {near}}}; {{{name}: {name}}} keeps it as a text).",
                code="unknown_key",
                key=name,
            )
        found.append(_Column(ours, system, ours.removeprefix(system or "").removeprefix(".") or "candidate"))
    if [column.ours for column in found if column.system is None].count("id") > 1:
        raise RowError("two columns map to 'id'. Rename one of them in data.columns.", code="duplicate_key", key="id")
    return tuple(found)


def owner_of(ours: str, systems: Sequence[str]) -> str | None:
    """The system that the column belongs to; of `gpt-3` and `gpt-3.5` the one with the longer name.

    A digit behind the dot belongs to a name, so that `gpt-3.5` is no column of `gpt-3`.
    """
    found = [
        one for one in systems if ours == one or (ours.startswith(f"{one}.") and not ours[len(one) + 1 :][:1].isdigit())
    ]
    return max(found, key=len, default=None)


def _near(name: str, systems: Sequence[str], aspects: frozenset[str]) -> str | None:
    """`a.scores.overall` for a name such as `a_score`, `score_a` or `a_overall`; None where it is nothing like it."""
    for system in sorted(systems, key=len, reverse=True):
        if rest := rest_of(name, system):
            what = re.sub("scores?|ratings?", "", rest).strip(SEPARATORS)
            if what in aspects:
                return f"{system}.scores.{what}"
            if folded(rest) in LABELS:
                return f"{system}.scores.ASPECT"
    return None


def rest_of(name: str, system: str) -> str | None:
    """`score` of `a_score`, `score_a` and, for a system `1` or `B`, `score1`; None where the name is not about it."""
    behind, front = name.removeprefix(system), name.removesuffix(system)
    if behind and behind != name and behind[0] in SEPARATORS:
        return behind.strip(SEPARATORS) or None
    is_glued = front[-1:].islower() and (system[:1].isdigit() or system[:1].isupper())
    if front and front != name and (front[-1] in SEPARATORS or is_glued):
        return front.strip(SEPARATORS) or None
    return None


def _is_preferred(value: Any, system: str, names: Mapping[str, str]) -> bool | str:
    """What the shared column `preferred` says of one system; of the system `a` the word `model_a` is a name too.

    `names`: the systems with a text in this row -> their names. Raises RowError where the value names none of them.
    """
    said = str(name_as_text(value))
    meant = [one for one, name in names.items() if said in (one, name)]
    meant = meant or [one for one in names if rest_of(said, one) is not None]
    if not meant and is_tie(said):
        return "tie"
    if len(meant) != 1:
        raise RowError(
            f"{PREFERRED}: {said[:40]!r} is no system of this row. It must be one of {', '.join(names)}, or tie.",
            code="invalid_value",
            key=PREFERRED,
        )
    return meant[0] == system


def _put(row: dict[str, Any], ours: str, name: str, value: Any) -> None:
    """Set a column of a system's row; an object in place of its text holds several columns."""
    if name == "candidate" and isinstance(value, Mapping):
        for inner, item in value.items():
            if isinstance(item, Mapping) and inner == "candidate":
                raise RowError(f"{ours}.candidate: must be a text", code="invalid_value", key=f"{ours}.candidate")
            if not is_missing(item):
                _put(row, f"{ours}.{inner}", str(inner), item)
    elif name in row:
        raise RowError(f"two columns map to {ours!r}. Rename one of them.", code="duplicate_key", key=ours)
    else:
        row[name] = value


def _row(shared: Mapping[str, tuple[str, Any]], own: Mapping[str, Any], system: str) -> dict[str, Any]:
    row = {name: value for name, (ours, value) in shared.items() if ours != "id" and not {name, ours} & own.keys()}
    whole = next((name_as_text(value) for ours, value in shared.values() if ours == "id"), None)
    if whole is not None:
        if "group" not in {ours for ours, _ in shared.values()}:
            row["group"] = whole
        row["id"] = f"{whole}/{system}" if whole and isinstance(whole, str) else whole
    return {**row, "system": system, **own}
