"""Evaluation templates: a prompt with named slots, filled in one pass with untrusted text.

A slot is written `{{name}}`. Filling scans the template's own text once; the inserted data is never scanned again, so
slots and braces inside it stay text. Delimiters of the prompt and chat-template tokens inside the data are broken up
first (`break_tags`, `neutralise`), so a judged text cannot close its block or open a turn. `template_io.py` reads and
writes template files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from judging.errors import InputError
from judging.records import Record, Scale, ScoreMode
from judging.tasks import FOLDER, FREE_SLOTS, FieldSpec, Task, text_of

SLOT = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
LABEL_PREFIX = "Score: "

# Tokens that mark turns and ends in the chat templates of common model families.
CHAT_TOKENS = re.compile(
    r"<\|[^<>|\s]{1,40}\|>"
    r"|</?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|think|tool_call|tool_response)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|<</?SYS>>"
    r"|<\uff5c[^<>\uff5c\n]{1,40}\uff5c>"
)


# Characters that look like an angle bracket or a slash, and invisible ones: zero-width, marks and controls.
OPENING = "<\uff1c\ufe64\u2039\u27e8\u3008\u02c2\u276e\u300a\u00ab"
CLOSING = ">\uff1e\ufe65\u203a\u27e9\u3009\u02c3\u276f\u300b\u00bb"
SLASHES = "/\\\\\uff0f\u2215\u2044\uff3c"
UNSEEN = (
    "[\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
FULL_WIDTH = 0xFEE0  # from a letter to its full-width form

# A token between brackets, without whitespace or a bracket of either kind inside, so that no match can hide another.
BRACKETED = re.compile(r"<[^<>\[\]\s]{1,80}>|\[[^<>\[\]\s]{1,80}\]")


class Prompt(NamedTuple):
    """A judge's prompt: `text` is the user's turn, `reply_prefix` the beginning of the judge's own reply."""

    text: str
    reply_prefix: str


