"""The run's YAML file and its `--set` overrides -> plain keys and values, not yet validated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError

MERGE = "tag:yaml.org,2002:merge"  # `<<`


class _DuplicateKey(yaml.MarkedYAMLError):
    code = "duplicate_key"


class _Loader(yaml.SafeLoader):
    """The safe loader, but a duplicate key is an error; plain YAML silently keeps the last value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in first:
                    problem = f"duplicate key `{key.value}`, first used in line {first[key.value]}"
                    raise _DuplicateKey(problem=problem, problem_mark=key.start_mark)
                first[key.value] = key.start_mark.line + 1
        return node


def read(path: Path) -> dict[str, Any]:
    """The file's keys and values. Raises UserError with the line of the problem."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except FileNotFoundError as error:
        raise UserError(
            f"Configuration not found: {path}. Give the path of a YAML file, such as configs/demo.yaml.",
            code="missing_file",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.", code="unreadable_file") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        code = getattr(error, "code", "invalid_yaml")
        raise UserError(f"{path}, line {line}: invalid YAML: {error.problem}.", code=code) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {str(error).splitlines()[0]}.", code="invalid_yaml") from error
    if not isinstance(value, dict):
        raise UserError(
            f"{path} is empty or not a mapping. A configuration has keys such as `run`, `models`, `evaluate`.",
            code="invalid_yaml" if value else "empty_file",
        )
    return value


def with_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`raw` with `a.b=value` overrides applied. Raises UserError for an override that cannot be applied."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}: must have the form key.inner=value.", code="invalid_value", key=key)
        try:
            value = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            why = f": {error.problem}" if isinstance(error, yaml.MarkedYAMLError) else ""
            code = getattr(error, "code", "invalid_yaml")
            raise UserError(f"--set {override}: the value is not valid YAML{why}.", code=code, key=key) from error
        *outer, last = key.split(".")
        place = raw
        for name in outer:
            inner = place.get(name, {})
            if not isinstance(inner, dict):
                raise UserError(
                    f"--set {override}: {name!r} is not a section; its value is {inner!r}.",
                    code="invalid_value",
                    key=key,
                )
            own = dict(inner)  # a copy: an alias (`*name`) may share it with another key
            place[name] = own
            place = own
        place[last] = value
    return raw
