"""SIGTERM (`kill`, Kubernetes) ends a block of code as Ctrl-C does, so that its work is put in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import JobFailed


class Terminated(JobFailed):
    """SIGTERM has ended the command."""

    exit_code = 128 + signal.SIGTERM


class Stop:
    """The handler of SIGTERM in a block. `is_ending`: the block is put in order, which SIGTERM must not interrupt."""

    def __init__(self) -> None:
        self.has_come = self.is_ending = False

    def __call__(self, *_: object) -> None:
        self.has_come = True
        if not self.is_ending:
            raise KeyboardInterrupt


@contextmanager
def stopped_by_sigterm() -> Iterator[Stop]:
    """Raises Terminated where SIGTERM has ended the block, or has come while it was ending."""
    stop = Stop()
    before = signal.signal(signal.SIGTERM, stop)
    terminated = Terminated("terminated; the same command resumes", code="terminated")
    try:
        yield stop
    except KeyboardInterrupt as error:
        if stop.has_come:
            raise terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.has_come:
        raise terminated


@contextmanager
def handler_kept() -> Iterator[None]:
    """Keeps a handler of SIGTERM that code in the block replaces; not the system's default."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)
