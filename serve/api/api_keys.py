"""API keys: created and shown once, stored as hashes in a file; `inverdict keys new|list|revoke`.

The file is JSON: `{"keys": [{"id", "name", "sha256", "created"}]}`. A key has 256 random bits, so its plain sha256
cannot be inverted by guessing.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from cluster.artifacts import write_text
from cluster.errors import UserError

PREFIX = "iv-"
RECHECK_S = 1.0  # least time between two checks of the file


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The keys of a file, read again when it changes. While that file is damaged the previous keys stay valid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hashes = [one["sha256"] for one in read(path)]
        self._stamp = self._now_stamp()
        self._looked = time.monotonic()

    def names(self, key: str) -> bool:
        """Whether the key is one of the file's; takes the same time for every key."""
        self._look_again()
        given = hash_of(key)
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(given, known)
        return found

    def _look_again(self) -> None:
        if time.monotonic() - self._looked < RECHECK_S:
            return
        self._looked = time.monotonic()
        stamp = self._now_stamp()
        if stamp == self._stamp:
            return
        try:
            self._hashes = [one["sha256"] for one in read(self._path)]
            self._stamp = stamp
        except UserError:
            return

    def _now_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a key file. Raises UserError where it is missing, damaged or empty of keys."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["keys"]
        good = all(isinstance(one["sha256"], str) and len(one["sha256"]) == 64 for one in entries)
    except FileNotFoundError as error:
        message = f"Key file not found: {path}. Create one with `inverdict keys new {path}`."
        raise UserError(message, code="missing_file") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is not a key file. Create one with `inverdict keys new`."
        raise UserError(message, code="unreadable_file") from error
    if not entries or not good:
        message = f"{path} holds no valid key. Add one with `inverdict keys new {path}`."
        raise UserError(message, code="empty_file")
    return list(entries)


def add(path: Path, name: str) -> str:
    """Create a key, store its hash and return it; the key itself cannot be read again."""
    entries = read(path) if path.exists() and path.stat().st_size else []
    key = PREFIX + secrets.token_urlsafe(32)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entries.append({"id": secrets.token_hex(4), "name": name, "sha256": hash_of(key), "created": created})
    _write(path, entries)
    return key


def revoke(path: Path, id: str) -> None:
    """Remove the key with that id. Raises UserError where there is none, or where it is the last one."""
    entries = read(path)
    kept = [one for one in entries if one["id"] != id]
    if len(kept) == len(entries):
        raise UserError(f"Unknown key id {id!r}. `inverdict keys list {path}` lists the ids.", code="unknown_id")
    if not kept:
        message = f"{id} is the last key of {path}. Add another first, or stop the server and delete the file."
        raise UserError(message, code="last_key")
    _write(path, kept)


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o077)  # nobody else reads it
    try:
        write_text(path, json.dumps({"keys": entries}, indent=1) + "\n")
    finally:
        os.umask(before)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict keys`."""
    parser.add_argument("action", choices=("new", "list", "revoke"), help="create and print a key, list, or revoke one")
    parser.add_argument("file", type=Path, metavar="KEYS.json", help="key file, as in `serve.keys_file`")
    parser.add_argument("--name", default="", help="new: whom the key is for")
    parser.add_argument("--id", default="", help="revoke: the key's id, as `list` prints it")


def main(args: argparse.Namespace) -> int:
    if args.action == "new":
        print(add(args.file, args.name))
    elif args.action == "revoke":
        revoke(args.file, args.id)
    else:
        for one in read(args.file):
            print(f"{one['id']}  {one['created']}  {one['name']}")
    return 0
