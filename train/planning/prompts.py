"""Rated texts -> the size of a judge's prompts for them, and how much of it is cached from the previous prompt.

Engines cache prefixes of prompts, so what a prompt shares with an earlier one is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from typing import Literal, NamedTuple

from judging.comparison import in_order
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.pairing import Pair
from judging.records import Record, content_id
from judging.request_templates import pair_template
from judging.tasks import load_task
from judging.template import Template, rubric_template, texts_for

Part = Literal["test", "dev", "pool"]
Key = tuple[str, str]  # task, aspect
SAMPLE = 100  # prompts kept to count their tokens
RENDERED = 20_000  # prompts; further ones are only counted


class Prompts(NamedTuple):
    """Characters of all prompts; `shared`: of the prefixes shared with the previous prompt; `head`: of the part before
    the first text, which is shared whatever is judged; `texts`: of everything after it. `num_of`: prompts by task and
    aspect.
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
        """Mean characters of a rated example in a prompt: as much as follows the head."""
        return self.texts / max(1, self.num)


def part_of(data: DataConfig, part: Part) -> tuple[tuple[str, ...], Callable[[Record], bool]]:
    """The files of a part, and whether a record of them belongs to it."""
    if part == "pool":
        return data.pool, data.serves
    chosen = data.model_copy(update={"part": part})
    return (chosen.judged if part == "test" or data.has_dev else ()), chosen.takes


def as_evaluated(record: Record, aspects: Sequence[str] | None) -> list[str]:
    """The configured aspects; else the rated ones that the task defines; else the task's first."""
    known = load_task(record.task).aspects
    return list(aspects or [one for one in known if one in record.scores] or list(known)[:1])


def as_rated(record: Record, aspects: Sequence[str] | None) -> list[str]:
    """The rated aspects of its task, restricted to `aspects`."""
    return [one for one in load_task(record.task).aspects if one in record.scores and one in (aspects or (one,))]


def queries(records: Iterable[Record], aspects: Sequence[str] | None, most: int, seed: int) -> list[Record]:
    """Sample rated records as `feedback` does.

    Args:
        records: of any task.
        aspects: None: all.
        most: maximum number of records of each task.
        seed: of the sample.

    Returns:
        The sampled records, by task.
    """
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
    """Measure the prompts for every record and aspect, in the order of the records.

    Args:
        records: of any task; an unknown task has no prompts.
        aspects: configured ones; None: as `chosen` decides.
        chosen: the aspects of a record.

    Returns:
        The counted prompts.
    """
    seen = _Seen(_rubric)
    for record in records:
        for aspect in _asked(record, aspects, chosen):
            seen.add(record, aspect)
    return seen.prompts()


def pair_prompts_of(pairs: Iterable[Pair], aspects: Sequence[str] | None, *, with_tie: bool) -> Prompts:
    """Measure the prompts for both orders of every pair and aspect, in the order in which they are asked.

    Args:
        pairs: those of one group follow each other.
        aspects: configured ones; None: those rated on both.
        with_tie: whether there is a label for a tie.
    """
    seen = _Seen(_pairwise_with_tie if with_tie else _pairwise)
    for _, some in groupby(pairs, key=lambda pair: pair.first.group_key):
        orders: list[tuple[Record, list[str]]] = []
        for pair in some:
            if pair.is_asked:
                chosen = _asked(pair.first, aspects, partial(_of_pair, pair))
                orders += [(in_order(pair.first, pair.second), chosen), (in_order(pair.second, pair.first), chosen)]
        for record, chosen in sorted(orders, key=lambda one: one[0].candidate):
            for aspect in chosen:
                seen.add(record, aspect)
    return seen.prompts()


def _of_pair(pair: Pair, record: Record, aspects: Sequence[str] | None) -> list[str]:
    return list(pair.aspects(aspects))


def _asked(
    record: Record,
    aspects: Sequence[str] | None,
    chosen: Callable[[Record, Sequence[str] | None], list[str]],
) -> list[str]:
    """Empty for a record of an unknown task, which the jobs count as rejected."""
    try:
        return [aspect for aspect in chosen(record, aspects) if aspect in load_task(record.task).aspects]
    except InputError:
        return []


@dataclass
class _Seen:
    template_of: Callable[[str, str], Template]
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
        template = self.template_of(*key)
        text = template.render(texts_for(record, template), mode="expected").text
        if last := self.before.get(key):
            self.shared += _common(last, text)
            self.head += _head(self.template_of, *key)
        self.before[key] = text
        self.rendered += 1
        self.chars += len(text)
        self.texts += len(text) - _head(self.template_of, *key)
        if len(self.sample) < SAMPLE:
            self.sample.append(text)

    def prompts(self) -> Prompts:
        times = sum(self.num_of.values()) / max(1, self.rendered)
        chars, shared, head, texts = (times * length for length in (self.chars, self.shared, self.head, self.texts))
        return Prompts(self.num_of, chars, shared, head, texts, tuple(self.sample))


def _common(one: str, other: str) -> int:
    """Length of the common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


@cache
def _rubric(task: str, aspect: str) -> Template:
    return rubric_template(load_task(task), aspect)


@cache
def _pairwise(task: str, aspect: str) -> Template:
    return pair_template(load_task(task), aspect)


@cache
def _pairwise_with_tie(task: str, aspect: str) -> Template:
    return pair_template(load_task(task), aspect, with_tie=True)


@cache
def _head(template_of: Callable[[str, str], Template], task: str, aspect: str) -> int:
    """Length of the prefix common to all prompts, whichever example comes first."""
    template = template_of(task, aspect)
    texts = [dict.fromkeys((one.name for one in template.fields), letter) for letter in "ab"]
    score = template.scale.low
    return _common(*(template.render(one, mode="expected", examples=[(one, score)]).text for one in texts))
