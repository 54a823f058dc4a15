"""The one exception for invalid user input. It imports nothing and does no I/O."""

from __future__ import annotations


class InputError(ValueError):
    """The user's input is invalid. Commands exit with 2, the HTTP interface answers 400.

    Args:
        message: what is wrong, where, and what to do about it, in at most two sentences.
        code: what is wrong, as a snake_case word that does not change with the wording: `unknown_model`.
        key: where it is wrong: the path in the configuration (`evaluate.judges.x`) or the field of a record
            (`scores`); empty where it is neither, such as a missing file.
    """

    exit_code = 2

    def __init__(self, message: str, *, code: str = "invalid_value", key: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.key = key
