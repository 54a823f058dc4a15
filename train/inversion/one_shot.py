"""One rated example, written as the judge's own reply: the input from which an inversion model writes the prompt.

Knows the task's wording and no model. Special tokens in the example's texts are neutralised, as in every judged text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from judging.errors import InputError
from judging.records import Record, Scale
from judging.tasks import FieldSpec, Task, load_task, text_of
from judging.template import neutralise

FORWARD_PROMPT = (Path(__file__).parent / "forward.txt").read_text(encoding="utf-8").strip()
IN_WORDS = {"overall": "overall quality"}


@dataclass(frozen=True, slots=True)
class Unit:
    """The subject of one template: a task's aspects that are rated in one prompt, and the rated examples."""

    task: str
    aspects: tuple[str, ...]
    examples: tuple[Record, ...]

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """The texts that a prompt for these aspects shows, in the task's order."""
        task = load_task(self.task)
        names = {spec.name for aspect in self.aspects for spec in task.fields_of(aspect)}
        return tuple(spec for spec in task.fields if spec.name in names)

    def scale_of(self, aspect: str) -> Scale:
        return load_task(self.task).scale_of(aspect)

    def score_of(self, example: Record, aspect: str) -> float:
        """The human score of the example, on the task's scale."""
        return example.score_on(aspect, self.scale_of(aspect))

    def content(self, example: Record, special_tokens: Sequence[str] = ()) -> dict[str, str]:
        """The example's texts by field, as a model reads them."""
        return {spec.name: neutralise(text_of(example, spec.name).strip(), special_tokens) for spec in self.fields}


def units(
    pool: Mapping[str, Record],
    examples: tuple[str, ...] | int,
    *,
    aspects: tuple[str, ...] | None,
    together: bool,
    seed: int,
) -> list[Unit]:
    """The units of a run.

    Args:
        pool: the rated records by id.
        examples: ids in `pool`, or how many are sampled of each task.
        aspects: None: all that the examples are rated on.
        together: one unit for all aspects of a task; else one for each.
        seed: of the sample.

    Returns:
        The units, by task in the order of the examples.

    Raises:
        InputError: for an unknown id, an example with a missing text, or one without a score on the aspects.
    """
    found = []
    for name, chosen in _by_task(pool, examples, aspects, seed).items():
        task = load_task(name)
        shared = _shared_aspects(task, chosen, aspects)
        for group in [shared] if together else [(aspect,) for aspect in shared]:
            unit = Unit(name, group, tuple(chosen))
            for example in chosen:
                _check_content(unit, example)
            found.append(unit)
    return found


def _by_task(
    pool: Mapping[str, Record], examples: tuple[str, ...] | int, aspects: tuple[str, ...] | None, seed: int
) -> dict[str, list[Record]]:
    if isinstance(examples, int):
        return _drawn(pool.values(), examples, aspects, seed)
    found: dict[str, list[Record]] = {}
    for id in examples:
        if id not in pool:
            raise InputError(
                f"`invert.examples`: no record with the id {id!r} found in data.pool.",
                code="unknown_example",
                key="invert.examples",
            )
        found.setdefault(pool[id].task, []).append(pool[id])
    return found


def _drawn(pool: Iterable[Record], number: int, aspects: tuple[str, ...] | None, seed: int) -> dict[str, list[Record]]:
    """Sample `number` usable records of each task, each of another group; the seed and the ids alone decide."""
    by_task: dict[str, list[Record]] = {}
    for record in sorted(pool, key=lambda one: one.id):
        if any(aspect in record.scores for aspect in _wanted(load_task(record.task), aspects)):
            by_task.setdefault(record.task, []).append(record)
    if not by_task:
        raise InputError(
            "`invert.examples`: data.pool has no record with a human score on the aspects.",
            code="no_scores",
            key="invert.examples",
        )
    found = {}
    for task, rated in sorted(by_task.items()):
        # Where no record is complete, the first one sampled is reported with what it lacks.
        records = [record for record in rated if _is_whole(record, aspects)] or rated
        shuffled = Random(f"{seed}/{task}").sample(records, len(records))
        firsts = {record.group_key: record for record in reversed(shuffled)}
        if len(firsts) < number:
            raise InputError(
                f"`invert.examples` is {number}, but data.pool has only {len(firsts)} group(s) of {task} with a score. "
                "Lower it, or add rated texts of other groups.",
                code="not_enough_groups",
                key="invert.examples",
            )
        found[task] = [record for record in shuffled if firsts[record.group_key] is record][:number]
    return found


