"""Rated texts -> what a judge would be asked about them: how much text, and how much of it stood in the prompt before.

An engine keeps the beginnings of prompts, so what a prompt shares with an earlier one is not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record, content_id
from judging.tasks import load_task
from judging.template import Template, rubric_template, texts_for

Part = Literal["test", "dev", "pool"]
Key = tuple[str, str]  # task, aspect
SAMPLE = 100  # prompts kept to count tokens on
RENDERED = 20_000  # prompts; of more only the number is counted


class Prompts(NamedTuple):
    """Characters in all; `shared`: the beginnings that stood in the prompt before; `head`: of those what stands before
    the first text, which is shared whatever is judged; `texts`: all that stands behind it. `num_of`: how many, by task
    and aspect.
    """

    num_of: Mapping[Key, int]
    chars: float
    shared: float
    head: float
    texts: float
    sample: tuple[str, ...] = ()

    @property
    def num(self) -> int:
        return sum(self.num_of.values())

    @property
    def mean(self) -> float:
        return self.chars / max(1, self.num)

    @property
    def example(self) -> float:
        """Characters of a rated example in a prompt: what stands behind the head."""
        return self.texts / max(1, self.num)


def part_of(data: DataConfig, part: Part) -> tuple[tuple[str, ...], Callable[[Record], bool]]:
    """The files of a part, and whether a record of them belongs to it."""
    if part == "pool":
        return data.pool, data.serves
    chosen = data.model_copy(update={"part": part})
    return (chosen.judged if part == "test" or data.has_dev else ()), chosen.takes


def as_evaluated(record: Record, aspects: Sequence[str] | None) -> list[str]:
    """The configured aspects; or those that people rated and the task knows; or the task's first."""
    known = load_task(record.task).aspects
    return list(aspects or [one for one in known if one in record.scores] or list(known)[:1])


def as_rated(record: Record, aspects: Sequence[str] | None) -> list[str]:
    """The aspects of its task that people rated, of those that are wanted."""
    return [one for one in load_task(record.task).aspects if one in record.scores and one in (aspects or (one,))]


def queries(records: Iterable[Record], aspects: Sequence[str] | None, most: int, seed: int) -> list[Record]:
    """So many rated records of each task, drawn as `feedback` draws them."""
    of: dict[str, list[Record]] = {}
    for record in records:
        if _asked(record, aspects, as_rated):
            of.setdefault(record.task, []).append(record)
    drawn = [sorted(some, key=lambda one: content_id(str(seed), one.id))[:most] for some in of.values()]
    return [record for some in drawn for record in some]


def prompts_of(
    records: Iterable[Record],
    aspects: Sequence[str] | None,
    chosen: Callable[[Record, Sequence[str] | None], list[str]],
) -> Prompts:
    """Every record with every aspect that `chosen` takes, in the order of the records."""
    seen = _Seen()
    for record in records:
        for aspect in _asked(record, aspects, chosen):
            seen.add(record, aspect)
    return seen.prompts()


def _asked(
    record: Record,
    aspects: Sequence[str] | None,
    chosen: Callable[[Record, Sequence[str] | None], list[str]],
) -> list[str]:
    """None of a record of an unknown task: the jobs count it as rejected."""
    try:
        return [aspect for aspect in chosen(record, aspects) if aspect in load_task(record.task).aspects]
    except InputError:
        return []


@dataclass
class _Seen:
    num_of: dict[Key, int] = field(default_factory=dict)
    before: dict[Key, str] = field(default_factory=dict)
    rendered: int = 0
    chars: int = 0
    shared: int = 0
    head: int = 0
    texts: int = 0
    sample: list[str] = field(default_factory=list)

    def add(self, record: Record, aspect: str) -> None:
        key = (record.task, aspect)
        self.num_of[key] = self.num_of.get(key, 0) + 1
        if self.rendered >= RENDERED:
            return
        template = _rubric(*key)
        text = template.render(texts_for(record, template), mode="expected").text
        if last := self.before.get(key):
            self.shared += _common(last, text)
            self.head += _head(*key)
        self.before[key] = text
        self.rendered += 1
        self.chars += len(text)
        self.texts += len(text) - _head(*key)
        if len(self.sample) < SAMPLE:
            self.sample.append(text)

    def prompts(self) -> Prompts:
        times = sum(self.num_of.values()) / max(1, self.rendered)
        chars, shared, head, texts = (times * length for length in (self.chars, self.shared, self.head, self.texts))
        return Prompts(self.num_of, chars, shared, head, texts, tuple(self.sample))


def _common(one: str, other: str) -> int:
    """Characters that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


@cache
def _rubric(task: str, aspect: str) -> Template:
    return rubric_template(load_task(task), aspect)


@cache
def _head(task: str, aspect: str) -> int:
    """Characters that all prompts begin with, whichever example comes first."""
    template = _rubric(task, aspect)
    texts = [dict.fromkeys((one.name for one in template.fields), letter) for letter in "ab"]
    score = template.scale.low
    return _common(*(template.render(one, mode="expected", examples=[(one, score)]).text for one in texts))
