"""Tasks, read from YAML: which texts a judge sees, and which aspects it rates, on which scale, by which rubric.

The built-in task files are in `judging/prompts/`; the path of a YAML file of the same form is a custom task.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from judging import strictyaml
from judging.errors import InputError
from judging.file_errors import invalid_file
from judging.readers import RowError
from judging.records import Record, Scale

FOLDER = Path(__file__).parent / "prompts"
RECORD_TEXTS = ("source", "candidate")
FREE_SLOTS = ("reply_format", "examples")
# Slots of a prompt that are not fields of a task.
RESERVED_SLOTS = (*FREE_SLOTS, "rubric", "other", "judgements")
REPLY_FORM = (
    "Following the evaluation guideline I was given, I have rated the {aspects} of this text {scale}. "
    "Here is what I read and my rating in JSON:"
)
SlotName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldSpec(Strict):
    """A text in a prompt: `name` in the record, `title` in the prompt."""

    name: SlotName
    title: str


class Aspect(Strict):
    """What is rated: the question, the scale of the judge's answer, and what each label means (the rubric)."""

    question: str
    scale: tuple[float, float]
    labels: dict[int, str]
    fields: tuple[str, ...] | None = Field(default=None, description="names of the task's fields; null: all of them")

    @model_validator(mode="after")
    def _labels_match_scale(self) -> Aspect:
        expected = [int(label) for label in Scale(*self.scale).labels()]
        if len(expected) < 2:
            raise ValueError(
                f"scale: must contain at least two whole numbers, and {Scale(*self.scale)} has {len(expected)}"
            )
        if sorted(self.labels) != expected:
            raise ValueError(f"labels: must be the whole numbers of the scale, {expected}, not {sorted(self.labels)}")
        return self


class Task(Strict):
    """A task family: its fields in prompt order (what a group shares first, the candidate last) and its aspects.

    `reply_form`: the first sentence of a judge's own reply, where inversion learns a prompt from such a reply;
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
            raise ValueError("must hold {aspects} and {scale}, each once, and no other braces")
        return form

    @model_validator(mode="after")
    def _fields_fit(self) -> Task:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise InputError(f"fields: duplicate name in {names}", code="duplicate_key", key="fields")
        if taken := [name for name in names if name in RESERVED_SLOTS]:
            raise InputError(
                f"fields: {taken[0]!r} is a reserved slot name. Rename the field.", code="conflict", key="fields"
            )
        if not names or names[-1] != "candidate":
            raise InputError(
                "fields: the last one must be `candidate`, so that candidates of one group share a prefix",
                code="invalid_value",
                key="fields",
            )
        for aspect, spec in self.aspects.items():
            unknown = set(spec.fields or ()) - set(names)
            if unknown:
                raise InputError(
                    f"aspects.{aspect}.fields: {sorted(unknown)[0]!r} must be one of the task's fields {names}",
                    code="unknown_key",
                    key=f"aspects.{aspect}.fields",
                )
            if spec.fields is not None and "candidate" not in spec.fields:
                raise InputError(
                    f"aspects.{aspect}.fields: `candidate`, the text to judge, is missing",
                    code="missing_key",
                    key=f"aspects.{aspect}.fields",
                )
        return self

    def fields_of(self, aspect: str) -> tuple[FieldSpec, ...]:
        """The fields in a prompt for `aspect`, in prompt order."""
        chosen = self.aspects[aspect].fields
        return tuple(field for field in self.fields if chosen is None or field.name in chosen)

    def scale_of(self, aspect: str) -> Scale:
        return Scale(*self.aspects[aspect].scale)


def is_task_file(name: str) -> bool:
    """Whether a task's name is the path of a task file and not a built-in task."""
    return name.endswith((".yaml", ".yml"))


def text_of(record: Record, name: str) -> str:
    """The record's text of that name; a further field that the record lacks is empty."""
    return str(getattr(record, name)) if name in RECORD_TEXTS else record.fields.get(name, "")


@cache
def load_task(name: str) -> Task:
    """The task of that name, or the one in the YAML file of that path.

    Raises InputError where it is not found, or where the file is invalid.
    """
    known = {file.stem: file for file in FOLDER.glob("*.yaml")}
    path = Path(name) if is_task_file(name) else known.get(name)
    if path is None or not _is_file(path):
        names = ", ".join(sorted(known))
        raise InputError(
            f"Unknown task {name!r}. It must be one of {names}, or the path of a task file (.yaml).",
            code="unknown_task",
        )
    try:
        return Task(**strictyaml.load(path.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError, TypeError) as error:
        raise invalid_file(path, error) from error


def unknown_aspect(record: Record) -> RowError | None:
    """The error for a human score on an aspect that the record's task does not have; None: there is none."""
    aspects = load_task(record.task).aspects
    unknown = next((aspect for aspect in record.scores if aspect not in aspects), None)
    if unknown is None:
        return None
    folded = {aspect.casefold(): aspect for aspect in aspects}
    near = difflib.get_close_matches(unknown.casefold(), folded, 1, 0.8)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    return RowError(
        f"scores.{unknown}: unknown aspect of the task {record.task!r}, which has {', '.join(aspects)}.{hint} Rename "
        "the score (data.columns), select the aspects to use (data.aspects), or write a task file.",
        code="unknown_aspect",
        key=f"scores.{unknown}",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False
