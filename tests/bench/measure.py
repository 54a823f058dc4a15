"""What the benchmarks share: a measurement in a fresh process, and the peak memory of a process with its children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


def in_child(module: str, *arguments: str) -> dict[str, Any]:
    """Each measurement in a fresh process, so that none warms another up; it prints one line of JSON, and Ray more."""
    command = [sys.executable, "-m", module, "--child", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1]))


class PeakMemory:
    """Peak of the summed memory (PSS: shared pages count once) of this process and all below it, in MiB."""

    def __enter__(self) -> PeakMemory:
        self.peak_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            parts = {pid: _pss_mib(pid) for pid in _tree(os.getpid())}
            if sum(parts.values()) > self.peak_mib:
                self.peak_mib = sum(parts.values())


def _tree(pid: int) -> Iterable[int]:
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = tasks.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _tree(int(child))


def _pss_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
