"""A judge's instruction and the cases it got most wrong -> the request for a better one; the reply -> a template.

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
# What models put around an instruction although they were asked for it alone.
FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
TAGS = re.compile(r"</?instruction>", re.IGNORECASE)
OF_A_CASE = re.compile(r"\bcase \d|\bscores? of the (?:people|judge)\b", re.IGNORECASE)
HEADING = re.compile(r"^\W*(?:(?:new|better|improved|revised)\s+)?instructions?(?:\s+for\s+the\s+judge)?\W*:\W*", re.I)


@dataclass(frozen=True)
class Case:
    """A labelled record and what the judge said: both scores in points of the template's scale; None: unscored."""

    record: Record
    human: float
    predicted: float | None

    def error(self, width: float) -> float:
        """Distance of the scores, in points; the scale's width where the judge gave no score."""
        return width if self.predicted is None else abs(self.predicted - self.human)


def judged_cases(template: Template, replies: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> list[Case]:
    """`replies`: rows of cluster.generate (`judge.REPLY_COLUMNS`) with `record`, the place in `records`."""
    judge = Judge.of(template)
    found = []
    for reply in replies:
        record = records[int(reply["record"])]
        human = record.score_on(template.aspect, template.scale)
        found.append(Case(record, human, judge.verdict(template.task, template.aspect, reply).score))
    return found


def worst_cases(cases: Sequence[Case], number: int, width: float) -> list[Case]:
    """The `number` cases with the largest error, one a group as long as there are groups; the ids break ties."""
    order = sorted(cases, key=lambda case: (-round(case.error(width), 9), case.record.id))
    firsts: dict[str, Case] = {}
    for case in order:
        firsts.setdefault(case.record.group_key, case)
    others = [case for case in order if firsts[case.record.group_key] is not case]
    return [*firsts.values(), *others][:number]


def instruction_of(template: Template) -> str:
    """The template's own words: without the blocks that show the record, the other slots and what they leave empty."""
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
    """The request for a better instruction, and how many of the cases it shows: as many as `fits` lets.

    A request that does not fit loses whole cases from the end; with none left it is empty. The texts are neutralised.
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
    """The template that the optimising model's reply makes: its words, the reply format, the blocks of the record."""
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
    """Why a rewritten template must not be used, one sentence each; empty: it may."""
    if reply["error"]:
        return [f"the model failed: {reply['error']}"]
    if ending := UNFINISHED.get(str(reply["finish_reason"])):
        return ["cut off at optimise.max_tokens" if ending == "cut_off" else f"the model failed: {ending}"]
    contents = [texts_for(case.record, template) for case in cases]
    text = instruction_of(template)
    problems = ["it tells of the cases"] if OF_A_CASE.search(text) else []
    if any(f"{end}{spec.name}>" in text for spec in template.fields for end in ("<", "</")):
        problems.append("it copies the form of a case")
    return problems + verify(template, contents, max_words=max_words, require_scale=require_scale)
