"""What the values of a column are: numbers, texts, chats; whether they repeat."""

from decimal import Decimal
from typing import Any

import pytest

from judging.column_profile import as_number, profiles

CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((4, 4), (0.5, 0.5), ("4", 4), (" 4 ", 4), (True, None), ("nan", None), ("x", None), ([], None)),
        *((Decimal("3.5"), 3.5), (Decimal("NaN"), None), (Decimal("sNaN"), None)),
    ],
)
def test_numbers(value: Any, number: float | None) -> None:
    assert as_number(value) == number


def test_a_profile() -> None:
    columns = profiles([{"a": 1, "b": "x y z"}, {"a": None, "b": "x y z"}, {"a": "3", "c": {"k": 2}}])
    a, b, c = columns.values()
    assert (a.num, a.low, a.high, a.is_numeric, a.is_text) == (2, 1, 3, True, True)
    assert (b.is_free_text, b.is_unique, b.different, b.example) == (True, False, 0.5, "x y z")
    assert (c.num_objects, list(c.keys), c.low, c.is_numeric) == (1, ["k"], 2, False)


def test_one_cell_of_another_kind_changes_no_column() -> None:
    """One of 20 is 5 %, which `init` allows for; two are more."""
    texts, chats = profiles({"a": "x y z", "b": CHAT} for _ in range(19)).values()
    for one in (texts, chats):
        one.add({"k": 1})
    assert texts.is_text and chats.is_chat
    for one in (texts, chats):
        one.add({"k": 1})
    assert not texts.is_text and not chats.is_chat


def test_values_that_repeat_late_repeat() -> None:
    """More values than are remembered: each comes twice, side by side or all once and then all again."""
    pairs = profiles({"id": n // 2} for n in range(12_000))["id"]
    assert not pairs.is_unique and pairs.different == 5000 / 9999
    blocks = profiles({"id": n % 6000} for n in range(12_000))["id"]
    assert not blocks.is_unique and blocks.different == 1.0
    assert profiles({"id": n} for n in range(12_000))["id"].is_unique
