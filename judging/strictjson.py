"""JSON in which no key stands twice: what people and models write. JSON's own way is to take the last one, unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class TwiceError(ValueError):
    """A key stands twice in one object."""


def loads(text: str, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """The value of the text. Raises TwiceError, and what json.loads raises."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=parse_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise TwiceError(f"the key {json.dumps(twice)} stands twice")
    return found
