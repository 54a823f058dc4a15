"""Which replies hold a score, and the reason why others are unscored."""

import json

import pytest

from judging.parse import Parsed, parse_reply
from judging.records import Scale

FIVE = Scale(1, 5)


def parsed(reply: str, scale: Scale = FIVE, aspect: str = "fluency") -> tuple[float | None, str | None]:
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
    assert parsed(reply) == (score, None)


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
    assert parsed(reply) == (None, "unparsed")


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
    assert parsed(reply) == (None, "off_scale")


def test_the_scale_decides() -> None:
    assert parsed("0", Scale(0, 1)) == (0, None)
    assert parsed("-1", Scale(-1, 1)) == (-1, None)
    assert parsed("64", Scale(0, 100)) == (64, None)
    assert parsed("Score: 4/10", Scale(1, 10)) == (4, None)
    assert parsed("Score: 1/5", Scale(0, 1)) == (None, "off_scale")


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
    assert parsed(reply) == (None, "ambiguous")


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
    assert parsed(reply) == (None, "cut_off")


@pytest.mark.parametrize("aspect", ["factual-consistency", "factual consistency", "factual_consistency"])
def test_an_aspect_of_several_words_is_found_however_it_is_joined(aspect: str) -> None:
    for key in (f"{aspect}_score", "factual_consistency_score", "Factual Consistency Score", "factualConsistencyScore"):
        assert parsed(json.dumps({"reason": "r", key: 4}), aspect=aspect) == (4, None)
    assert parsed("Factual consistency score: 4", aspect=aspect) == (4, None)


def test_digits_of_other_scripts_are_digits() -> None:
    assert parsed("٤") == (4, None)  # Arabic-Indic 4
    assert parsed("Score: ४") == (4, None)  # Devanagari 4
    assert parsed('{"score": "４"}') == (4, None)  # full-width 4
    assert parsed("٩") == (None, "off_scale")
    assert parsed('{"score": ٤}') == (None, "unparsed")  # JSON knows the ten ASCII digits alone


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