@dataclass(frozen=True, slots=True)
class Template:
    """An evaluation prompt for one task and aspect.

    `fields`: the record's texts in the prompt, each in a slot of its name. The slots `{{reply_format}}` and
    `{{examples}}` are optional; without them the examples go in front and the format at the end. `several`: the text
    covers other aspects too, so the reply format names the one to score. `about`: the provenance of the text; its
    `groups` are the groups (`Record.group_key`) whose human scores were used to make it.
    """

    text: str
    task: str
    aspect: str
    scale: Scale
    fields: tuple[FieldSpec, ...]
    origin: str = "rubric"
    about: Mapping[str, Any] = field(default_factory=dict)
    several: bool = False

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides the prompt."""
        shown = [f"{f.name}={f.title}" for f in self.fields]
        parts = [self.text, self.task, self.aspect, str(self.scale), str(self.several), *shown]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def seen_groups(self) -> frozenset[str]:
        """Keys of the groups whose human scores were used to make this template: excluded from its evaluation."""
        return frozenset(self.about.get("groups", ()))

    def problems(self) -> list[str]:
        """Reasons why this template cannot be used, one sentence each; empty: it can."""
        found = SLOT.findall(self.text)
        needed = [spec.name for spec in self.fields]
        wrong = [f"slot {name!r} is missing" for name in needed if name not in found]
        wrong += [
            f"slot {name!r} is used {found.count(name)} times" for name in dict.fromkeys(found) if found.count(name) > 1
        ]
        wrong += [
            f"slot {name!r} must be one of {needed}"
            for name in dict.fromkeys(found)
            if name not in (*needed, *FREE_SLOTS)
        ]
        wrong += [f"field {name!r} has a reserved slot name" for name in needed if name in FREE_SLOTS]
        if len(self.scale.labels()) < 2:
            wrong.append(f"the scale {self.scale} has fewer than two whole numbers")
        return wrong

    def render(
        self,
        texts: Mapping[str, str],
        *,
        mode: ScoreMode,
        examples: Sequence[tuple[Mapping[str, str], float]] = (),
        special_tokens: Sequence[str] = (),
    ) -> Prompt:
        """The prompt for one record.

        Args:
            texts: the record's texts by field name.
            mode: `expected` for a score from label probabilities, `parsed` for a JSON reply.
            examples: rated texts of other records, each with its score in points of this template's scale.
            special_tokens: the judge model's own tokens, broken up in the data in addition to the common ones.
        """
        safe = {name: self._data(text, special_tokens) for name, text in texts.items()}
        shown = self.examples_text(examples, special_tokens)
        values = {
            **safe,
            "examples": shown + ("Now rate this one.\n" if shown else ""),
            "reply_format": self._reply_format(mode),
        }
        text = fill(self._complete(), values)
        return Prompt(text.strip(), LABEL_PREFIX if mode == "expected" else "")

    def examples_text(
        self, examples: Sequence[tuple[Mapping[str, str], float]], special_tokens: Sequence[str] = ()
    ) -> str:
        """The few-shot examples as a prompt shows them."""
        return "".join(
            f"Example {number}\n{self.blocks(known, special_tokens)}"
            f"{LABEL_PREFIX}{nearest(score, self.scale.answers())}\n\n"
            for number, (known, score) in enumerate(examples, start=1)
        )

    def reply_schema(self) -> str:
        """JSON schema (text) of a parsed reply: a reason, then the score, nothing else."""
        is_whole = self.scale.step == 1
        known = [int(one) if is_whole else float(one) for one in self.scale.answers()]
        score = {"type": "integer" if is_whole else "number", "enum": known}
        properties = {"reason": {"type": "string", "minLength": 1, "maxLength": 300}, f"{self.aspect}_score": score}
        whole = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return json.dumps(whole)

    def _complete(self) -> str:
        found = SLOT.findall(self.text)
        front = "" if "examples" in found else "{{examples}}"
        end = "" if "reply_format" in found else "\n\n{{reply_format}}"
        return front + self.text + end

    def _reply_format(self, mode: ScoreMode) -> str:
        number = f"<{self.scale.in_words()}>"
        if mode == "expected":
            what = f"the score for {self.aspect} alone" if self.several else "the score alone"
            return f"Reply with {what}, in this form:\n{LABEL_PREFIX}{number}"
        return (
            "Reply with one JSON object and nothing else, in this form:\n"
            f'{{"reason": "<one or two sentences>", "{self.aspect}_score": {number}}}'
        )

    def blocks(self, texts: Mapping[str, str], special_tokens: Sequence[str] = ()) -> str:
        """A record's texts as a prompt shows them, neutralised; `special_tokens` are broken up like the tags."""
        safe = {name: self._data(text, special_tokens) for name, text in texts.items()}
        return "".join(f"{fill(slot_block(spec), safe)}\n" for spec in self.fields)

    def _data(self, text: str, special_tokens: Sequence[str]) -> str:
        untagged = break_tags(text, tuple(spec.name for spec in self.fields))
        return neutralise(untagged, special_tokens) or "(none)"


def rubric_template(task: Task, aspect: str) -> Template:
    """The template made from the task file's own rubric."""
    if aspect not in task.aspects:
        known = ", ".join(task.aspects)
        raise InputError(
            f"Unknown aspect {aspect!r} of the task {task.name!r}. It must be one of {known}.", code="unknown_aspect"
        )
    spec = task.aspects[aspect]
    scale = task.scale_of(aspect)
    fields = task.fields_of(aspect)
    values = {
        "intro": task.intro,
        "question": spec.question,
        "scale": scale.in_words(),
        "labels": "\n".join(f"{label} - {meaning}" for label, meaning in sorted(spec.labels.items())),
        "fields": "\n".join(map(slot_block, fields)),
    }
    keep = {name: f"{{{{{name}}}}}" for name in FREE_SLOTS}
    text = fill((FOLDER / "rubric.txt").read_text(encoding="utf-8"), {**values, **keep}).strip()
    template = Template(text=text, task=task.name, aspect=aspect, scale=scale, fields=fields)
    if wrong := template.problems():
        raise InputError(f"task {task.name!r}, aspect {aspect!r}: {wrong[0]}", code="invalid_template")
    return template