def _wanted(task: Task, aspects: tuple[str, ...] | None) -> list[str]:
    return [aspect for aspect in task.aspects if aspects is None or aspect in aspects]


def _is_whole(record: Record, aspects: tuple[str, ...] | None) -> bool:
    """Whether a score on each requested aspect and every text that the prompt shows is there."""
    task = load_task(record.task)
    shown = [aspect for aspect in _wanted(task, aspects) if aspects or aspect in record.scores]
    texts = {spec.name for aspect in shown for spec in task.fields_of(aspect)}
    return all(aspect in record.scores for aspect in shown) and all(text_of(record, name).strip() for name in texts)


def _shared_aspects(task: Task, examples: Sequence[Record], aspects: tuple[str, ...] | None) -> tuple[str, ...]:
    for example in examples:
        missing = [aspect for aspect in aspects or () if aspect in task.aspects and aspect not in example.scores]
        if missing:
            raise InputError(
                f"The example {example.id!r} has no human score on {missing[0]}. Change invert.examples.",
                code="no_scores",
                key="invert.examples",
            )
    wanted = _wanted(task, aspects)
    shared = tuple(aspect for aspect in wanted if all(aspect in example.scores for example in examples))
    if not shared:
        ids = ", ".join(example.id for example in examples)
        names = ", ".join(wanted or aspects or ())
        raise InputError(
            f"The examples of {task.name} ({ids}) share no aspect with a human score, of {names}. Change "
            "invert.examples or invert.aspects.",
            code="no_scores",
            key="invert.examples",
        )
    return shared


def _check_content(unit: Unit, example: Record) -> None:
    empty = [spec.title for spec in unit.fields if not text_of(example, spec.name).strip()]
    if empty:
        raise InputError(
            f"The example {example.id!r} has no text for {empty[0]!r}. Change invert.examples.",
            code="missing_text",
            key="invert.examples",
        )


def as_reply(unit: Unit, example: Record, *, with_score: bool, special_tokens: Sequence[str] = ()) -> str:
    """The example as a judge's reply: a sentence that names aspects and scale, then content and scores as JSON.

    Args:
        unit: decides aspects and fields.
        example: a rated record.
        with_score: False leaves the scores out of the JSON (ablation).
        special_tokens: of the model that reads the reply; they are neutralised.

    Returns:
        The reply.
    """
    task = load_task(unit.task)
    content = unit.content(example, special_tokens)
    values: dict[str, str | float] = {_key(spec): content[spec.name] for spec in unit.fields}
    if with_score:
        values |= {f"{aspect}_score": _number(unit.score_of(example, aspect)) for aspect in unit.aspects}
    sentence = task.reply_form.format(aspects=aspects_in_words(unit), scale=scale_in_words(unit)).strip()
    return f"{sentence}\n\n{json.dumps(values, ensure_ascii=False, indent=1)}"


def forward_request(unit: Unit, reply: str) -> str:
    """The baseline's request: the judge's own model is prompted to write the prompt behind the same reply."""
    slots = {"reply": reply, "aspects": aspects_in_words(unit), "scale": scale_in_words(unit)}
    return re.sub(r"\{(reply|aspects|scale)\}", lambda slot: slots[slot.group(1)], FORWARD_PROMPT)


def aspects_in_words(unit: Unit) -> str:
    """ "coherence, fluency and relevance"."""
    words = [IN_WORDS.get(aspect, aspect) for aspect in unit.aspects]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def scale_in_words(unit: Unit) -> str:
    """ "between 1 and 5", or scale by scale where the aspects' differ."""
    scales = {aspect: unit.scale_of(aspect) for aspect in unit.aspects}
    if len(set(scales.values())) == 1:
        scale = scales[unit.aspects[0]]
        return f"between {scale.low:g} and {scale.high:g}"
    return ", ".join(f"{aspect} between {scale.low:g} and {scale.high:g}" for aspect, scale in scales.items())


def _key(spec: FieldSpec) -> str:
    return re.sub(r"\W+", "_", spec.title.lower()).strip("_")


def _number(score: float) -> float | int:
    rounded = round(score, 2)
    return int(rounded) if rounded == int(rounded) else rounded
