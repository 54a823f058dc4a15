"""A job's output folder: written atomically, locked, resumed or refused by fingerprint.

`fingerprint.json`, written first, identifies the work in the folder; `manifest.json`, written last, marks it complete.
Work with the same fingerprint is complete or resumed; another one is refused with what changed.
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
    """The result of a command: its exit code, and its summary as plain values (`--json`)."""

    exit_code: int
    summary: dict[str, Any]


class JobDir:
    """The folder `{run}/{job}`, locked by this process inside `opened`."""

    def __init__(self, run: Path, job: str) -> None:
        self.path = run / job
        self.job = job

    @contextmanager
    def opened(self, fingerprint: Mapping[str, Any]) -> Iterator[JobDir]:
        """Lock the folder for the work that `fingerprint` identifies.

        Raises UserError if another process has locked it, or if it contains work of another fingerprint.
        """
        with self._lock():
            earlier = read_json(self.path / "fingerprint.json")
            if earlier is not None and (changed := differences(earlier, json.loads(json.dumps(fingerprint)))):
                more = f" and {len(changed) - 1} more differences" if len(changed) > 1 else ""
                raise UserError(
                    f"{self.path} contains work of another configuration: {changed[0]}{more}. Choose another run "
                    f"directory (--set run=...), or delete {self.path}.",
                    code="other_configuration",
                )
            self._fingerprint = fingerprint
            yield self

    def claim(self) -> None:
        """Write the fingerprint, before the first output: from here on a killed job is resumed."""
        write_text(self.path / "fingerprint.json", json.dumps(self._fingerprint, indent=1, sort_keys=True))

    def is_claimed(self) -> bool:
        """Whether the folder has a fingerprint."""
        return (self.path / "fingerprint.json").exists()

    def _remove_unclaimed(self, made: list[Path]) -> None:
        """Remove the folders that work which failed before `claim` has created."""
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
            raise self._unwritable("created", error) from error
        try:
            lock = (self.path / ".lock").open("a+")
        except OSError as error:
            raise self._unwritable("written", error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"Another process is using {self.path}. Wait for it to finish, or choose another `run`.",
                    code="in_use",
                    key="run",
                ) from error
            try:
                yield lock
            finally:
                self._remove_unclaimed(made)

    def _unwritable(self, what: str, error: OSError) -> UserError:
        text = f"{self.path} cannot be {what}: {error.strerror}. Choose another `run`."
        return UserError(text, code="store_unwritable", key="run")

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of completed work, or None."""
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
        """The job's summary: that of the manifest if the job is complete, else what `work` returns.

        Args:
            fingerprint: everything that determines the result; see `opened`.
            work: does what is missing and returns the summary. It checks its input first, then calls `claim`.
            what: the job's name, in front of messages.
            reopens: whether part of a completed job is to be done again (`--retry-failed`).

        Raises:
            UserError: another process has locked the folder, or it contains work of another fingerprint.
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
        """Mark completed work as incomplete again, so that missing rows are computed."""
        (self.path / "manifest.json").unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: to a temporary file in the same folder, then renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """Write a folder atomically: yields a temporary folder that is renamed to `place` when complete."""
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
    """The paths at which two JSON values differ, such as "evaluate.vote (mean, now median)".

    Args:
        earlier: the value on disk.
        now: the value to compare it with.
        place: the path of both, in front of the paths below it.
    """
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
    """The object in a JSON file; None if there is no file. Raises UserError if it is damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged. Delete {path.parent} and run the job again.", code="damaged_artifact"
        ) from error
