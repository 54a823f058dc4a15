"""Templates made for one request: a free rubric, and two answers side by side.

A client's rubric is data like the judged text: it fills a slot of its own and is never parsed as a template, so braces
and chat tokens in it have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from judging.records import Scale
from judging.tasks import FieldSpec, Task
from judging.template import Template

RUBRIC_FIELD = FieldSpec(name="rubric", title="Rubric")
FIRST, SECOND = FieldSpec(name="candidate", title="Text 1"), FieldSpec(name="other", title="Text 2")
PAIR_SCALE, TIE_SCALE = Scale(1, 2), Scale(1, 3)
PREFERENCE = "preference"  # the name of the aspect where two texts are compared by a free rubric


def rubric_text(criteria: str, descriptions: Mapping[int, str]) -> str:
    """A Prometheus rubric (criteria, and a description of each score) as plain text."""
    lines = [f"{score} - {meaning}" for score, meaning in sorted(descriptions.items())]
    return "\n".join([criteria, *lines])


def free_template(aspect: str, scale: Scale, fields: tuple[FieldSpec, ...]) -> Template:
    """A template that rates a text by the rubric in the field `rubric`.

    Args:
        aspect: the name of what is rated.
        scale: the scale of the judge's answer.
        fields: the other texts in the prompt, the judged one last.
    """
    text = (
        "You read a rubric and the texts below it. You judge the last text by the rubric alone.\n"
        f"Rate it with {scale.in_words()}.\n\n{{{{reply_format}}}}\n\n"
        f"{_blocks((RUBRIC_FIELD, *fields))}"
    )
    return Template(text, "", aspect, scale, (RUBRIC_FIELD, *fields), origin="request")


def pair_template(
    task: Task | None, aspect: str, fields: tuple[FieldSpec, ...] = (), *, with_tie: bool = False
) -> Template:
    """A template that asks which of two texts is better: 1 for the first (`candidate`), 2 for the second (`other`).

    Args:
        task: its aspect's question is the criterion; None: the rubric in the field `rubric` is.
        aspect: the aspect of the task, or a name for what is compared.
        fields: further texts in the prompt, where there is no task.
        with_tie: offer 3 for a tie, so that the scale ends at 3.
    """
    if task is None:
        shown = (RUBRIC_FIELD, *fields)
        how = "You read a rubric and two texts below it. You say which of the two is better by the rubric alone."
    else:
        shown = tuple(field for field in task.fields_of(aspect) if field.name != "candidate")
        how = f"You read two texts that were written for the same purpose.\n{task.aspects[aspect].question}"
    choices = "1 where Text 1 is better and with 2 where Text 2 is better"
    if with_tie:
        choices = "1 where Text 1 is better, with 2 where Text 2 is better and with 3 where neither is better"
    text = (
        f"{how}\nReply with {choices}. Neither the order nor the length of the texts counts.\n\n"
        f"{{{{reply_format}}}}\n\n{_blocks((*shown, FIRST, SECOND))}"
    )
    scale = TIE_SCALE if with_tie else PAIR_SCALE
    return Template(text, task.name if task else "", aspect, scale, (*shown, FIRST, SECOND), origin="pair")


class Preference(NamedTuple):
    """`second` (0 to 1): how far the second text is preferred; `is_consistent`: both orders prefer the same one."""

    second: float
    is_consistent: bool


def preference(given: float, turned: float) -> Preference:
    """The preference from the scores (1 to 2) in the given order and in the reversed order.

    The mean of the two cancels position bias. Two scores of 1.5 prefer neither text and are consistent.
    """
    second, turned_second = given - PAIR_SCALE.low, PAIR_SCALE.high - turned
    return Preference((second + turned_second) / 2, (second - 0.5) * (turned_second - 0.5) >= 0)


def _blocks(fields: tuple[FieldSpec, ...]) -> str:
    return "".join(f"{f.title}:\n<{f.name}>\n{{{{{f.name}}}}}\n</{f.name}>\n" for f in fields).rstrip()
