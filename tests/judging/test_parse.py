import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.parse import MAX_STARTS, MAX_TAIL_CHARS, Parsed, parse_reply
from judging.records import UNSCORED_REASONS, Scale

FIVE = Scale(1, 5)
MEGA = 1_000_000


def told(reply: str, scale: Scale = FIVE, aspect: str = "fluency") -> tuple[float | None, str | None]:
    return parse_reply(reply, aspect, scale)[:2]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"fluency_score": 4}', 4),
        ('{"score": 4}', 4),
        ('{"Fluency_Score": 4}', 4),
        ('{"reason": "It reads well.", "fluency_score": 4}', 4),
        ('{"fluency_score": 4, "reason": "It reads well."}', 4),
        ('{"fluency_score": "4"}', 4),
        ('{"fluency_score": " 4 "}', 4),
        ('{"fluency_score": 4.5}', 4.5),
        ('{"fluency_score": 4e0}', 4),
        ('{\n  "fluency_score": 4\n}\n', 4),
        ('```json\n{"fluency_score": 4}\n```', 4),
        ('```\n{"fluency_score": 4}```  \n', 4),
        ('Here is my verdict: {"fluency_score": 4}', 4),
        ('In {braces} first. {"fluency_score": 4}', 4),
        ('{"fluency_score": 1} No, wait: {"fluency_score": 4}', 4),  # the end counts
        ('{"fluency_score": 4, "coherence_score": 2}', 4),  # another aspect's score is not ours
        ('{"fluency_score": 4, "detail": {"score": 1}}', 4),  # the outer object is the verdict
        ('{"reason": "a \\"score\\": 1 } inside", "fluency_score": 4}', 4),
        ("4", 4),
        (" 4.5\n", 4.5),
        ("Score: 4", 4),
        ("score = 4", 4),
        ("SCORE: 4", 4),
        ("Rating: 4", 4),
        ("Overall score: 4", 4),
        ("fluency_score: 4", 4),
        ("Fluency score: 4", 4),
        ("Score for fluency: 4", 4),
        ("My score: 4", 4),
        ("Final score: 4/5", 4),
        ("Final verdict: 4", 4),
        ("Overall rating: 4", 4),
        ("Coherence score: 2\nScore: 4", 4),
        ("Fluency score: 4\nScore: 4", 4),
        ('{"Fluency Score": 4}', 4),
        ('{"rating": 4}', 4),
        ('{"overall_score": 4, "confidence": 5}', 4),
        ('{"final_score": 4}', 4),
        ('{"fluency_score": 4, "overall_score": 2}', 4),  # the aspect's own counts
        ('{"score": 4, "confidence_score": 1, "previous_score": 2}', 4),
        ('{"score": 4, "max_score": 5}', 4),
        ("<think>Score: 2</think>\nScore: 4", 4),
        ("Score: 2?\n</think>\n\nScore: 4", 4),  # the chat template had opened it
        ('<THINKING>{"score": 2}</THINKING>{"score": 4}', 4),
        ("[THINK]Score: 2[/THINK]Score: 4", 4),
        ("<seed:think>2</seed:think>4", 4),
        ("\u25c1think\u25b72\u25c1/think\u25b74", 4),
        ("<|channel|>analysis<|message|>Score: 2<|end|><|start|>assistant<|channel|>final<|message|>Score: 4", 4),
        ('{"reason": "It shows a <think> tag.", "score": 4}', 4),  # quoted, not thought
        ("<think>the <think> tag</think>\nScore: 4", 4),  # the last end counts
        ("<think>x</think><answer>Score: 4</answer>", 4),
        ("<|START_THINKING|>2<|END_THINKING|>Score: 4", 4),
        ("analysisScore: 2assistantfinalScore: 4", 4),
        ("2 < 3 and the reason is > 1.\nScore: 4", 4),
        ("Score: 4<|im_end|>", 4),
        ('{"fluency_score": 4}</s>', 4),
        ("4/5", 4),
        ("4.", 4),
        ("**4**", 4),
        ("Rating: [[4]]", 4),
        ("- Score: 4", 4),
        ("Score: **4**/5", 4),
        ("Score: 4 out of 5", 4),
        ("Score (1-5): 4", 4),
        ('{"fluency_score": "4/5"}', 4),
        ('{"aspect": "Fluency", "score": 4}', 4),
        ('{"score": 4, "scale": "1-5"}', 4),
        ("## Fluency\nScore: 4", 4),
        ("**Overall**\nScore: 4", 4),
        ("On a scale of 1 to 5:\nScore: 4", 4),
        ("**Score:** 4", 4),
        ("**Score: 4**", 4),
        ("## Score: 4", 4),
        ("Score: 4.", 4),
        ("Score: 4.0", 4),
        ("Score: 4/5", 4),
        ("Overall score: 4 / 5", 4),
        ("Score: 4/5.0", 4),
        ("It reads well.\nNothing is wrong.\n\nScore: 4", 4),
        ("Score: 1\nOn second thought:\nScore: 4", 4),
        ("It reads well.\r\nScore: 4\r\n", 4),
        ("```\nScore: 4\n```", 4),
    ],
)
def test_forms_that_are_read(reply: str, score: float) -> None:
    assert told(reply) == (score, None)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n ",
        "```",
        "A good text.",
        "I give it 4",
        "four",
        "Score: four",
        "Score: <a whole number from 1 to 5>",
        "Score:",
        "4 5",
        "4\n5",
        "1 2 3 4 5",
        "4,5",
        "+4",
        "0x4",
        "Score: 4\nI hope this helps.",  # the score does not end the reply
        "Score: 4 because it reads well",
        "Score: 4 or 5",
        "Score: 4-5",
        "My very own score: 4",
        "Coherence score: 4",  # another aspect's
        "Fluency score: 4\nCoherence score: 2",
        "Score: 2\nConfidence score: 5",
        "Score: 2\nMaximum score: 5",
        "Score: 2\nPrevious rating: 4",
        "Score: 2\nReference score = 5",
        "Score: 2\nScore threshold: 4",
        '{"max_score": 4}',
        "## Fluency\nScore: 4\n\n## Coherence\nScore: 2",
        "Fluency:\nScore: 4\nCoherence:\nScore: 2",
        "Confidence:\nScore: 5",
        "Previous\nRating: 4",
        '{"aspect": "coherence", "score": 2}',
        '{"criterion": "Coherence", "reason": "r", "score": 2}',
        '{"aspect": "fluency", "score": 4}\n{"aspect": "coherence", "score": 2}',
        "Fluency: 4",
        '{"confidence": 4}',
        '{"previous_rating": 4}',
        '{"fluency_score": 4} I hope this helps.',
        '{"fluency_score": 4',
        '{"fluency_score": }',
        '{"fluency_score": <a whole number from 1 to 5>}',
        "{'fluency_score': 4}",
        "{}",
        "}",
        '{"coherence_score": 4}',  # another aspect's
        '{"fluency": 4}',
        '{"detail": {"fluency_score": 4}}',  # not where it was asked for
        '{"fluency_score": {"score": 4}}',
        '{"fluency_score": [4]}',
        '{"fluency_score": null}',
        '{"fluency_score": true}',  # a boolean is not 1
        '{"fluency_score": false}',
        '{"fluency_score": "four"}',
        '{"fluency_score": ""}',
        '[{"fluency_score": 4}]',
        '{"fluency_score": 4}}',
        '{"fluency_score": 4} {}',  # an object without a score ends the reply
        "²",  # a superscript is no digit
        "NaN",
        "Infinity",
        "-inf",
    ],
)
def test_anything_else_is_unparsed(reply: str) -> None:
    assert told(reply) == (None, "unparsed")


