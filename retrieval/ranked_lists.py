"""The output of `feedback` as lists to rank: a text, an aspect, and the utility of each scored example."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cluster.parts import sound_rows
from judging.errors import InputError

UTILITY_DIGITS = 4


class QueryList(NamedTuple):
    """One text, one aspect, and the utility (0 to 1) of each scored example."""

    task: str
    aspect: str
    query_id: str
    example_ids: list[str]
    utilities: list[float]


def query_lists(folder: Path) -> list[QueryList]:
    """The lists that can be ranked: texts with at least two examples of different utility.

    Utilities are rounded: smaller differences are noise of the engine. Raises InputError where no list is left.
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
        raise InputError(
            f"{folder}: no text has two examples of different utility, so there is nothing to rank. Add examples per "
            "text under `feedback`, or use another judge.",
            code="no_scores",
        )
    return lists
