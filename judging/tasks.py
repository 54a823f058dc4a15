"""A task: which texts a judge sees, which aspects it may rate, on which scale, by which rubric. Read from YAML.

The five task files stand in `judging/prompts/`; a path to a YAML file of the same form is a task of your own.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from judging import strictyaml
from judging.errors import InputError
from judging.records import Record, Scale

FOLDER = Path(__file__).parent / "prompts"
RECORD_TEXTS = ("source", "candidate")
FREE_SLOTS = ("reply_format", "examples")
# Slots of a prompt that are no field of a task.
RESERVED_SLOTS = (*FREE_SLOTS, "rubric", "other", "judgements")
REPLY_FORM = (
    "Following the evaluation guideline I was given, I have rated the {aspects} of this text {scale}. "
    "Here is what I read and my rating in JSON:"
)
SlotName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldSpec(Strict):
    """A text that a prompt shows: `name` in the record, `title` in the prompt."""

    name: SlotName
    title: str


class Aspect(Strict):
    """What is rated: the question, the scale of the judge's answer, and what each label means (the rubric)."""

    question: str
    scale: tuple[float, float]
    labels: dict[int, str]
    fields: tuple[str, ...] | None = Field(default=None, description="names of the task's fields; none: all of them")

    @model_validator(mode="after")
    def _labels_match_scale(self) -> Aspect:
        expected = [int(label) for label in Scale(*self.scale).labels()]
        if len(expected) < 2:
            raise ValueError(
                f"scale: it needs at least two whole numbers, and {Scale(*self.scale)} has {len(expected)}"
            )
        if sorted(self.labels) != expected:
            raise ValueError(f"labels must be the whole numbers of the scale, {expected}, not {sorted(self.labels)}")
        return self


class Task(Strict):
    """A task family: its fields in prompt order (what a group shares first, the candidate last) and its aspects.

    `reply_form` is the sentence with which a judge's own reply begins where a prompt is learned from such a reply;
    `{aspects}` in it becomes their names, `{scale}` a phrase such as "with a whole number between 1 and 5".
    """

    name: str
    intro: str
    reply_form: str = REPLY_FORM
    fields: tuple[FieldSpec, ...]
    aspects: dict[str, Aspect] = Field(min_length=1)

    @field_validator("reply_form")
    @classmethod
    def _has_its_placeholders(cls, form: str) -> str:
        """Nothing else in braces, so that `form.format(aspects=..., scale=...)` fills it."""
        if sorted(re.findall(r"[{][^{}]*[}]|[{}]", form)) != ["{aspects}", "{scale}"]:
            raise ValueError("it needs {aspects} and {scale}, each once, and no other braces")
        return form

    @model_validator(mode="after")
    def _fields_fit(self) -> Task:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"fields: a name stands twice in {names}")
        if taken := [name for name in names if name in RESERVED_SLOTS]:
            raise ValueError(f"fields: {taken[0]!r} is the name of a slot of ours: call the field otherwise")
        if not names or names[-1] != "candidate":
            raise ValueError("fields: the last one must be `candidate`, so that candidates of one group share a prefix")
        for aspect, spec in self.aspects.items():
            unknown = set(spec.fields or ()) - set(names)
            if unknown:
                raise ValueError(
                    f"aspects.{aspect}.fields: {sorted(unknown)[0]!r} is none of the task's fields {names}"
                )
            if spec.fields is not None and "candidate" not in spec.fields:
                raise ValueError(f"aspects.{aspect}.fields: `candidate` is missing, the text to judge")
        return self

    def fields_of(self, aspect: str) -> tuple[FieldSpec, ...]:
        """The fields that a prompt for `aspect` shows, in prompt order."""
        chosen = self.aspects[aspect].fields
        return tuple(field for field in self.fields if chosen is None or field.name in chosen)

    def scale_of(self, aspect: str) -> Scale:
        return Scale(*self.aspects[aspect].scale)


def is_task_file(name: str) -> bool:
    """Whether a task's name is the path of a task file, not one of the built-in tasks."""
    return name.endswith((".yaml", ".yml"))


def text_of(record: Record, name: str) -> str:
    """The record's text of that name; a further field that the record lacks is empty."""
    return str(getattr(record, name)) if name in RECORD_TEXTS else record.fields.get(name, "")


@cache
def load_task(name: str) -> Task:
    """The task of that name, or the one in the YAML file of that path.

    Raises InputError where there is none, or where the file does not fit.
    """
    known = {file.stem: file for file in FOLDER.glob("*.yaml")}
    path = Path(name) if is_task_file(name) else known.get(name)
    if path is None or not _is_file(path):
        names = ", ".join(sorted(known))
        raise InputError(f"there is no task {name!r}: give one of {names}, or the path of a task file (.yaml)")
    try:
        return Task(**strictyaml.load(path.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError, TypeError) as error:
        raise InputError(f"{path}: {first_reason(error)}") from error


def unknown_aspect(record: Record) -> str | None:
    """Why people's scores of the record would be lost: they are of an aspect that its task does not have; or None."""
    aspects = load_task(record.task).aspects
    unknown = next((aspect for aspect in record.scores if aspect not in aspects), None)
    if unknown is None:
        return None
    folded = {aspect.casefold(): aspect for aspect in aspects}
    near = difflib.get_close_matches(unknown.casefold(), folded, 1, 0.8)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return (
        f"scores.{unknown}: the task {record.task!r} has no such aspect: {hint}it has {', '.join(aspects)}; rename the "
        f"score (data.columns), name the aspects that count (data.aspects), or write a task file of your own"
    )


def first_reason(error: Exception) -> str:
    """The first thing that pydantic or YAML found wrong in a file, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return (f"{place}: " if place else "") + first["msg"].removeprefix("Value error, ")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem}, line {error.problem_mark.line + 1}"
    return str(error).splitlines()[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the system allows
        return False
