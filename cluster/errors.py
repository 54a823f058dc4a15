"""The errors written for people: the command line prints their one sentence and exits with their code."""

from __future__ import annotations

import errno
import os
import re

# What a file system says that is full, over its quota, mounted for reading, or not ours to write.
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class UserError(ValueError):
    """The user's input is at fault: one sentence with the place and the way out; the command exits with 2."""

    exit_code = 2


class JobFailed(RuntimeError):
    """Work failed that was asked for rightly: one sentence with what happened; the command exits with 1."""

    exit_code = 1


def storage_problem(error: BaseException) -> str | None:
    """The sentence for an error that comes from a full or closed file system, here or in a Ray worker; else None.

    Ray hands on a worker's error as text, so the text is looked at: Python and pyarrow both write `[Errno N]`.
    """
    numbers = [int(number) for number in re.findall(r"\[errno (\d+)\]", str(error), re.IGNORECASE)]
    known = [number for number in numbers if number in STORAGE]
    if not known:
        return None
    named = re.findall(r"\[Errno \d+\] [^:\n]+: '([^'\n]+)'", str(error))
    where = f" ({named[-1]})" if named else ""
    return (
        f"a file could not be written{where}: {os.strerror(known[-1])}: make room, or let it be written; "
        "the same command goes on from what is done"
    )
