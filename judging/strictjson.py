"""JSON in which a duplicate key is an error, for what people and models write; json itself takes the last one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class TwiceError(ValueError):
    """An object holds the same key twice."""


def loads(text: str, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """The value of the text. Raises TwiceError, and what json.loads raises."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=parse_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise TwiceError(f"duplicate key {json.dumps(twice)}")
    return found
