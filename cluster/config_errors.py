"""A configuration that does not validate -> one `UserError` with the key's path, a code and a suggestion."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from cluster.errors import UserError

# pydantic's error types that have a code of their own; every other is an `invalid_value`.
CODES = {"extra_forbidden": "unknown_key", "missing": "missing_key", "union_tag_invalid": "unknown_backend"}


def as_user_error(error: ValidationError, schema: type[BaseModel], origin: str) -> UserError:
    """The first problem as an error with the key's path, and the closest known key for an unknown one.

    Args:
        error: what pydantic found.
        schema: the whole configuration's class, which knows the keys to suggest.
        origin: the file's name, in front of the message.
    """
    errors = error.errors()
    first = errors[0]
    if first["type"] == "missing":  # perhaps misspelt, and then also an unknown key of its section
        unknown = (one for one in errors if one["type"] == "extra_forbidden" and one["loc"][:-1] == first["loc"][:-1])
        first = next(unknown, first)
    path = [str(part) for part in first["loc"]]
    # pydantic names the member of the union behind the model's name; users write the name only.
    if path[:1] == ["models"] and len(path) > 2:
        del path[2]
    key, code = ".".join(path), CODES.get(first["type"], "invalid_value")
    if code == "unknown_key":
        near = difflib.get_close_matches(path[-1], _known_keys(schema, path[:-1]), 1)
        text = f"Unknown key `{key}`." + (f" Did you mean `{near[0]}`?" if near else "")
    elif code == "missing_key":
        text = f"`{key}` is missing."
    elif code == "unknown_backend":
        key = f"{key}.backend"
        text = f"`{key}` must be one of {first['ctx']['expected_tags']}, not {first['ctx']['tag']!r}."
    else:
        # A validator may raise an error with a code and an inner key of its own; pydantic keeps it as the cause.
        cause = first.get("ctx", {}).get("error")
        code = getattr(cause, "code", code)
        path += [inner] if (inner := getattr(cause, "key", "")) else []
        key = ".".join(path)
        message = first["msg"].removeprefix("Value error, ")
        text = f"`{key}`: {message[0].lower()}{message[1:]}" if path else message
        text = text if text.endswith((".", "?")) else f"{text}."
    num = _num_problems(error) - 1
    more = f" ({num} more problem{'s' * (num > 1)} after this one)" if num else ""
    return UserError(f"{origin}: {text}{more}", code=code, key=key)


def _num_problems(error: ValidationError) -> int:
    """The number of problems: a list whose items are invalid is not also too short, as pydantic counts it."""
    places = [one["loc"] for one in error.errors()]
    return sum(
        not any(len(other) > len(place) and other[: len(place)] == place for other in places) for place in places
    )


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Keys of the section at `path` and of the sections below it."""
    if not path:
        return list(model.model_fields)
    keys: list[str] = []

    def collect(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys.extend(kind.model_fields)
            for inner in kind.model_fields.values():
                collect(inner.annotation)
        for argument in getattr(kind, "__args__", ()):
            collect(argument)

    if path[0] in model.model_fields:
        collect(model.model_fields[path[0]].annotation)
    return keys
