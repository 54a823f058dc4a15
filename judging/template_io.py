"""Template files: a YAML head between two lines of `---`, then a prompt's text, which may serve several aspects.

The head names task, aspects with their scales, the fields that the prompt shows, and where the text comes from.
In a folder of them, `TASK.ASPECT.txt` is for one aspect, `TASK.txt` for several.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, FiniteFloat, field_validator

from judging import strictyaml
from judging.errors import InputError
from judging.records import Scale
from judging.tasks import FieldSpec, Strict, first_reason
from judging.template import Template

FILE = re.compile(r"---\n(?P<head>.*?^)---\n(?P<text>.*)", re.DOTALL | re.MULTILINE)
SHARED = ("text", "task", "fields", "origin", "about")


class _Head(Strict):
    task: str
    aspects: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(min_length=1)
    fields: tuple[FieldSpec, ...]
    origin: str
    about: dict[str, Any] = Field(default_factory=dict)

    @field_validator("about")
    @classmethod
    def _groups_are_keys(cls, about: dict[str, Any]) -> dict[str, Any]:
        """What keeps records out of an evaluation must not be misread."""
        groups = about.get("groups", [])
        if not isinstance(groups, list) or not all(isinstance(key, str) for key in groups):
            raise ValueError("groups: a list of group keys, each `task/dataset/group`, is needed")
        return about


def file_name(task: str, aspect: str = "") -> str:
    """Name of the template file for a task, or for one aspect of it, in a folder of template files."""
    return f"{Path(task).stem}.{aspect}.txt" if aspect else f"{Path(task).stem}.txt"


def load_templates(path: Path) -> dict[str, Template]:
    """The templates of a file by aspect, in the file's order; with more than one, each is marked `several`.

    Raises InputError where the file is missing, has no head, or holds a template that cannot be used.
    """
    try:
        head, text = _parts(path)
        templates = {
            aspect: Template(
                text=text,
                task=head.task,
                aspect=aspect,
                scale=Scale(*ends),
                fields=head.fields,
                origin=head.origin,
                about=head.about,
                several=len(head.aspects) > 1,
            )
            for aspect, ends in head.aspects.items()
        }
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not a template file: {first_reason(error)}") from error
    for template in templates.values():
        if wrong := template.problems():
            raise InputError(f"{path}: {wrong[0]}")
    return templates


def _parts(path: Path) -> tuple[_Head, str]:
    written = path.read_bytes().decode("utf-8-sig")
    if written.startswith("---\r\n"):
        written = written.replace("\r\n", "\n")
    parts = FILE.fullmatch(written)
    if not parts:
        raise ValueError("it has no head between two lines of ---")
    # In front, a line of ---, so that errors count the file's lines.
    known = strictyaml.load("---\n" + parts["head"])
    if not isinstance(known, dict):
        raise ValueError("its head is no mapping of names to values")
    return _Head.model_validate(known), parts["text"].removesuffix("\n")


def save_templates(path: Path, templates: Sequence[Template]) -> None:
    """Write templates of one text, one for each aspect, as one file; `load_templates` reads them back."""
    first = templates[0]
    assert all(getattr(one, name) == getattr(first, name) for one in templates for name in SHARED)
    aspects = {one.aspect: [_plain(end) for end in (one.scale.low, one.scale.high)] for one in templates}
    assert len(aspects) == len(templates)
    head = {
        "task": first.task,
        "aspects": aspects,
        "fields": [spec.model_dump() for spec in first.fields],
        "origin": first.origin,
        "about": dict(first.about),
    }
    head_text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, default_flow_style=None)
    # Whole or not at all: another process may read the folder.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(f"---\n{head_text}---\n{first.text}\n".encode())
    beside.replace(path)


def _plain(end: float) -> float:
    """5, not 5.0, as people write the ends of a scale."""
    return int(end) if end == int(end) else end
