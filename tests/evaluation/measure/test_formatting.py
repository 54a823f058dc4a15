"""Numbers, shares and names as tables and sentences write them."""

import math

import pytest

from evaluation.measure.formatting import one_line, part_title, share, with_interval


@pytest.mark.parametrize(
    ("value", "low", "high", "written"),
    [
        (0.48, 0.31, 0.65, ".48 [.31, .65]"),  # half width .17
        (0.92, 0.90, 0.94, ".92 [.90, .94]"),  # .02
        (0.004, 0.0037, 0.0043, ".0040 [.0037, .0043]"),  # .0003
        (0.2, 0.003, 0.397, ".200 [.003, .397]"),  # the lower end is above 0
        (0.2, -0.0003, 0.4003, ".2000 [-.0003, .4003]"),
        (1.0, 1.0, 1.0, "1.00 [1.00, 1.00]"),
        (1.0, 1 - 1e-8, 1 + 1e-8, "1.00 [1.00, 1.00]"),  # no width but that of the computation
        (0.004, 0.004, 0.004, ".004 [.004, .004]"),
        (73.2, 60.0, 86.4, "73.20 [60.00, 86.40]"),
        (4.0, None, None, "4.00 [–, –]"),
        (None, None, None, "– [–, –]"),
    ],
)
def test_digits_follow_the_width(value: float | None, low: float | None, high: float | None, written: str) -> None:
    assert with_interval({"value": value, "low": low, "high": high}) == written


@pytest.mark.parametrize(
    ("value", "rounded", "floored"),
    [
        (1, "100%", "100%"),
        (0, "0%", "0%"),
        (499 / 500, ">99%", "99%"),
        (1 / 500, "<1%", "<1%"),
        (0.9499, "95%", "94%"),
        (0.95, "95%", "95%"),
        (0.29, "29%", "29%"),  # 100 * .29 is 28.999999999999996
        (math.nan, "–", "–"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_none(value: float, rounded: str, floored: str) -> None:
    assert (share(value), share(value, is_floored=True)) == (rounded, floored)


def test_a_name_is_one_line_that_turns_nothing_round() -> None:
    assert one_line("a\n\tb  c") == "a b c"
    assert one_line("B\u202e\x1b[1m\x9b\x07") == "B\\u202e\\x1b[1m\\x9b\\x07"
    long = one_line("a" * 500 + "z" * 39)
    assert len(long) == 80 and long == f"{'a' * 40}…{'z' * 39}"


def test_the_title_of_a_part() -> None:
    assert part_title("qa", "", "over\nall\u2067") == "qa / records / over all\\u2067"
    assert part_title("qa", "d", "overall", (0, 0.5)) == "qa / d / overall (0 to 0.5)"
