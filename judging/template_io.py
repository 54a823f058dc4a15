"""Template files: YAML front matter between two lines of `---`, then the text of a prompt for one or more aspects.

The front matter holds the task, the aspects with their scales, the fields in the prompt, and the origin of the text.
In a folder of template files, `TASK.ASPECT.txt` is for one aspect, `TASK.txt` for several.
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
from judging.file_errors import invalid_file
from judging.records import Scale
from judging.tasks import FieldSpec, Strict
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
        """Group keys exclude records from an evaluation, so they must be read correctly."""
        groups = about.get("groups", [])
        if not isinstance(groups, list) or not all(isinstance(key, str) for key in groups):
            raise ValueError("groups: must be a list of group keys, each `task/dataset/group`")
        return about


def file_name(task: str, aspect: str = "") -> str:
    """Name of the template file for a task, or for one aspect of it, in a folder of template files."""
    return f"{Path(task).stem}.{aspect}.txt" if aspect else f"{Path(task).stem}.txt"


def load_templates(path: Path) -> dict[str, Template]:
    """The templates of a file by aspect, in the file's order; with more than one, each is marked `several`.

    Raises InputError where the file is missing, has no front matter, or holds a template that cannot be used.
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
        raise invalid_file(path, error, "a template file") from error
    for template in templates.values():
        if wrong := template.problems():
            raise InputError(f"{path}: {wrong[0]}", code="invalid_template")
    return templates


def _parts(path: Path) -> tuple[_Head, str]:
    written = path.read_bytes().decode("utf-8-sig")
    if written.startswith("---\r\n"):
        written = written.replace("\r\n", "\n")
    parts = FILE.fullmatch(written)
    if not parts:
        raise InputError("no front matter between two lines of ---", code="invalid_template")
    # A line of --- in front, so that line numbers in errors are those of the file.
    known = strictyaml.load("---\n" + parts["head"])
    if not isinstance(known, dict):
        raise InputError("the front matter must be a mapping", code="invalid_template")
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
    # Written beside and renamed: another process may read the folder.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(f"---\n{head_text}---\n{first.text}\n".encode())
    beside.replace(path)


def _plain(end: float) -> float:
    """The end of a scale as people write it: 5, not 5.0."""
    return int(end) if end == int(end) else end
