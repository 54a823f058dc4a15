"""The run's YAML file and its `--set` overrides -> plain names and values, unchecked but for their form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError

MERGE = "tag:yaml.org,2002:merge"  # `<<`


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice is an error: YAML's own way is to take the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in first:
                    problem = f"the key {key.value!r} stands twice, first in line {first[key.value]}"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                first[key.value] = key.start_mark.line + 1
        return node


def read(path: Path) -> dict[str, Any]:
    """The file's names and values. Raises UserError with the place."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except FileNotFoundError as error:
        raise UserError(
            f"there is no configuration {path}: give the path of a YAML file, such as configs/demo.yaml"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}, line {line}: broken YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: broken YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is empty or no mapping: a configuration has keys such as `run`, `models`, `evaluate`")
    return value


def with_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`raw`, changed by `a.b=value` texts. Raises UserError."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}: write it as key.inner=value")
        try:
            value = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            why = f": {error.problem}" if isinstance(error, yaml.MarkedYAMLError) else ""
            raise UserError(f"--set {override}: the value is no YAML{why}") from error
        *outer, last = key.split(".")
        place = raw
        for name in outer:
            inner = place.get(name, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set {override}: {name!r} is no section, it holds {inner!r}")
            own = dict(inner)  # by an alias (`*name`) others may have the same one
            place[name] = own
            place = own
        place[last] = value
    return raw
