"""What `feedback` found, as lists that can be ranked: a text, an aspect, and what each tried example was worth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cluster.parts import sound_rows
from judging.errors import InputError

UTILITY_DIGITS = 4


class QueryList(NamedTuple):
    """One text, one aspect, and what each tried example was worth; `utilities` 0 to 1."""

    task: str
    aspect: str
    query_id: str
    example_ids: list[str]
    utilities: list[float]


def query_lists(folder: Path) -> list[QueryList]:
    """What can be ranked: texts with two examples or more of different utility. Raises InputError where nothing is.

    Utilities are rounded: what differs less is the engine's noise.
    """
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in sound_rows(folder, ["query_id", "example_id", "task", "aspect", "utility"]):
        if row["utility"] is not None:
            key = (row["task"], row["aspect"], row["query_id"])
            found.setdefault(key, {})[row["example_id"]] = round(row["utility"], UTILITY_DIGITS)
    lists = [
        QueryList(*key, sorted(known), [known[id] for id in sorted(known)])
        for key, known in sorted(found.items())
        if len(set(known.values())) > 1
    ]
    if not lists:
        raise InputError(f"{folder}: no text has two examples that the judge scored differently: nothing can be ranked")
    return lists
