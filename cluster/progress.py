"""Progress on stderr: a bar on a terminal, periodic lines elsewhere, both with the estimated time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.terminal import shown

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Periodic lines, for output that is not a terminal.

    The time left is estimated from the speed since the first items, so that the start of a model does not count.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self._what = shown(what)
        self._total = total
        self._done = self._first = done
        self._start = self._last = time.monotonic()
        self._ready: tuple[float, int] | None = None  # when the first items were complete, and how many items then

    def add(self, number: int) -> None:
        self._done += number
        now = time.monotonic()
        if self._ready is None:
            self._ready = (now, self._done)
        if now - self._last >= SECONDS_BETWEEN_LINES or self._done == self._total:
            self._last = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        counted = f"{self._what}: {self._done} of {self._total}"
        if self._done == self._total:
            seconds = now - self._start
            rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
            return f"{counted} in {seconds:.0f} s ({rate:.1f} a second)"
        assert self._ready is not None
        since, before = self._ready
        if now <= since or self._done == before:
            return counted
        rate = (self._done - before) / (now - since)
        return f"{counted}, {rate:.1f} a second, about {(self._total - self._done) / rate:.0f} s left"


class _Bar:
    def __init__(self, what: str, total: int, done: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, initial=done, desc=shown(what), dynamic_ncols=True, smoothing=0.1)

    def add(self, number: int) -> None:
        self._bar.update(number)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Progress | _Bar]:
    """Count up to `total` with `.add(number)`.

    Args:
        what: the work's name.
        total: number of items.
        done: items that were complete before this process began.
    """
    if not sys.stderr.isatty():
        yield Progress(what, total, done)
        return
    bar = _Bar(what, total, done)
    try:
        yield bar
    finally:
        bar.close()
