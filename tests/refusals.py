"""`refused`: what a test expects of bad input, by the error's code and key instead of its words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.errors import UserError
from judging.errors import InputError


@contextmanager
def refused(code: str, key: str = "", *, naming: str = "") -> Iterator[None]:
    """The block must raise an `InputError` or `UserError` of that code and key.

    Args:
        code: the error's `code`.
        key: the error's `key`.
        naming: what the message must hold beside them: a value of the test's own, such as a file's name or a line
            number, never a sentence.
    """
    with pytest.raises((InputError, UserError)) as caught:
        yield
    assert (caught.value.code, caught.value.key) == (code, key), str(caught.value)
    assert naming in str(caught.value)