@pytest.mark.parametrize(
    "reply",
    [
        "0",
        "6",
        "-4",
        "5.01",
        "44",
        "Score: 0",
        "Score: 6",
        "Score: 100",
        "Score: -1",
        "Score: 4/10",  # another scale: 4 of 10 is not 4 of 5
        "Score: 80/100",
        "Score: 5/4",
        "Score: 6/5",
        '{"score": 4, "max_score": 10}',
        '{"score": 4, "out_of": 10}',
        '{"score": 4, "out_of": "10"}',
        '{"score": 4, "maxScore": 10}',
        '{"score": 4, "max_rating": 10}',
        '{"score": 4, "scale": "1-10"}',
        '{"score": 4, "scale": [0, 10]}',
        '{"score": 4, "scale": {"min": 0, "max": 10}}',
        '{"score": "4/10"}',
        "4/10",
        "Score: 4 out of 10",
        "Maximum score: 10\nScore: 4",
        "On a scale of 1 to 10:\nScore: 4",
        "(out of 10)\nScore: 4",
        '{"fluency_score": 0}',
        '{"fluency_score": 5.5}',
        '{"fluency_score": "9"}',
        '{"fluency_score": -3}',
        '{"fluency_score": NaN}',
        '{"fluency_score": Infinity}',
        '{"fluency_score": -Infinity}',
        '{"fluency_score": 1e400}',
        '{"fluency_score": ' + "9" * 4000 + "}",  # an int beyond every float
        "9" * 4000,
    ],
)
def test_a_number_beyond_the_scale_is_never_moved_onto_it(reply: str) -> None:
    assert told(reply) == (None, "off_scale")


def test_the_scale_decides() -> None:
    assert told("0", Scale(0, 1)) == (0, None)
    assert told("-1", Scale(-1, 1)) == (-1, None)
    assert told("64", Scale(0, 100)) == (64, None)
    assert told("Score: 4/10", Scale(1, 10)) == (4, None)
    assert told("Score: 1/5", Scale(0, 1)) == (None, "off_scale")


