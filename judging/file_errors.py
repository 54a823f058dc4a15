"""Errors of pydantic, YAML and the file system -> one `InputError` with code and key. It reads no files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from judging import strictyaml
from judging.errors import InputError

CODES = {"missing": "missing_key", "extra_forbidden": "unknown_key"}  # of pydantic's types of error


class Problem(NamedTuple):
    """The first problem in a file: the message in one line, and `code` and `key` as with `InputError`."""

    message: str
    code: str
    key: str = ""


def invalid_file(path: Path, error: Exception, what: str = "") -> InputError:
    """The `InputError` for a file that could not be read or does not fit its form.

    Args:
        path: the file.
        error: what reading, parsing or validating it raised.
        what: the kind of file for the message, such as "a template file".
    """
    first = first_problem(error)
    lead = f"{path} is not {what}" if what else str(path)
    return InputError(f"{lead}: {first.message}", code=first.code, key=first.key)


def first_problem(error: Exception) -> Problem:
    """The first problem that pydantic, YAML or the file system reported."""
    if isinstance(error, ValidationError):
        return _of_pydantic(error)
    if isinstance(error, InputError):
        return Problem(str(error), error.code, error.key)
    if isinstance(error, yaml.YAMLError):
        code = "duplicate_key" if isinstance(error, strictyaml.DuplicateKeyError) else "invalid_yaml"
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            return Problem(f"{error.problem}, line {error.problem_mark.line + 1}", code)
        return Problem(_first_line(error), code)
    if isinstance(error, FileNotFoundError):
        return Problem(_first_line(error), "missing_file")
    if isinstance(error, OSError | UnicodeDecodeError):
        return Problem(_first_line(error), "unreadable_file")
    return Problem(_first_line(error), "invalid_value")


def _of_pydantic(error: ValidationError) -> Problem:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    # A validator may raise an InputError with a code and a key of its own; pydantic keeps it as the cause.
    cause = first.get("ctx", {}).get("error")
    code = getattr(cause, "code", CODES.get(first["type"], "invalid_value"))
    if inner := getattr(cause, "key", ""):
        key = f"{key}.{inner}" if key else inner
    message = first["msg"].removeprefix("Value error, ")
    place = ".".join(map(str, first["loc"]))
    return Problem(f"{place}: {message}" if place else message, code, key)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
