"""Chat messages in a row's `source` or `candidate` -> texts, by one rule; it knows no other column.

A message is an object with `role` and `content`, which is a text or a list of parts of type `text`. As a source the
messages become a transcript; as a candidate the last message, which must be the assistant's, is the text to judge, and
the messages before it are the source where the row has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from judging.columns import is_missing
from judging.readers import RowError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
TEXT_PARTS = ("text", "input_text", "output_text")
CALLS = ("tool_calls", "function_call")
Turn = tuple[str, str]  # role, text


def with_texts(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a text wherever `source` or `candidate` is a list of chat messages.

    Raises RowError for a list that is none, and for a candidate whose earlier messages are not the row's source.
    """
    source, candidate = row.get("source"), row.get("candidate")
    if isinstance(source, list | tuple):
        row = {**row, "source": transcript(_turns("source", source))}
    if not isinstance(candidate, list | tuple):
        return row
    *before, (role, reply) = _turns("candidate", candidate)
    if role != "assistant":
        raise RowError(
            f"candidate: the last message is of the role {role!r}, but the text to judge must be the assistant's.",
            code="invalid_value",
            key="candidate",
        )
    row = {**row, "candidate": reply}
    if before:
        earlier = transcript(before)
        known = row.get("source")
        if known is None or (isinstance(known, str) and not known.strip()):
            return {**row, "source": earlier}
        if isinstance(known, str) and known.split() != earlier.split():
            raise RowError(
                "candidate: the messages before the last one differ from `source`. Keep the last message alone, or "
                "give `source` another name in data.columns.",
                code="conflict",
                key="candidate",
            )
    return row


def transcript(turns: Sequence[Turn]) -> str:
    """The turns as paragraphs that begin with the role; a single message of the user is its text alone."""
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    return "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)


def last_role(value: Any) -> str | None:
    """The role of the last message; None where the value is not a list of chat messages."""
    try:
        return _turns("", value)[-1][0] if isinstance(value, list | tuple) else None
    except RowError:
        return None


def problem_of(messages: Sequence[Any]) -> str:
    """Why the list is no list of chat messages; empty where it is one."""
    try:
        _turns("", messages)
    except RowError as error:
        return str(error).removeprefix(": ")
    return ""


def _turns(column: str, messages: Sequence[Any]) -> list[Turn]:
    if not messages:
        raise RowError(f"{column}: the list has no chat message", code="invalid_value", key=column)
    return [_turn(f"{column}: message {place}", column, message) for place, message in enumerate(messages, start=1)]


def _turn(place: str, column: str, message: Any) -> Turn:
    if isinstance(message, Mapping) and {"from", "value"} <= message.keys():
        raise RowError(
            f"{place} has `from` and `value`. Write `role` (user, assistant or system) and `content` in their place.",
            code="unsupported",
            key=column,
        )
    if not isinstance(message, Mapping) or is_missing(message.get("role")):
        raise RowError(
            f"{place} must be an object with `role` and `content`. A list must hold chat messages; any other text "
            "must be one string.",
            code="invalid_value",
            key=column,
        )
    role = message["role"]
    if role not in ROLES:
        raise RowError(
            f"{place}: the role must be one of {', '.join(ROLES)}, not {role!r}", code="invalid_value", key=column
        )
    if calls := [name for name in CALLS if message.get(name)]:
        raise RowError(
            f"{place} has `{calls[0]}`, which is no text. Write the call into `content`.",
            code="unsupported",
            key=column,
        )
    return str(role), _content(place, column, message.get("content"))


def _content(place: str, column: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple) or not content:
        raise RowError(
            f"{place}: `content` must be a text or a list of parts of type text", code="invalid_value", key=column
        )
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if kind in TEXT_PARTS else None
        if not isinstance(text, str):
            raise RowError(
                f"{place}: a part of type {kind!r} is no text. A judge reads texts alone: remove or describe it.",
                code="unsupported",
                key=column,
            )
        texts.append(text)
    return "\n".join(texts)
