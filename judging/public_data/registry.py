"""The registry of public data sets: where each is published, under which licence, and how it is converted."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from judging import strictyaml
from judging.errors import InputError

FILE = Path(__file__).with_name("registry.yaml")
INSTRUCTIONS = "instructions"  # the task of an instruction set, which has no ratings


class Entry(BaseModel):
    """A public data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    task: str = Field(description="the task of its rows, several with commas, or `instructions`")
    rows: int | None = Field(description="number of rows after the conversion; null: unknown")
    licence: str = Field(description="as the publisher states it")
    homepage: str
    citation: str
    at: str = Field(description="address of the published files; `{revision}` is replaced")
    revision: str = Field(description="commit, tag or branch")
    files: tuple[str, ...] = Field(min_length=1, description="below `at`; on the hub a name may have `*`")
    max_mb: int = Field(500, gt=0, description="largest size of all published files together")
    checksums: dict[str, str] = Field(
        default_factory=dict, description="sha256 by file; of others the first fetch records it"
    )
    parts: dict[str, str] = Field(
        default_factory=dict, description="name of a part -> `dataset` of its rows in the same file"
    )
    converter: str = Field(description="a key of `converters.CONVERTERS`")
    is_checked: bool = Field(True, description="false: rows are kept as they are, for `data.columns` to map")
    verified: bool = Field(description="the published form was read by us")
    note: str


class Named(BaseModel):
    """A data set or a part of one. `part`: the value of `dataset` in its rows; None: all rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    entry: Entry
    part: str | None = None


@cache
def registry() -> dict[str, Entry]:
    """The data sets by name, in the order of the file."""
    return {name: Entry(**entry) for name, entry in strictyaml.load(FILE.read_text(encoding="utf-8")).items()}


def named(name: str) -> Named:
    """The data set of that name, or the one that has a part of that name. Raises InputError for an unknown name."""
    known = registry()
    if name in known:
        return Named(name=name, entry=known[name])
    for whole, entry in known.items():
        if name in entry.parts:
            return Named(name=whole, entry=entry, part=entry.parts[name])
    names = [*known, *(part for entry in known.values() for part in entry.parts)]
    near = difflib.get_close_matches(name, names, 1, 0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"Unknown data set {name!r}.{hint} `inverdict data list` shows all names.", code="unknown_dataset")
