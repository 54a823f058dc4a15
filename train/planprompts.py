"""Rated texts -> what a judge would be asked about them: how much text, and how much of it stood in the prompt before.

An engine keeps the beginnings of prompts, so what a prompt shares with an earlier one is not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

from judging.datasets import DataConfig
from judging.records import Record
from judging.tasks import load_task
from judging.template import SLOT, Template, rubric_template, texts_for

Part = Literal["test", "dev", "pool"]
SAMPLE = 100


class Prompts(NamedTuple):
    """Characters in all; `shared`: the beginnings that stood in the prompt before; `head`: of those what stands before
    the first text, which is shared whatever is judged. `units`: tasks and aspects. `sample`: some of the prompts.
    """

    num: int
    chars: int
    shared: int
    head: int
    units: int
    sample: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        return self.chars / max(1, self.num)


def part_of(data: DataConfig, part: Part) -> tuple[tuple[str, ...], Callable[[Record], bool]]:
    """The files of a part, and whether a record of them belongs to it."""
    if part == "pool":
        return data.pool, data.serves
    chosen = data.model_copy(update={"part": part})
    return (chosen.judged if part == "test" or data.has_dev else ()), chosen.takes


def prompts_of(
    records: Iterable[Record], aspects: Sequence[str] | None, *, rated: bool, most: int | None = None
) -> Prompts:
    """Every record with every aspect that it is judged on, in the order of the records.

    `rated`: only what people rated; else as `evaluate` chooses. `most`: so many records of each task.
    """
    num = chars = shared = head = 0
    before: dict[tuple[str, str], str] = {}  # by task and aspect: the last prompt
    seen: dict[str, int] = {}
    sample: list[str] = []
    for record in records:
        seen[record.task] = seen.get(record.task, 0) + 1
        if most is not None and seen[record.task] > most:
            continue
        for aspect in _aspects(record, aspects, rated):
            template = _rubric(record.task, aspect)
            text = template.render(texts_for(record, template), mode="expected").text
            if last := before.get((record.task, aspect)):
                shared, head = shared + _common(last, text), head + _head(record.task, aspect)
            before[record.task, aspect] = text
            num, chars = num + 1, chars + len(text)
            if len(sample) < SAMPLE:
                sample.append(text)
    return Prompts(num, chars, shared, head, len(before), tuple(sample))


def _aspects(record: Record, aspects: Sequence[str] | None, rated: bool) -> list[str]:
    known = load_task(record.task).aspects
    wanted = [aspect for aspect in aspects or known if aspect in record.scores]
    return wanted if rated or (wanted and aspects is None) else list(aspects or known)[: None if aspects else 1]


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
    first = SLOT.search(text := _rubric(task, aspect).text)
    return first.start() if first else len(text)
