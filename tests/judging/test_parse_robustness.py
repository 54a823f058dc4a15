"""Any reply is parsed without an error and in little time: long, malicious and random ones."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.parse import MAX_STARTS, MAX_TAIL_CHARS, parse_reply
from judging.records import UNSCORED_REASONS, Scale
from tests.judging.test_parse import FIVE, parsed

MEGA = 1_000_000


def test_only_the_tail_of_a_long_reply_is_read() -> None:
    assert parsed("x" * MEGA + '{"score": 4}') == (4, None)
    long_reason = json.dumps({"reason": "x" * MAX_TAIL_CHARS, "score": 4})
    assert parsed(long_reason) == (None, "unparsed")


def test_braces_in_the_reason_do_not_hide_the_score_nor_make_one() -> None:
    few = "{" * (MAX_STARTS - 1)
    assert parsed(json.dumps({"reason": few, "score": 4})) == (4, None)
    # Too many: the beginning of the object is not looked for any more, and nothing inside the string is a verdict.
    many = '{"score": 5}' * MAX_STARTS
    assert parsed(json.dumps({"reason": many, "score": 4})) == (None, "unparsed")


@pytest.mark.parametrize(
    "reply",
    [
        "{" * MEGA,
        "{" * MEGA + "}",
        '{"a":' * (MEGA // 5) + "1" + "}" * (MEGA // 5),
        "[" * MEGA + "]" * MEGA,
        '{"score": [' * (MEGA // 10) + "}",
        '{"score": "' * (MEGA // 10) + "}",
        '{"score": ' + "[" * 3000 + "]" * 3000 + "}",
        "1" * MEGA,
        "1." + "1" * MEGA + "x",
        "-" * MEGA,
        "Score: " + "1" * MEGA + "x",
        "Score: 1" + " " * MEGA + "x",
        "Score: 1/" + "9" * MEGA + "x",
        "*" * MEGA + "x",
        "_" * MEGA + "score" + "_" * MEGA + "x",
        "a" * MEGA,
        "a_" * (MEGA // 2) + "score: 4",
        "`" * MEGA,
        "\n" * MEGA + "x",
        "<think>" * (MEGA // 7),
        "< " * (MEGA // 2),
        "Score: 4\n" * (MEGA // 9) + "x",
        "final " * (MEGA // 6) + "score: 4",
    ],
    ids=lambda reply: reply[:12],
)
def test_a_malicious_reply_is_quick(reply: str) -> None:
    started = time.process_time()
    assert parsed(reply)[0] is None
    assert time.process_time() - started < 2  # all of them take less than 0.2 s on a slow core


PIECES = st.sampled_from(
    ["{", "}", "[", "]", '"', "\\", ":", ",", "```", "\n", " ", "/", "*", "_", ".", "-", "=", "4", "9", "٤", "²", "1e9",
     "<think>", "</think>",
     "NaN", "Infinity", "true", "null", "\\ud800", "\x00", "\u2028", '"score"', '"fluency_score"', '"reason"', "Score",
     "rating", "Score: 4", '{"score": 4}', '{"score": 9}', "4/5"]
)  # fmt: skip
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.lists(PIECES, max_size=25).map("".join)
SCALES = st.sampled_from([FIVE, Scale(0, 1), Scale(-2, 2), Scale(0, 100), Scale(0.5, 4.5)])


@given(ANY_TEXT, SCALES, st.sampled_from(["fluency", "score", "", "a b"]))
def test_no_reply_raises_and_every_score_is_on_the_scale(reply: str, scale: Scale, aspect: str) -> None:
    score, unscored, reason = parse_reply(reply, aspect, scale)
    assert (score is None) == (unscored is not None)
    assert unscored is None or unscored in UNSCORED_REASONS
    assert score is None or (math.isfinite(score) and score in scale)
    assert reason is None or isinstance(reason, str)


@given(st.text(st.characters(exclude_categories=())) | ANY_TEXT, st.integers(1, 5))
def test_nothing_in_a_reason_moves_the_score(reason: str, score: int) -> None:
    reply = json.dumps({"reason": reason[:200], "fluency_score": score})
    assert parsed(reply) == (score, None)
