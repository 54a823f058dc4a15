"""Errors written for users: the command line prints their message and exits with their exit code."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# A file system that is full, over quota, read-only, or not writable by this user.
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class UserError(ValueError):
    """The user's input is at fault, like `judging.errors.InputError`; `cluster` and `judging` do not import each other.

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
    """The input is valid, but the work failed; the command exits with 1. `code`: what failed, as in `UserError`."""

    exit_code = 1

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


def for_users(error: BaseException) -> tuple[str, int] | None:
    """The message and the exit code of an error that users can mend, also if a Ray worker has raised it; else None."""
    # Ray's errors have the type of their cause, but its trace as text.
    for one in (getattr(error, "cause", None), error):
        if (code := getattr(one, "exit_code", None)) is not None:
            return str(one), int(code)
    if problem := storage_problem(error):
        return problem, JobFailed.exit_code
    refused = refusal(error)
    return (str(refused), refused.exit_code) if refused else None


@contextmanager
def refusals_raised() -> Iterator[None]:
    """Raises UserError where a Ray worker has ended with one in the block."""
    try:
        yield
    except Exception as error:
        if told := refusal(error):
            raise told from error
        raise


def refusal(error: BaseException) -> UserError | None:
    """The error for users with which a Ray worker has ended, which Ray passes on as text; None for another error."""
    raised = re.findall(r"^((?:\w+\.)*[A-Z]\w*)(?:: (.*))?$", str(error), re.MULTILINE)
    kind, message = next((one for one in reversed(raised) if not one[0].startswith("ray.")), ("", ""))
    is_ours = kind in ("cluster.errors.UserError", "judging.errors.InputError")
    return UserError(message, code="refused_by_worker") if is_ours else None


def storage_problem(error: BaseException) -> str | None:
    """The message for an error caused by a file system that cannot be written, here or in a Ray worker; else None.

    Ray passes a worker's error on as text, so the text is searched: Python and pyarrow both write `[Errno N]`.
    """
    numbers = [int(number) for number in re.findall(r"\[errno (\d+)\]", str(error), re.IGNORECASE)]
    known = [number for number in numbers if number in STORAGE]
    if not known:
        return None
    named = re.findall(r"\[Errno \d+\] [^:\n]+: '([^'\n]+)'", str(error))
    where = f" ({named[-1]})" if named else ""
    return (
        f"A file could not be written{where}: {os.strerror(known[-1])}. Free space or fix the permissions; the same "
        "command then resumes."
    )
