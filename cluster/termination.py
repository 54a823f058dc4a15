"""SIGTERM (`kill`, Kubernetes) ends a block of code as Ctrl-C does, so that its work is put in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import JobFailed


class Terminated(JobFailed):
    """SIGTERM has ended the command."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raises Terminated where SIGTERM has ended the block; a second one does not interrupt how it ends."""
    is_stopped = False

    def stop(*_: object) -> None:
        nonlocal is_stopped
        if not is_stopped:
            is_stopped = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as error:
        if is_stopped:
            raise Terminated("terminated; the same command resumes", code="terminated") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def handler_kept() -> Iterator[None]:
    """Keeps a handler of SIGTERM that code in the block replaces; not the system's default."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)
