"""What the values of each column of unknown rows are: numbers, texts, chat messages, objects; how many, how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from judging.chat import last_role
from judging.columns import is_missing, trimmed

MAX_DISTINCT = 5000  # values that are remembered to tell whether they repeat
MAX_EXAMPLES = 50
FREE_TEXT_WORDS = 3.0


@dataclass
class Profile:
    """The values of one column that are not missing. `low` and `high`: of its numbers, those in objects included."""

    name: str
    num: int = 0
    num_numbers: int = 0
    num_texts: int = 0
    num_objects: int = 0
    num_chats: int = 0
    num_words: int = 0
    num_messages: int = 0
    longest: int = 0  # characters
    low: float = float("inf")
    high: float = float("-inf")
    last_role: str = ""  # of the first chat
    example: Any = None
    keys: dict[str, None] = field(default_factory=dict)  # of objects
    values: dict[str, None] = field(default_factory=dict)  # the first MAX_EXAMPLES different texts
    distinct: set[int] = field(default_factory=set)

    def add(self, value: Any) -> None:
        """Count a value."""
        if self.num == 0:
            self.example = value
        self.num += 1
        if (number := as_number(value)) is not None:
            self._add_number(number)
            self.num_numbers += 1
        elif isinstance(value, Mapping):
            self.num_objects += 1
            for key, item in value.items():
                self.keys[str(key)] = None
                if (number := as_number(item)) is not None:
                    self._add_number(number)
        elif role := last_role(value):
            self.num_chats += 1
            self.num_messages += len(value)
            self.last_role = self.last_role or role
        if isinstance(value, str):
            self.num_texts += 1
            self.num_words += len(value.split())
        whole = str(value)
        self.longest = max(self.longest, len(whole))
        if len(self.values) < MAX_EXAMPLES:
            self.values[whole[:200]] = None
        if len(self.distinct) < MAX_DISTINCT:
            self.distinct.add(hash(whole))

    def _add_number(self, number: float) -> None:
        self.low, self.high = min(self.low, number), max(self.high, number)

    @property
    def is_numeric(self) -> bool:
        return 0 < self.num == self.num_numbers

    @property
    def is_chat(self) -> bool:
        return 0 < self.num == self.num_chats

    @property
    def is_text(self) -> bool:
        """Texts, among them numbers written as texts, as in a CSV file."""
        return 0 < self.num == self.num_texts

    @property
    def is_free_text(self) -> bool:
        """Texts of several words, not names or labels."""
        return self.is_text and self.num_words / self.num >= FREE_TEXT_WORDS

    @property
    def is_unique(self) -> bool:
        """Whether no value repeats, as far as values were remembered."""
        return len(self.distinct) == min(self.num, MAX_DISTINCT)

    @property
    def is_varied(self) -> bool:
        """Whether most values differ, as texts do and labels do not."""
        return len(self.distinct) > min(self.num, MAX_DISTINCT) / 2

    @property
    def mean_messages(self) -> float:
        return self.num_messages / self.num_chats if self.num_chats else 0.0


def as_number(value: Any) -> float | None:
    """The finite number that the value is, or that a text in a CSV cell is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def profiles(rows: Iterable[Mapping[str, Any]]) -> dict[str, Profile]:
    """The profile of every column, in the order of their first appearance."""
    found: dict[str, Profile] = {}
    for row in rows:
        for raw_name, value in row.items():
            name = trimmed(raw_name)
            profile = found.setdefault(name, Profile(name))
            if not is_missing(value):
                profile.add(value)
    return found
