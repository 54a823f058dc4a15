"""What the values of each column of unknown rows are: numbers, texts, chat messages, objects; how many, how long."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from judging.chat import last_role, problem_of
from judging.columns import is_missing, trimmed

MAX_DISTINCT = 5000  # values that are remembered to tell whether they repeat
MAX_EXAMPLES = 50
FREE_TEXT_WORDS = 3.0
MOST = 0.95  # of the values are of one kind: the reader rejects the others, and `init` allows for 5 % of such rows


@dataclass
class Profile:
    """The values of one column that are not missing. `low` and `high`: of its numbers, those in objects included."""

    name: str
    num: int = 0
    num_numbers: int = 0
    num_texts: int = 0  # numbers too, which are read as texts
    num_objects: int = 0
    num_chats: int = 0
    num_words: int = 0
    num_messages: int = 0
    longest: int = 0  # characters
    low: float = float("inf")
    high: float = float("-inf")
    last_role: str = ""  # of the first chat
    no_number: Any = None  # the first value that is none
    no_chat: str = ""  # why the first list that is no chat is none
    example: Any = None
    keys: dict[str, None] = field(default_factory=dict)  # of objects
    values: dict[str, None] = field(default_factory=dict)  # the first MAX_EXAMPLES different texts
    distinct: set[int] = field(default_factory=set)  # of the first `num_counted` values
    num_counted: int = 0
    repeats: bool = False

    def add(self, value: Any) -> None:
        """Count a value."""
        if self.num == 0:
            self.example = value
        self.num += 1
        number = as_number(value)
        if number is None and self.no_number is None:
            self.no_number = value
        if number is not None:
            self._add_number(number)
            self.num_numbers += 1
        elif isinstance(value, Mapping):
            self._add_object(value)
        elif role := last_role(value):
            self.num_chats += 1
            self.num_messages += len(value)
            self.last_role = self.last_role or role
        elif isinstance(value, list | tuple):
            self.no_chat = self.no_chat or problem_of(value)
        if isinstance(value, str):
            self.num_words += len(value.split())
        self.num_texts += isinstance(value, str) or number is not None
        whole = str(value)
        self.longest = max(self.longest, len(whole))
        if len(self.values) < MAX_EXAMPLES:
            self.values[whole[:200]] = None
        self._remember(hash(whole))

    def _add_object(self, value: Mapping[Any, Any]) -> None:
        self.num_objects += 1
        for key, item in value.items():
            self.keys[str(key)] = None
            if (number := as_number(item)) is not None:
                self._add_number(number)

    def _remember(self, value: int) -> None:
        self.repeats = self.repeats or value in self.distinct
        if len(self.distinct) < MAX_DISTINCT:
            self.num_counted += 1
            self.distinct.add(value)

    def _add_number(self, number: float) -> None:
        self.low, self.high = min(self.low, number), max(self.high, number)

    @property
    def is_numeric(self) -> bool:
        return 0 < self.num == self.num_numbers

    @property
    def is_chat(self) -> bool:
        return 0 < self.num_chats >= MOST * self.num

    @property
    def is_text(self) -> bool:
        """Texts, among them numbers, as in a CSV file."""
        return 0 < self.num_texts >= MOST * self.num

    @property
    def is_free_text(self) -> bool:
        """Texts of several words, not names or labels."""
        return self.is_text and self.num_words / self.num >= FREE_TEXT_WORDS

    @property
    def is_unique(self) -> bool:
        """Whether no value repeats one of the first MAX_DISTINCT different ones."""
        return not self.repeats

    @property
    def different(self) -> float:
        """The share of different values among the first ones: 1 where none repeats, .5 where each comes twice."""
        return len(self.distinct) / self.num_counted if self.num_counted else 0.0

    @property
    def mean_messages(self) -> float:
        return self.num_messages / self.num_chats if self.num_chats else 0.0


def as_number(value: Any) -> float | None:
    """The finite number that the value is, or that a text in a CSV cell is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | decimal.Decimal) or len(str(value)) > 40:
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
