"""Where a job writes: one folder a job, a fingerprint first, parts as they come, the manifest last.

`fingerprint.json` says what the work in the folder belongs to; `manifest.json` says that it is complete. The same
fingerprint is done or resumed; another one is refused with what changed. A lock keeps a second job out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from cluster.errors import UserError
from cluster.terminal import say


class Outcome(NamedTuple):
    """What a command leaves behind: its exit code, and its summary as plain values (`--json`)."""

    exit_code: int
    summary: dict[str, Any]


class JobDir:
    """The folder `{run}/{job}`, held by this process between `opened` and its end."""

    def __init__(self, run: Path, job: str) -> None:
        self.path = run / job
        self.job = job

    @contextmanager
    def opened(self, fingerprint: Mapping[str, Any]) -> Iterator[JobDir]:
        """Hold the folder for the work that `fingerprint` names.

        Raises UserError where another process holds it, or where it holds work of another fingerprint.
        """
        with self._lock():
            earlier = read_json(self.path / "fingerprint.json")
            if earlier is not None and (changed := differences(earlier, json.loads(json.dumps(fingerprint)))):
                raise UserError(
                    f"{self.path} holds work with another {changed[0]}"
                    + (f" (and {len(changed) - 1} more differences)" if len(changed) > 1 else "")
                    + f": give another run directory (--set run=...), or delete {self.path}"
                )
            self._fingerprint = fingerprint
            yield self

    def claim(self) -> None:
        """Mark the folder as this work's, before its first output: from here on a killed job is resumed."""
        write_text(self.path / "fingerprint.json", json.dumps(self._fingerprint, indent=1, sort_keys=True))

    def is_claimed(self) -> bool:
        """Whether the folder is marked as the work of a fingerprint."""
        return (self.path / "fingerprint.json").exists()

    def _remove_unclaimed(self, made: list[Path]) -> None:
        """What failed before `claim` leaves none of the folders that it made."""
        if made and not self.is_claimed():
            shutil.rmtree(self.path, ignore_errors=True)
            for folder in made[1:]:
                if not any(folder.iterdir()):
                    folder.rmdir()

    @contextmanager
    def _lock(self) -> Iterator[IO[str]]:
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path} cannot be made: {error.strerror}: choose another `run`") from error
        try:
            lock = (self.path / ".lock").open("a+")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}: choose another `run`") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"another process is at work in {self.path}: wait for it, or choose another `run`"
                ) from error
            try:
                yield lock
            finally:
                self._remove_unclaimed(made)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of complete work, or None."""
        return read_json(self.path / "manifest.json")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the manifest: the fingerprint, the summary and the hashes of the files beside it."""
        files = {
            file.name: file_hash(file) for file in sorted(self.path.iterdir()) if file.is_file() and file.name[0] != "."
        }
        files.pop("manifest.json", None)
        content = {
            "job": self.job,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "fingerprint": read_json(self.path / "fingerprint.json"),
            "summary": dict(summary),
            "files": files,
        }
        write_text(self.path / "manifest.json", json.dumps(content, indent=1, sort_keys=True))

    def complete(
        self,
        fingerprint: Mapping[str, Any],
        work: Callable[[], Mapping[str, Any]],
        *,
        what: str,
        reopens: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """The summary of the work that `fingerprint` names: of a finished job as it is, else what `work` returns.

        Args:
            fingerprint: what decides the result; see `opened`.
            work: does what is missing and returns the summary. It checks its input first, then calls `claim`.
            what: the job's name for people, in front of what is said.
            reopens: whether a part of finished work is done again (`--retry-failed`).

        Raises:
            UserError: another process holds the folder, or it holds work of another fingerprint.
        """
        with self.opened(fingerprint):
            asks_again = reopens()
            if (done := self.manifest()) and not asks_again:
                say(f"{what}: done before, {self.path} is up to date")
                return dict(done["summary"])
            summary = dict(work())
            self.finish(summary)
        return summary

    def reopen(self) -> None:
        """Take complete work as incomplete again, so that what is missing is done."""
        (self.path / "manifest.json").unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The whole file or nothing: written beside, then renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A folder that is filled beside its place and renamed when it is complete."""
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def differences(earlier: Any, now: Any, place: str = "") -> list[str]:
    """Where two JSON values differ, in words: "evaluate.vote (mean, now median)"."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        return [
            line
            for key in dict.fromkeys([*earlier, *now])
            for line in differences(earlier.get(key), now.get(key), f"{place}.{key}" if place else key)
        ]
    if earlier == now:
        return []
    return [f"{place} ({_short(earlier)}, now {_short(now)})"]


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def file_hash(path: Path) -> str:
    """sha256 of a file, or of the files of a folder with their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for inner in sorted(path.rglob("*")):
        if inner.is_file():
            digest.update(f"{inner.relative_to(path)}={file_hash(inner)}\n".encode())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: delete {path.parent} and run the job again") from error