@pytest.mark.parametrize(
    "reply",
    [
        '{"fluency_score": 4, "fluency_score": 4}',
        '{"fluency_score": 1, "fluency_score": 5}',
        '{"score": 2, "fluency_score": 4}',
        '{"fluency_score": 4, "FLUENCY_SCORE": 4}',
        '{"rating": 4, "final_score": 2}',
        "Fluency score: 4\nOverall score: 2",
        "Fluency: 4\nCoherence: 2\nOverall score: 3",
        "**Fluency:** 4/5\n**Overall score:** 3",
        '{"fluency": 4, "coherence": 2, "overall_score": 3}',
        '{"fluency": {"score": 4}, "score": 3}',
        '{"score": null, "score": 4}',
    ],
)
def test_two_scores_are_ambiguous(reply: str) -> None:
    assert told(reply) == (None, "ambiguous")


@pytest.mark.parametrize(
    "reply",
    [
        "<think>\nOne could say\nScore: 2",
        "<think>Maybe.\nScore: 2\nBut the tone is fine, so\nScore: 4",
        '<think>A draft: {"fluency_score": 2}',
        "<think >Score: 2",
        "<Reasoning>Score: 2",
        "[THINK]Score: 2",
        "<|START_THINKING|>Maybe.\nScore: 2",
        "<|channel>thought\nScore: 2",
        "<longcat_think>Score: 2",
        "<seed:cot_budget_reflect>Score: 2",
        "<|inner_prefix|>Score: 2",
        "<unused94>thought\nScore: 2",
        '<details type="reasoning" done="false">\nScore: 2',
        "<chain_of_thought>Score: 2",
        "<antThinking>Score: 2",
        "<|begin\u2581of\u2581thinking|>Score: 2",
        "[REASONING]Score: 2",
        "analysisWe need a score.\nScore: 2",
        "<think>a</think><think>Score: 2",
        "<|channel|>analysis<|message|>Score: 2",
        "I begin.\n<thinking>\n4",
    ],
)
def test_thinking_that_does_not_end_is_cut_off(reply: str) -> None:
    assert told(reply) == (None, "cut_off")


@pytest.mark.parametrize("aspect", ["factual-consistency", "factual consistency", "factual_consistency"])
def test_an_aspect_of_several_words_is_found_however_it_is_joined(aspect: str) -> None:
    for key in (f"{aspect}_score", "factual_consistency_score", "Factual Consistency Score", "factualConsistencyScore"):
        assert told(json.dumps({"reason": "r", key: 4}), aspect=aspect) == (4, None)
    assert told("Factual consistency score: 4", aspect=aspect) == (4, None)


def test_digits_of_other_scripts_are_digits() -> None:
    assert told("٤") == (4, None)  # Arabic-Indic 4
    assert told("Score: ४") == (4, None)  # Devanagari 4
    assert told('{"score": "４"}') == (4, None)  # full-width 4
    assert told("٩") == (None, "off_scale")
    assert told('{"score": ٤}') == (None, "unparsed")  # JSON knows the ten ASCII digits alone


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"reason": "Clear.", "fluency_score": 4}', "Clear."),
        ('{"Reasoning": "Clear.", "fluency_score": 4}', "Clear."),
        ('{"explanation": "Klär 🙂", "score": 4}', "Klär 🙂"),
        ('{"reason": 7, "score": 4}', None),
        ('{"score": 4}', None),
        ("It is clear.\nIndeed.\n\nScore: 4", "It is clear.\nIndeed."),
        ("Score: 4", None),
        ("4", None),
    ],
)
def test_the_judges_words(reply: str, reason: str | None) -> None:
    assert parse_reply(reply, "fluency", FIVE) == Parsed(4, None, reason)


def test_the_reason_is_kept_where_the_score_is_not() -> None:
    assert parse_reply('{"reason": "Odd.", "score": 9}', "fluency", FIVE) == Parsed(None, "off_scale", "Odd.")
    assert parse_reply('{"reason": "Odd.", "score": true}', "fluency", FIVE) == Parsed(None, "unparsed", "Odd.")


def test_a_reason_can_always_be_written_to_a_file() -> None:
    reason = parse_reply('{"reason": "half \\ud83d of a pair", "score": 4}', "fluency", FIVE).reason
    assert reason == "half ? of a pair"
    whole = parse_reply('{"reason": "\\ud83d\\ude42", "score": 4}', "fluency", FIVE).reason
    assert whole == "🙂"


def test_only_the_tail_of_a_long_reply_is_read() -> None:
    assert told("x" * MEGA + '{"score": 4}') == (4, None)
    long_reason = json.dumps({"reason": "x" * MAX_TAIL_CHARS, "score": 4})
    assert told(long_reason) == (None, "unparsed")


def test_braces_in_the_reason_do_not_hide_the_score_nor_make_one() -> None:
    few = "{" * (MAX_STARTS - 1)
    assert told(json.dumps({"reason": few, "score": 4})) == (4, None)
    # Too many: the beginning of the object is not looked for any more, and nothing inside the string is a verdict.
    many = '{"score": 5}' * MAX_STARTS
    assert told(json.dumps({"reason": many, "score": 4})) == (None, "unparsed")


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
    assert told(reply)[0] is None
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
    assert told(reply) == (score, None)
