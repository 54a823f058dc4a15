"""What the columns of unknown rows are taken for, and the mapping `data.columns` that says so to the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from judging.column_profile import Profile
from judging.columns import renamed
from judging.readers import RowError

IGNORED = ""


@dataclass
class Guess:
    """What the columns are taken for: the file's name -> the record's name (IGNORED: none), and why."""

    task: str
    task_reason: str
    has_task: bool  # in the rows
    fields: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    systems: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # columns that may be the candidate, where none was found
    unread: dict[str, str] = field(default_factory=dict)  # columns named like scores that are none -> the field meant
    halves: tuple[str, ...] = ()  # columns that make up the source together

    def take(self, name: str, ours: str, why: str) -> None:
        """Take a column for a field of the record."""
        self.fields[name] = ours
        self.reasons[name] = why

    def free(self, columns: Mapping[str, Profile]) -> list[Profile]:
        """The columns that are not taken yet."""
        return [profile for name, profile in columns.items() if name not in self.fields]

    def column_of(self, ours: str) -> str | None:
        """The file's column that is taken for a field of the record."""
        return next((name for name, field in self.fields.items() if field == ours), None)

    @property
    def columns(self) -> dict[str, str]:
        """The mapping `data.columns`: what the reader does not see by itself."""
        mapped = {name: ours for name, ours in self.fields.items() if ours not in (name, IGNORED)}
        return mapped | _kept(self, mapped)

    @property
    def has_group(self) -> bool:
        return self.column_of("group") is not None


def _kept(found: Guess, mapped: Mapping[str, str]) -> dict[str, str]:
    """Further texts that the reader would refuse as misspelt names of a field: each is mapped to itself."""
    kept: dict[str, str] = {}
    own = tuple(f"{system}." for system in found.systems)
    names = [name for name, ours in found.fields.items() if ours != IGNORED and not f"{ours}.".startswith(own)]
    row = {name: found.task if found.fields[name] == "task" else "1" for name in names}
    for _ in names:
        try:
            renamed(row, {**mapped, **kept}, found.task)
            break
        except RowError as error:
            if found.fields.get(error.key) != error.key or error.key in kept:
                break
            kept[error.key] = error.key
    return kept
