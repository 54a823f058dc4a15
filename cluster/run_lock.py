"""The lock of a run on an object store: an object per process that is written again every few seconds.

Stores of pyarrow have no write that fails where an object exists. So a process first writes its own object, then looks
for others: of two that begin at once at least one sees the other, and whoever sees a living one gives up. A process is
dead if its object stops changing, or if it ran on this machine and is gone. Clocks are never compared. A process that
gives no sign for longer than `PATIENCE_S`, such as one of a suspended machine, is taken over; it notices with its next
sign, and stops. Until then both may write.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.object_store import Place, shown
from cluster.terminal import say

HIDDEN = ".inverdict"  # folder in the store
BEAT_S = 5.0
PATIENCE_S = 30.0


class RunLock:
    """The lock of `place`, whose address is for messages. `is_lost`: another process has taken it over."""

    def __init__(self, place: Place, address: str) -> None:
        self._place, self._address = place, address
        self._name = f"{HIDDEN}/lock-{uuid.uuid4().hex}.json"
        self._count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.is_lost = False

    def __enter__(self) -> RunLock:
        self._place.store.create_dir(self._path(HIDDEN), recursive=True)
        self._write()
        # Not SIGINT: a command in the background of a script ignores it.
        self._handler = signal.signal(signal.SIGUSR2, signal.default_int_handler)
        self._thread.start()
        try:
            for name, holder in self._others().items():
                if self._is_alive(name, holder):
                    raise UserError(
                        f"`run`: process {holder.get('pid')} on {holder.get('host')} is using {shown(self._address)}. "
                        "Wait for it to finish, or choose another `run`.",
                        code="in_use",
                        key="run",
                    )
                self._delete(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        signal.signal(signal.SIGUSR2, self._handler)
        self._delete(self._name)

    def _write(self) -> None:
        self._count += 1
        about = {"host": os.uname().nodename, "machine": _machine(), "pid": os.getpid(), "count": self._count}
        with self._place.store.open_output_stream(self._path(self._name)) as file:
            file.write(json.dumps(about).encode())

    def _beat(self) -> None:
        import pyarrow as pa

        while not self._ended.wait(BEAT_S):
            with suppress(OSError, pa.ArrowException):  # the store is away: the next sign may succeed
                if self._read(self._name) is None:
                    self.is_lost = True
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
                    return
                self._write()

    def _others(self) -> dict[str, dict[str, Any]]:
        from pyarrow.fs import FileSelector

        folder = self._path(HIDDEN)
        found = self._place.store.get_file_info(FileSelector(folder, allow_not_found=True))
        names = [f"{HIDDEN}/{one.base_name}" for one in found if one.is_file and one.base_name.startswith("lock-")]
        read = {name: self._read(name) for name in names if name != self._name}
        return {name: holder for name, holder in read.items() if holder is not None}

    def _is_alive(self, name: str, holder: dict[str, Any]) -> bool:
        """Whether another process gives a sign of life; waits for one."""
        if holder.get("machine") == _machine() and not Path(f"/proc/{holder.get('pid')}").exists():
            return False
        say(f"run: waiting for a sign of process {holder.get('pid')} on {holder.get('host')}, up to {PATIENCE_S:.0f} s")
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(min(1.0, BEAT_S))
            now = self._read(name)
            if now is None:
                return False
            if now != holder:
                return True
        return False

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with self._place.store.open_input_stream(self._path(name)) as file:
                return dict(json.loads(file.read()))
        except FileNotFoundError:
            return None
        except ValueError:  # a folder shows a file while it is written
            return {}

    def _delete(self, name: str) -> None:
        import pyarrow as pa

        with suppress(OSError, pa.ArrowException):
            self._place.store.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._place.base}/{name}"


def _machine() -> str:
    """Names what shares process ids: this boot of the machine, and the container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
