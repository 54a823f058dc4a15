"""A run directory on an object store (`run: s3://bucket/prefix`): a local mirror, brought in, sent while it is written.

All jobs work in the mirror, a folder in this machine's cache that is named after the address. Only the driver's machine
reads and writes it, the driver itself and the tasks of `beside_driver`; no other node needs the folder or access to the
store. One process at a time writes a run (see run_lock.py); commands that only look at it use run_copy.py. A killed
command resumes on any machine from what the store has, which is what was written until seconds before; on the same
machine also from what had not been sent yet.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cluster.artifacts import read_json, write_text
from cluster.embedded import cache_root
from cluster.errors import JobFailed, UserError
from cluster.object_store import Place, below, check_writable, is_address, listed, opened, sent, short, shown
from cluster.publish import MANIFEST, files_of, manifests_above
from cluster.run_lock import HIDDEN, RunLock
from cluster.terminal import say
from cluster.termination import stopped_by_sigterm

FOLDER = "runs"  # of the cache
STATE = ".sent.json"  # in the mirror: its id, and name -> [size, mtime in ns] of each file that the store has
OWNER = f"{HIDDEN}/mirror.json"  # in the store: the id of the mirror that wrote last
SECONDS_BETWEEN_LOOKS = 2.0
MOST_SECONDS = 30.0  # between two looks, however long one takes
FILES_AT_ONCE = 8
Known = dict[str, list[int]]


def mirror_of(address: str) -> Path:
    """The folder in which the jobs of a run on this address work."""
    return cache_root() / FOLDER / quote(_plain(address), safe="")


def _plain(address: str) -> str:
    """The address without a slash at the end of its path, so that both spellings are one run."""
    path, mark, query = address.partition("?")
    return f"{path.rstrip('/')}{mark}{query}"


def address_of(run: Path) -> str | None:
    """The address that a run folder is the mirror of; None for any other folder."""
    found = unquote(run.name)
    return found if run.parent.name == FOLDER and is_address(found) else None


def check_jobs(run: Path, jobs: list[str], supported: tuple[str, ...]) -> None:
    """Raises UserError if a job needs the run directory on every node, and it is on an object store."""
    address = address_of(run)
    wrong = [job for job in jobs if job not in supported]
    if address and wrong:
        raise UserError(
            f"`run`: {wrong[0]} needs the run directory on every node that it uses, so it cannot be on an object store "
            f"({shown(address)}). Use a folder that all nodes mount, and `publish` to copy the results to the store.",
            code="unsupported",
            key="run",
        )


_open: Mirror | None = None


@contextmanager
def opened_run(run: Path) -> Iterator[None]:
    """Bring a run in, keep its lock, and send what is written; does nothing for a plain folder.

    Raises:
        UserError: the store cannot be written, or another process uses the run.
        JobFailed: the store failed, or another process has taken the run over.
        Terminated: SIGTERM has ended the block.
    """
    global _open
    address = address_of(run)
    if address is None:
        yield
        return
    place = opened(address, "run")
    check_writable(place, address, "run")
    with stopped_by_sigterm() as stop, RunLock(place, address) as lock:
        mirror = Mirror(run, address, place)
        mirror.bring_in()
        _open = mirror
        try:
            with mirror.following():
                yield
        except KeyboardInterrupt as error:
            if lock.is_lost:
                raise JobFailed(
                    f"Another process has taken over {shown(address)}, because this one gave no sign for too long. Run "
                    "the same command again if that process is not meant to go on.",
                    code="in_use",
                ) from error
            raise
        finally:
            stop.is_ending, _open = True, None
            if not lock.is_lost:
                mirror.send_rest()


def owner_of(place: Place) -> str | None:
    """The id of the mirror that wrote last to a run; None if no run is kept there."""
    from pyarrow.fs import FileType

    path = f"{place.base}/{OWNER}"
    if place.store.get_file_info(path).type == FileType.NotFound:
        return None
    with place.store.open_input_stream(path) as file:
        return str(json.loads(file.read())["id"])


def files_in(place: Place) -> dict[str, Any]:
    """The files of a run in the store: name -> pyarrow's `FileInfo`."""
    return {name: one for name, one in listed(place).items() if not name.startswith(".")}


def beside_driver() -> dict[str, Any]:
    """Resources of a Ray task that reads or writes the run folder: on the driver's node where the run is a mirror.

    It takes no CPU of the node, which may be a head without any.
    """
    if _open is None:
        return {}
    import ray

    return {"num_cpus": 0, "label_selector": {"ray.io/node-id": ray.get_runtime_context().get_node_id()}}


