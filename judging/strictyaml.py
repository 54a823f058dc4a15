"""YAML in which no name stands twice: what people write by hand."""

from __future__ import annotations

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"  # `<<`


class _Loader(yaml.SafeLoader):
    """A name that stands twice is an error; YAML's own way is to take the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE]
        for place, key in enumerate(names):
            if any(key.value == earlier.value for earlier in names[:place]):
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
        return node


def load(text: str) -> Any:
    """The one document of the text as plain values. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # the safe loader, with one more check
