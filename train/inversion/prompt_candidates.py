"""A sampled prompt -> a candidate template: slots in place of the example's content, and whether it is verified.

Knows no model. A rejected candidate is kept, with the reasons.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from judging.parse import UNFINISHED
from judging.records import Record
from judging.tasks import load_task
from judging.template import Template
from judging.template_checks import NGRAM, verify, words
from train.inversion.one_shot import Unit
from train.inversion.slots import generalise

# "Overall score: 2", "rated as 1 out of 5", "gave it a 3.67", "the quality of this reply is 5"; not the ends of a range
# ("a score from 1 to 5", "rate it out of 5") and not what a score means ("the quality is 1 if it makes no sense").
SAID_SCORE = (
    r"(?:\b(?:scor\w*|rat(?:ed?|ings?)|gave|given)\b(?:[^\w\n]+(?:(?!(?:from|between|out|up|to)\b)[a-z]+[^\w\n]+){0,4}?)"
    r"|\b(?:quality|ASPECTS)\b[^.\n]{0,80}?\b(?:is|was)\s+)"
    r"(?<![\d.-])(\d+(?:\.\d+)?)(?![\d.]*\d)(?!\s*(?:to|through|[-\u2013\u2014])\s*\d)(?!\s*(?:if|when|where)\b)"
)


@dataclass(frozen=True)
class Candidate:
    """One sampled prompt: `templates` by aspect, where it has any; `problems`: why it is rejected, if it is."""

    number: int
    example: str
    raw: str
    text: str
    found: Mapping[str, str]
    removed: tuple[str, ...]
    problems: tuple[str, ...]
    templates: Mapping[str, Template]

    @property
    def is_verified(self) -> bool:
        return not self.problems


def make_candidate(
    source: str,
    unit: Unit,
    draft: Mapping[str, Any],
    special_tokens: Sequence[str],
    *,
    max_words: int,
    require_scale: bool = True,
) -> Candidate:
    """Turn a sampled prompt into a candidate.

    Args:
        source: the template's origin, `inverse` or `forward`.
        unit: decides aspects and fields.
        draft: number, example (its id), reply, finish_reason, error of one sampled prompt.
        special_tokens: of the model that wrote it.
        max_words: a longer prompt is rejected.
        require_scale: the prompt must state the scale itself.

    Returns:
        The candidate, verified or with its problems.
    """
    example = next(one for one in unit.examples if one.id == draft["example"])
    made = partial(Candidate, int(draft["number"]), example.id, draft["reply"])
    if why := _failure(draft):
        return made("", {}, (), (why,), {})
    content = unit.content(example, special_tokens)
    shaped = generalise(draft["reply"], content, unit.fields, unit.aspects)
    templates = {
        aspect: Template(
            text=shaped.text,
            task=unit.task,
            aspect=aspect,
            scale=unit.scale_of(aspect),
            fields=unit.fields,
            origin=source,
            several=len(unit.aspects) > 1,
        )
        for aspect in unit.aspects
    }
    problems = [shaped.refused] if shaped.refused else []
    if _copies_the_reply(unit, draft["reply"]):
        problems.append("it copies the judge's reply")
    if _says_a_score(unit, example, shaped.text):
        problems.append("it states a score instead of asking for one")
    scales = [template.scale for template in templates.values()]
    for template in () if shaped.refused else templates.values():
        problems += verify(template, [content], max_words=max_words, require_scale=require_scale, other_scales=scales)
    return made(shaped.text, dict(shaped.found), shaped.removed, tuple(dict.fromkeys(problems)), templates)


def _failure(draft: Mapping[str, Any]) -> str:
    """Why there is no whole prompt; empty: there is one."""
    if draft["finish_reason"] == "length" and not draft["error"]:
        return "cut off at invert.max_tokens"
    ending = draft["error"] or UNFINISHED.get(draft["finish_reason"])
    return f"the model failed: {ending}" if ending else ""


def _copies_the_reply(unit: Unit, draft: str) -> bool:
    """Whether a prompt repeats the beginning of the judge's reply, up to the aspects: then it reports a rating instead
    of asking for one. The rest of that sentence (aspects and scale) may appear in a prompt in the same words."""
    began = words(load_task(unit.task).reply_form.split("{aspects}")[0])
    return len(began) >= NGRAM and f" {' '.join(began)} " in f" {' '.join(words(draft))} "


def _says_a_score(unit: Unit, example: Record, text: str) -> bool:
    """Whether a prompt states a single score, the example's or another one that its scales have.

    Such a prompt can be selected because it makes that score the most probable one for every text. A prompt that says
    what several scores mean is fine.
    """
    aspects = "|".join(re.escape(aspect) for aspect in unit.aspects)
    said = {float(number) for number in re.findall(SAID_SCORE.replace("ASPECTS", aspects), text, re.IGNORECASE)}
    # The task's scale, as in the reply, and the scale of the human score.
    scales = [scale for aspect in unit.aspects for scale in (unit.scale_of(aspect), example.scales[aspect])]
    return len(said) == 1 and any(scale.low <= min(said) <= scale.high for scale in scales)


def kinds(problems: Iterable[str]) -> list[str]:
    """The kinds of problems: the sentences up to the first number or quotation, without duplicates."""
    # An apostrophe inside a word ("the judge's reply") begins no quotation.
    return list(dict.fromkeys(re.split(r"[:\d]|(?<!\w)['\"]", problem)[0].strip() for problem in problems))


def reasons(found: Sequence[Candidate], notes: Mapping[int, str]) -> Counter[str]:
    """Number of rejected candidates by kind of reason. `notes`: by number, why a verified one has no value."""
    return Counter(kind for one in found for kind in kinds([*one.problems, *filter(None, [notes.get(one.number)])]))


def first_reasons(counts: Counter[str]) -> str:
    return "; ".join(f"{number} times {reason}" for reason, number in counts.most_common(3))


def to_line(
    source: str,
    unit: Unit,
    one: Candidate,
    values: Mapping[int, float],
    notes: Mapping[int, str],
    order: Sequence[int],
) -> dict[str, Any]:
    """A line of `candidates.jsonl`.

    Args:
        source: `inverse` or `forward`.
        unit: of the candidate.
        one: the candidate.
        values: by number the value of each candidate that has one.
        notes: by number, why a verified candidate has no value.
        order: numbers of the ranked candidates, the best first.

    Returns:
        The line, ready for JSON.
    """
    return {
        "source": source,
        "task": unit.task,
        "aspects": list(unit.aspects),
        "number": one.number,
        "example": one.example,
        "verified": one.is_verified,
        "problems": [*one.problems, *([notes[one.number]] if one.number in notes else [])],
        "value": values.get(one.number),
        "rank": order.index(one.number) + 1 if one.number in order else None,
        "slots": dict(one.found),
        "removed": list(one.removed),
        "text": one.text,
        "raw": one.raw,
    }