class Mirror:
    """The mirror of an opened run. `known`: what the store has of it."""

    def __init__(self, folder: Path, address: str, place: Place) -> None:
        self._folder, self._address, self._place = folder, address, place
        self._id, self._known = "", Known()
        self._sending = threading.Lock()
        self._has_failed = False

    def bring_in(self) -> None:
        """Make the mirror equal to the store, unless it was the last to write there: then it is the newer one."""
        import pyarrow as pa

        state = read_json(self._folder / STATE)
        try:
            owner = owner_of(self._place)
            if state and state["id"] == owner:
                self._id, self._known = state["id"], dict(state["known"])
                return
            newer = self._downloaded(is_new=owner is None)
            if state:
                self._keep_unsent(dict(state["known"]), newer)
            shutil.rmtree(self._folder, ignore_errors=True)
            newer.rename(self._folder)
            self._id = uuid.uuid4().hex
            self._known = {name: _stamp(path) for name, path in files_of(self._folder).items()}
            self._keep()
            sent(self._place, OWNER, self._folder / STATE)
        except (OSError, pa.ArrowException) as error:
            raise JobFailed(
                f"run: {shown(self._address)} cannot be read ({short(error)}). Run the command again.",
                code="store_unreadable",
            ) from error

    def _downloaded(self, *, is_new: bool) -> Path:
        """A folder with the run's files. `is_new`: no run has been kept there, so that there must be nothing."""
        from pyarrow.fs import LocalFileSystem, copy_files

        beside = self._folder.with_name(f".{self._folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        found = files_in(self._place)
        if found and is_new:
            raise UserError(
                f"`run`: {shown(self._address)} has files that are not of a run, such as {min(found)}. Choose an empty "
                "prefix below it.",
                code="conflict",
                key="run",
            )
        if found:
            say(f"run: {len(found)} files from {shown(self._address)}")
            store, local = self._place.store, LocalFileSystem()
            copy_files(self._place.base, str(beside), source_filesystem=store, destination_filesystem=local)
        if wrong := [name for name, one in found.items() if (beside / name).stat().st_size != one.size]:
            raise OSError(f"{wrong[0]} has not arrived as a whole")
        return beside

    def _keep_unsent(self, known: Known, newer: Path) -> None:
        """Move what this mirror has and the store never got to a folder beside it, before `newer` replaces the mirror.

        Another machine may have computed the same since, with or without the same result, so the two are not merged.
        """
        written = {name for name, one in _stamps(files_of(self._folder)).items() if known.get(name) != one}
        unsent = [name for name in sorted(written) if not _is_same(self._folder / name, newer / name)]
        if not unsent:
            return
        kept = self._folder.with_name(f"unsent-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self._folder.name}")
        for name in unsent:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / name).rename(kept / name)
        say(
            f"run: another machine has gone on with {shown(self._address)}; files that this one had not sent before: "
            f"{len(unsent)}, kept in {kept}"
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """Send what is written until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._follow, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _follow(self, ended: threading.Event) -> None:
        import pyarrow as pa

        wait = SECONDS_BETWEEN_LOOKS
        while not ended.wait(wait):
            start = time.monotonic()
            try:
                self.send()
                self._has_failed = False
            except FileNotFoundError:  # a folder that was removed while it was looked at
                pass
            except (OSError, pa.ArrowException) as error:
                if not self._has_failed:
                    say(f"run: {shown(self._address)} cannot be written ({short(error)}); tried again until the end")
                self._has_failed = True
            wait = min(MOST_SECONDS, max(SECONDS_BETWEEN_LOOKS, 10 * (time.monotonic() - start)))

    def send_rest(self) -> None:
        """Send what is left at the end of a command. Raises JobFailed if the store rejects it."""
        import pyarrow as pa

        try:
            self.send()
        except (OSError, pa.ArrowException) as error:
            raise JobFailed(
                f"run: {shown(self._address)} could not be written ({short(error)}). What it lacks is in "
                f"{self._folder}; the same command on this machine sends it.",
                code="store_unwritable",
            ) from error

    def send(self) -> None:
        """Send new and changed files and remove deleted ones; a manifest is there only while all its files are.

        Manifests are looked at before the other files, as one that exists vouches for them, and once more after them,
        as one is deleted before its files change.
        """
        with self._sending:
            before = files_of(self._folder)
            stamps = _stamps(files_of(self._folder))
            after = files_of(self._folder)
            vouching = {name for name in before.keys() & after.keys() if _is_manifest(name)}
            wanted = {name: one for name, one in stamps.items() if not _is_manifest(name) or name in vouching}
            changed = [name for name, one in wanted.items() if self._known.get(name) != one]
            gone = [name for name in self._known if name not in wanted]
            if not changed and not gone:
                return
            broken = manifests_above({*changed, *gone}) & self._known.keys()
            if removed := dict.fromkeys([*sorted(broken), *gone]):
                self._known = {name: one for name, one in self._known.items() if name not in removed}
                self._keep()  # a kill from here on must not leave a file that counts as sent and is not there
                for name in removed:
                    self._delete(name)
            again = {name for name in wanted if name not in self._known}
            for is_manifest in (False, True):
                self._put([name for name in sorted({*changed, *again}) if _is_manifest(name) == is_manifest], wanted)
            self._keep()

    def _put(self, names: list[str], stamps: Known) -> None:
        """Send files, several at a time."""

        def one(name: str) -> bool:
            try:
                sent(self._place, name, self._folder / name)
            except FileNotFoundError:  # deleted since
                return False
            return True

        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            for name, is_there in zip(names, pool.map(one, names), strict=True):
                if is_there:
                    self._known[name] = stamps[name]

    def _delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._place.store.delete_file(f"{self._place.base}/{name}")

    def _keep(self) -> None:
        write_text(self._folder / STATE, json.dumps({"id": self._id, "known": self._known}))


def flushed(folder: Path) -> str | None:
    """The address of a folder of the opened run, after what is in it has been sent; None for any other folder."""
    if _open is None or not folder.is_relative_to(_open._folder):
        return None
    _open.send_rest()
    return below(_open._address, folder.relative_to(_open._folder).as_posix())


def _stamps(files: dict[str, Path]) -> Known:
    found = Known()
    for name, path in files.items():
        try:
            found[name] = _stamp(path)
        except FileNotFoundError:  # deleted since
            continue
    return found


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _is_manifest(name: str) -> bool:
    return name.rpartition("/")[2] == MANIFEST
