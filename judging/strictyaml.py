"""YAML in which a duplicate key is an error, for files that people write by hand."""

from __future__ import annotations

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"  # `<<`


class DuplicateKeyError(yaml.MarkedYAMLError):
    """A mapping holds the same key twice."""


class _Loader(yaml.SafeLoader):
    """Raises an error for a duplicate key; YAML itself silently takes the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE]
        for index, key in enumerate(keys):
            if any(key.value == earlier.value for earlier in keys[:index]):
                raise DuplicateKeyError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
        return node


def load(text: str) -> Any:
    """The one document of the text as plain values. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # the safe loader, with one more check
