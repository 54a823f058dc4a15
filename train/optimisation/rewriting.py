"""A judge's instruction and the cases with its largest errors -> a rewriting request; the reply -> a template.

Knows no model and no files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judging.judge import Judge
from judging.parse import UNFINISHED
from judging.records import Record
from judging.template import SLOT, Template, break_tags, slot_block, texts_for
from judging.template_checks import verify
from train.inversion.one_shot import Unit, aspects_in_words, scale_in_words

REQUEST = (Path(__file__).parent / "optimise.txt").read_text(encoding="utf-8").strip()
REQUEST_SLOT = re.compile(r"\{(instruction|cases|aspects|scale)\}")
# What models put around an instruction although the request asks for the instruction only.
FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
TAGS = re.compile(r"</?instruction>", re.IGNORECASE)
OF_A_CASE = re.compile(r"\bcase \d|\bscores? of the (?:people|judge)\b", re.IGNORECASE)
HEADING = re.compile(r"^\W*(?:(?:new|better|improved|revised)\s+)?instructions?(?:\s+for\s+the\s+judge)?\W*:\W*", re.I)


@dataclass(frozen=True)
class Case:
    """A labelled record and the judge's prediction: both scores on the template's scale; None: unscored."""

    record: Record
    human: float
    predicted: float | None

    def error(self, width: float) -> float:
        """Distance of the scores, in points; the scale's width where the judge returned no score."""
        return width if self.predicted is None else abs(self.predicted - self.human)


def judged_cases(template: Template, replies: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> list[Case]:
    """The judge's predictions beside the human scores.

    Args:
        template: the judge's prompt.
        replies: rows of cluster.generate (`judge.REPLY_COLUMNS`) with `record`, the index in `records`.
        records: labelled.

    Returns:
        A case a reply, in order.
    """
    judge = Judge.of(template)
    found = []
    for reply in replies:
        record = records[int(reply["record"])]
        human = record.score_on(template.aspect, template.scale)
        found.append(Case(record, human, judge.verdict(template.task, template.aspect, reply).score))
    return found


def worst_cases(cases: Sequence[Case], number: int, width: float) -> list[Case]:
    """The cases with the largest error, one of each group first; ties are broken by id.

    Args:
        cases: of any number of groups.
        number: maximum number of cases returned.
        width: error of an unscored case: the width of the scale, in points.

    Returns:
        The cases, by group and then by descending error.
    """
    order = sorted(cases, key=lambda case: (-round(case.error(width), 9), case.record.id))
    firsts: dict[str, Case] = {}
    for case in order:
        firsts.setdefault(case.record.group_key, case)
    others = [case for case in order if firsts[case.record.group_key] is not case]
    return [*firsts.values(), *others][:number]


def instruction_of(template: Template) -> str:
    """The template's instruction: without the record's blocks, the other slots and the blank lines they leave."""
    text = template.text
    for spec in template.fields:
        text = text.replace(slot_block(spec), "")
        text = text.replace(f"{{{{{spec.name}}}}}", f"the {spec.title.lower()}")
    return re.sub(r"\n{3,}", "\n\n", SLOT.sub("", text)).strip()


def request(
    unit: Unit,
    template: Template,
    cases: Sequence[Case],
    special_tokens: Sequence[str],
    fits: Callable[[str], bool] = lambda prompt: True,
) -> tuple[str, int]:
    """The request for a better instruction. Special tokens in the texts are neutralised.

    Args:
        unit: the task and aspect.
        template: the current one.
        cases: the worst first.
        special_tokens: of the rewriting model.
        fits: whether a prompt fits the context; a request that does not fit loses whole cases from the end.

    Returns:
        The prompt and how many cases it shows; "" and 0 where not even one fits.
    """
    for number in range(len(cases), 0, -1):
        slots = {
            "instruction": instruction_of(template),
            "cases": "".join(
                _shown(place, case, template, special_tokens) for place, case in enumerate(cases[:number], start=1)
            ),
            "aspects": aspects_in_words(unit),
            "scale": scale_in_words(unit),
        }
        prompt = REQUEST_SLOT.sub(lambda slot, slots=slots: slots[slot.group(1)], REQUEST)  # type: ignore[misc]
        if fits(prompt):
            return prompt, number
    return "", 0


def _shown(place: int, case: Case, template: Template, special_tokens: Sequence[str]) -> str:
    texts = {name: break_tags(text, ("instruction",)) for name, text in texts_for(case.record, template).items()}
    blocks = template.blocks(texts, special_tokens)
    said = "no score" if case.predicted is None else f"{case.predicted:.1f}"
    return f"Case {place}\n{blocks}Score of the people: {case.human:g}. Score of the judge: {said}.\n\n"


def rewritten(unit: Unit, start: Template, reply: str) -> Template:
    """Turn a reply into a template: the new instruction, the reply format, the record's blocks.

    Args:
        unit: the task and aspect.
        start: decides scale and fields.
        reply: of the rewriting model.

    Returns:
        The template, not yet checked.
    """
    text = reply.strip()
    if fenced := FENCE.match(text):
        text = fenced.group(1).strip()
    text = HEADING.sub("", TAGS.sub("", text).strip()).strip()
    text = SLOT.sub(lambda slot: f"the {slot.group(1)}", text).replace("{{", "{ {").replace("}}", "} }")
    blocks = "\n".join(map(slot_block, start.fields))
    return Template(
        text=f"{text}\n\n{{{{reply_format}}}}\n\n{{{{examples}}}}{blocks}",
        task=unit.task,
        aspect=start.aspect,
        scale=start.scale,
        fields=start.fields,
        origin="optimised",
    )


def problems_of(
    template: Template,
    reply: Mapping[str, object],
    cases: Sequence[Case],
    *,
    max_words: int,
    require_scale: bool,
) -> list[str]:
    """Why a rewritten template is rejected.

    Args:
        template: the rewritten one.
        reply: error and finish_reason of the rewriting model's reply.
        cases: those shown in the request; the template must not quote them.
        max_words: a longer instruction is rejected.
        require_scale: the instruction must state the scale itself.

    Returns:
        One sentence a problem; empty where the template can be used.
    """
    if reply["error"]:
        return [f"the model failed: {reply['error']}"]
    if ending := UNFINISHED.get(str(reply["finish_reason"])):
        return ["cut off at optimise.max_tokens" if ending == "cut_off" else f"the model failed: {ending}"]
    contents = [texts_for(case.record, template) for case in cases]
    text = instruction_of(template)
    problems = ["it mentions the cases"] if OF_A_CASE.search(text) else []
    if any(f"{end}{spec.name}>" in text for spec in template.fields for end in ("<", "</")):
        problems.append("it copies the format of a case")
    return problems + verify(template, contents, max_words=max_words, require_scale=require_scale)
