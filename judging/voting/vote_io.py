"""Learned votes as a JSON file, `votes.json`: written whole, read strictly. The checksum finds edits by accident or by
hand; it is no signature."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judging.errors import InputError
from judging.voting.stacked_vote import LearnedVote

FORMAT = "inverdict.votes"
VERSION = 1
AGAIN = "learn the votes again"
Votes = Mapping[tuple[str, str], LearnedVote]  # by task and aspect


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(min_length=1)
    aspect: str = Field(min_length=1)
    vote: LearnedVote


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["inverdict.votes"]
    schema_version: Literal[1]
    sha256: str
    votes: tuple[_Entry, ...]


def save_votes(path: Path, votes: Votes) -> None:
    """Write the votes, by task and aspect, to `path`, whole or not at all; `load_votes` reads them back."""
    entries = [
        {"task": task, "aspect": aspect, "vote": vote.model_dump(mode="json")}
        for (task, aspect), vote in sorted(votes.items())
    ]
    content = {"format": FORMAT, "schema_version": VERSION, "sha256": _checksum(entries), "votes": entries}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)


def load_votes(path: Path) -> dict[tuple[str, str], LearnedVote]:
    """The votes of a file by task and aspect.

    Raises InputError with one sentence where the file is missing, foreign, of another version, edited or damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        content = json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror or error}): {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {AGAIN}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a file of learned votes (format {FORMAT}): name another, or {AGAIN}")
    if content.get("schema_version") != VERSION:
        shown = json.dumps(content.get("schema_version"))[:20]
        raise InputError(f"{path} has schema version {shown}, and this Inverdict reads {VERSION}: {AGAIN}")
    if content.get("sha256") != _checksum(content.get("votes")):
        raise InputError(f"{path} was changed after it was written (its checksum differs): {AGAIN}")
    try:
        entries = _File.model_validate_json(text, strict=True).votes
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} holds no votes that can be used ({place}: {first['msg']}): {AGAIN}") from error
    votes = {(entry.task, entry.aspect): entry.vote for entry in entries}
    if len(votes) != len(entries):
        raise InputError(f"{path} holds two votes for one task and aspect: {AGAIN}")
    return votes


def _checksum(entries: object) -> str:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
