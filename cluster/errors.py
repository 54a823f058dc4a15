"""The errors written for people: the command line prints their one sentence and exits with their code."""

from __future__ import annotations

import errno
import os
import re

# What a file system says that is full, over its quota, mounted for reading, or not ours to write.
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class UserError(ValueError):
    """The user's input is at fault, as `judging.errors.InputError` is; `cluster` and `judging` import neither one.

    Args:
        message: what is wrong, where, and what to do about it, in at most two sentences.
        code: what is wrong, as a snake_case word that does not change with the wording: `unknown_model`.
        key: where it is wrong: the path in the configuration (`evaluate.judges.x`); empty where it is not one key.
    """

    exit_code = 2

    def __init__(self, message: str, *, code: str = "invalid_value", key: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.key = key


class JobFailed(RuntimeError):
    """Valid work failed; the command exits with 1. `code`: what failed, as with `UserError`."""

    exit_code = 1

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


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
