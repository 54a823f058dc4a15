"""Instruction sets -> validated, deduplicated `Instruction`s, up to a limit. Knows no model.

Formats: JSONL or Parquet with `instruction`, `input`, `output` (or Dolly's `context`, `response`); TRL's `prompt`,
`completion`; `messages` (role, content) or ShareGPT's `conversations` (from, value), of which the first turn of each
role is used. An invalid row is counted and listed; it never fails a job.
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from cluster.strict import Strict
from judging.columns import NEAR, is_missing, trimmed
from judging.datasets import Rejected, is_blank
from judging.errors import InputError
from judging.public_data.places import Place
from judging.readers import RowError, places_of, raw_rows
from judging.records import content_id

KNOWN = ("instruction", "input", "output", "prompt", "completion", "messages", "conversations")
ALSO = {"context": "input", "response": "output"}  # Dolly's names
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


class InstructionConfig(Strict):
    """The configuration's `instructions` section: what the inversion models are trained from."""

    files: tuple[Place, ...] = Field(
        min_length=1, description="JSONL files, Parquet files, folders, or `dataset:NAME` (`inverdict data list`)"
    )
    limit: int | None = Field(None, ge=1, description="maximum number of instructions, selected by hash; none: all")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`text`: the prompt, the input included; `output`: the response in the data set, may be empty."""

    id: str
    text: str
    output: str = ""


@dataclass
class Taken:
    """The selected instructions in the order of the files, and what was left out."""

    instructions: list[Instruction]
    rejected: list[Rejected] = field(default_factory=list)
    num_duplicates: int = 0
    num_over_limit: int = 0


def read_instructions(config: InstructionConfig) -> Taken:
    """Read, validate, deduplicate, select. The selection depends on the texts alone, not on their order.

    Raises InputError where a file cannot be read or no row of any file is valid.
    """
    taken = Taken([])
    places: dict[str, int] = {}
    chosen: list[tuple[int, int, Instruction]] = []  # a heap of the smallest hashes: largest on top, as negatives
    for one in _rows(config.files):
        if isinstance(one, Rejected):
            taken.rejected.append(one)
            continue
        if one.id in places:
            taken.num_duplicates += 1
            continue
        places[one.id] = len(places)
        item = (-_hash("limit", one.id), places[one.id], one)
        if config.limit is None or len(chosen) < config.limit:
            heapq.heappush(chosen, item)
        else:
            heapq.heappushpop(chosen, item)
    if not chosen:
        why = f" The first error: {taken.rejected[0]}" if taken.rejected else ""
        raise InputError(
            f"`instructions.files`: none of {len(taken.rejected)} rows is valid.{why}",
            code="no_records",
            key="instructions.files",
        )
    taken.num_over_limit = len(places) - len(chosen)
    taken.instructions = [one for _, _, one in sorted(chosen, key=lambda item: item[1])]
    return taken


def share(id: str) -> float:
    """A number in [0, 1) from an instruction's id: a split by it does not change when the set grows."""
    return _hash("split", id) / 2**64


def _hash(purpose: str, id: str) -> int:
    # With one hash for both purposes the dev split would hold the very instructions that the limit selects.
    return int.from_bytes(hashlib.sha256(f"{purpose}/{id}".encode()).digest()[:8])


def _rows(files: Sequence[str]) -> Iterator[Instruction | Rejected]:
    for file in (place for named in files for place in places_of(named)):
        for line, raw in raw_rows(file):
            try:
                if isinstance(raw, RowError):
                    raise raw
                yield to_instruction(raw)
            except RowError as error:
                yield Rejected(file, line, str(error), code=error.code, key=error.key)


def _named(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns by our names, without missing values. Raises RowError for a near miss of one of our names."""
    row = {trimmed(name): value for name, value in raw.items() if not is_missing(value)}
    for theirs, ours in ALSO.items():
        if theirs in row and ours not in row:
            row[ours] = row.pop(theirs)
    folded = {name.casefold(): name for name in row if name not in KNOWN}
    for ours in KNOWN:
        if ours not in row and (near := difflib.get_close_matches(ours, folded, 1, NEAR)):
            raise RowError(
                f"Unknown column {folded[near[0]]!r}. Did you mean {ours!r}?", code="unknown_key", key=folded[near[0]]
            )
    return row


def to_instruction(raw: Mapping[str, Any]) -> Instruction:
    """One row in any of the supported formats. Raises RowError with the reason."""
    raw = _named(raw)
    if raw.get("instruction") is not None:
        asked = _text("instruction", raw["instruction"])
        if given := _text("input", _or_empty(raw, "input")):
            asked = f"{asked}\n\n{given}" if asked else ""
        answered = _text("output", _or_empty(raw, "output"))
    elif raw.get("prompt") is not None:
        asked = _turn("prompt", raw["prompt"], "user")
        answered = _turn("completion", _or_empty(raw, "completion"), "assistant")
    elif (
        name := next((name for name in ("messages", "conversations") if raw.get(name) is not None), None)
    ) is not None:
        asked, answered = _turn(name, raw[name], "user"), _turn(name, raw[name], "assistant")
    else:
        raise RowError("one of `instruction`, `prompt`, `messages`, `conversations` is required", code="missing_key")
    if is_blank(asked):
        raise RowError("the instruction is empty", code="missing_text")
    return Instruction(content_id(asked), asked, answered)


def _or_empty(raw: Mapping[str, Any], name: str) -> Any:
    return "" if raw.get(name) is None else raw[name]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RowError(f"{name}: must be a string, not {type(value).__name__}", code="invalid_value", key=name)
    return value.strip()


def _turn(name: str, value: Any, role: str) -> str:
    """The text itself, or the first message of that role in a list of them."""
    if isinstance(value, str) and name in ("prompt", "completion"):
        return value.strip()
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise RowError(
            f"{name}: must be a list of messages, not {type(value).__name__}", code="invalid_value", key=name
        )
    for turn in value:
        if ROLES.get(str(turn.get("role", turn.get("from")))) == role:
            return _text(f"{name}.content", turn.get("content", turn.get("value")))
    return ""
