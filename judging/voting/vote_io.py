"""Learned votes as a JSON file, `votes.json`: written atomically, validated when read.

The checksum detects accidental or manual edits; it is not a signature.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judging.errors import InputError
from judging.file_errors import first_problem
from judging.voting.stacked_vote import LearnedVote

FORMAT = "inverdict.votes"
VERSION = 1
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
    """Write the votes, by task and aspect, to `path` atomically; `load_votes` reads them."""
    entries = [
        {"task": task, "aspect": aspect, "vote": vote.model_dump(mode="json")}
        for (task, aspect), vote in sorted(votes.items())
    ]
    content = {"format": FORMAT, "schema_version": VERSION, "sha256": _checksum(entries), "votes": entries}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)


def _again(path: Path) -> str:
    return f"Delete {path.parent} and run `inverdict panel` again."


def load_votes(path: Path) -> dict[tuple[str, str], LearnedVote]:
    """The votes of a file by task and aspect.

    Raises InputError where the file is missing, of another format or version, edited or damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        content = json.loads(text)
    except OSError as error:
        code = "missing_file" if isinstance(error, FileNotFoundError) else "unreadable_file"
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {_again(path)}", code=code) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON. {_again(path)}", code="invalid_json") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a file of learned votes (format {FORMAT}). {_again(path)}", code="unsupported")
    if content.get("schema_version") != VERSION:
        shown = json.dumps(content.get("schema_version"))[:20]
        raise InputError(
            f"{path} has schema version {shown}; this version of Inverdict reads {VERSION}. {_again(path)}",
            code="unsupported",
            key="schema_version",
        )
    if content.get("sha256") != _checksum(content.get("votes")):
        raise InputError(
            f"{path} was edited after it was written (its checksum does not match). {_again(path)}",
            code="damaged_artifact",
        )
    try:
        entries = _File.model_validate_json(text, strict=True).votes
    except ValidationError as error:
        first = first_problem(error)
        raise InputError(
            f"{path} holds invalid votes ({first.message}). {_again(path)}", code="damaged_artifact", key=first.key
        ) from error
    votes = {(entry.task, entry.aspect): entry.vote for entry in entries}
    if len(votes) != len(entries):
        raise InputError(f"{path} holds two votes for one task and aspect. {_again(path)}", code="damaged_artifact")
    return votes


def _checksum(entries: object) -> str:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