def slot_block(spec: FieldSpec) -> str:
    """How a prompt shows a field: its title, and its slot between tags of its name."""
    return f"{spec.title}:\n<{spec.name}>\n{{{{{spec.name}}}}}\n</{spec.name}>"


def fill(text: str, values: Mapping[str, str]) -> str:
    """Every slot of `text` replaced by its value, in one pass: a slot inside a value stays as it is."""
    return SLOT.sub(lambda slot: values[slot.group(1)], text)


def break_tags(text: str, names: tuple[str, ...]) -> str:
    """`text` with parentheses for the brackets of every tag of these names, so that it cannot end its block.

    Covers every spelling: `</candidate >`, `< /Candidate>`, `<candidate id=2>`, look-alike brackets, slashes or
    letters, and whitespace or invisible characters in the name. Text without such tags is returned unchanged.
    """
    return _tags(names).sub(lambda found: f"({found.group(1)}{')' if found.group(2) else ''}", text)


@lru_cache(maxsize=64)
def _tags(names: tuple[str, ...]) -> re.Pattern[str]:
    def letter(one: str) -> str:
        return f"[{one.lower()}{one.upper()}{chr(ord(one.lower()) + FULL_WIDTH)}{chr(ord(one.upper()) + FULL_WIDTH)}]"

    spelled = "|".join(f"{UNSEEN}*".join(map(letter, name)) for name in names)
    start = rf"{UNSEEN}*(?:[{SLASHES}]{UNSEEN}*){{0,3}}"
    return re.compile(
        rf"[{OPENING}]({start}(?:{spelled})(?!\w)[^{OPENING}{CLOSING}]{{0,200}})([{CLOSING}]?)", re.IGNORECASE
    )


def neutralise(text: str, tokens: Sequence[str] = ()) -> str:
    """`text` with every chat token, and every one of `tokens`, broken up by a space after its first character.

    Text without such tokens is returned unchanged. Idempotent, and no token is left, however tokens are nested.
    """
    pattern, bracketed = _patterns(tuple(tokens))
    for _ in range(len(text) + 1):
        broken = pattern.sub(_broken, text)
        if bracketed:
            broken = BRACKETED.sub(lambda f: _broken(f) if f.group().lower() in bracketed else f.group(), broken)
        if broken == text:
            break
        text = broken
    return text


def _broken(found: re.Match[str]) -> str:
    return f"{found.group()[0]} {found.group()[1:]}"


@lru_cache(maxsize=64)
def _patterns(tokens: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """A pattern for common chat tokens and unbracketed `tokens`; the set of bracketed ones (Gemma has 6,000)."""
    # Stripped: a token that begins with a space would reappear after the inserted space.
    bare = {token.strip() for token in tokens}
    bracketed = frozenset(token.lower() for token in bare if BRACKETED.fullmatch(token))
    odd = sorted((token for token in bare if token.lower() not in bracketed), key=len, reverse=True)
    own = [re.escape(token) for token in odd if len(token) > 1]
    return re.compile("|".join([CHAT_TOKENS.pattern, *own]), re.IGNORECASE), bracketed


def nearest_label(score: float, scale: Scale) -> str:
    """The whole number of the scale nearest to `score`; the higher one at a half."""
    return nearest(score, scale.labels())


def nearest(score: float, answers: Sequence[str]) -> str:
    """The item of `answers` nearest to `score`; the higher one at a half."""
    return min(answers, key=lambda answer: (abs(float(answer) - score), -float(answer)))


def texts_for(record: Record, template: Template) -> dict[str, str]:
    """The record's texts for the slots of `template`."""
    return {spec.name: text_of(record, spec.name) for spec in template.fields}


Templates = Mapping[tuple[str, str], Template]  # by task and aspect
