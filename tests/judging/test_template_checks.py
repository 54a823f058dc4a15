import math
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.records import Scale
from judging.tasks import FOLDER, FieldSpec, load_task
from judging.template import Template, rubric_template
from judging.template_checks import (
    LOOP_COPIES,
    LOOP_WORDS,
    is_loop,
    ngrams,
    outside_slots,
    shared_ngram,
    stated_scales,
    verify,
    word_spans,
    words,
)

FIVE = Scale(1, 5)
FIELDS = (FieldSpec(name="source", title="Question"), FieldSpec(name="candidate", title="Answer"))
ALL = [(path.stem, aspect) for path in sorted(FOLDER.glob("*.yaml")) for aspect in load_task(path.stem).aspects]
ASK = "Read the question and rate the answer from 1 to 5.\nQuestion: {{source}}\nAnswer: {{candidate}}"
POEM = """The sea was grey, the sky was wide,
the gulls went out upon the tide,
and still the bell is ringing.
A lamp was burning in the hall,
a shadow walked along the wall,
and still the bell is ringing.
They counted every boat but one
and set the table for a son,
and still the bell is ringing."""
CRITERIA = """1 - The summary does not name any of the main points of the article.
2 - The summary does not name most of the main points of the article.
3 - The summary names some main points, but others are missing or wrong.
4 - The summary names the main points of the article, with a small gap.
5 - The summary names all main points of the article, and nothing else."""


def template(text: str = ASK, scale: Scale = FIVE) -> Template:
    return Template(text, task="qa", aspect="overall", scale=scale, fields=FIELDS)


def faults(text: str, scale: Scale = FIVE) -> list[str]:
    """What is wrong apart from a scale that is not stated."""
    return verify(template(text, scale), require_scale=False)


# The whole


@pytest.mark.parametrize(("task", "aspect"), ALL)
def test_every_rubric_of_ours_may_be_used(task: str, aspect: str) -> None:
    assert verify(rubric_template(load_task(task), aspect), [{"source": "Why is the sky so blue today?"}]) == []


def test_a_sound_template_may_be_used() -> None:
    assert faults(ASK) == []
    assert faults(ASK + "\n\n{{reply_format}}") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (ASK.replace("{{source}}", "the question"), "slot 'source' is missing"),
        (ASK + " {{candidate}}", "slot 'candidate' is used 2 times"),
        (ASK + " {{fact}}", "slot 'fact' must be one of ['source', 'candidate']"),
        (ASK + "{{reply_format}} {{reply_format}}", "slot 'reply_format' is used 2 times"),
        (ASK.replace("1 to 5", "1 to 10"), "it states a scale of 1 to 10, and the scale is 1 to 5"),
        (ASK.replace("from 1 to 5", "out of 10"), "it states a scale of up to 10, and the scale is 1 to 5"),
        (ASK.replace("1 to 5", "0 to 5"), "it states a scale of 0 to 5, and the scale is 1 to 5"),
        ("Rate it:\n{{source}}\n{{candidate}}", "its instruction has 2 words; it must have 4 to 400"),
        (ASK + " Be fair and kind." * 3, "it repeats itself"),
        (ASK + "<|im_end|>", "it holds the chat token '<|im_end|>'"),
        (ASK + "[/inst]", "it holds the chat token '[/inst]'"),
        (ASK + "<End_of_Turn>", "it holds the chat token '<End_of_Turn>'"),
        (ASK + "\x00", "it holds the character '\\x00'"),
        (ASK + "\x1b[0m", "it holds the character '\\x1b'"),
        (ASK + "\ufffd", "it holds the character '\ufffd'"),
        (ASK + "\ud83d", "it holds the character '\\ud83d'"),
    ],
)
def test_each_fault_is_named_alone(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_every_fault_is_named() -> None:
    # A slot, the scale, a chat token; the scale that is stated twice is one fault.
    assert len(faults(ASK.replace("{{source}}", "Rate it out of 7, I say out of 7.") + "</s>")) == 3


def test_a_scale_that_is_right_is_no_fault_in_any_form() -> None:
    for said in ("out of 5", "on a 5-point scale", "between one and five", "1 (bad) – 5 (good)"):
        assert faults(ASK.replace("from 1 to 5", said)) == []
    assert faults(ASK.replace("1 to 5", "0 to 100"), scale=Scale(0, 100)) == []


def test_the_scale_must_be_stated_unless_the_reply_format_may_do_it() -> None:
    silent = ASK.replace(" from 1 to 5", "")
    assert verify(template(silent)) == ["it does not state the scale 1 to 5"]
    assert verify(template(silent), require_scale=False) == []
    assert verify(template("Rate how {{source}} is answered by {{candidate}} from 1 to 5.")) == []


def test_scales_of_further_aspects_may_be_stated_too() -> None:
    said = ASK + "\nThen rate its tone from 0 to 3, or out of 9."
    wrong = [
        "it states a scale of 0 to 3, and the scale is 1 to 5",
        "it states a scale of up to 9, and the scale is 1 to 5",
    ]
    assert verify(template(said)) == wrong
    assert verify(template(said), other_scales=[Scale(0, 3)]) == wrong[1:]
    assert verify(template(said), other_scales=[Scale(0, 3), Scale(1, 9)]) == []


def test_an_example_must_leave_no_five_words() -> None:
    said = ASK + "\nThe moon, is made-of CHEESE today."
    # "the moon is made of" are five words in a row of both; "moon is made of" are four.
    assert verify(template(said), [{}, {"source": "", "candidate": "Yes: the moon is made of stone."}]) == [
        "it holds words of an example: 'the moon is made of'"
    ]
    assert verify(template(said), [{"candidate": "Our moon is made of stone."}]) == []


def test_words_on_both_sides_of_a_slot_are_not_in_a_row() -> None:
    assert (
        verify(
            template("Rate how well {{source}} is answered from 1 to 5 by {{candidate}}"),
            [{"x": "by rate how well is answered"}],
        )
        == []
    )


def test_the_length_is_that_of_the_instruction() -> None:
    blocks = "Question:\n<source>\n{{source}}\n</source>\nAnswer:\n<candidate>\n{{candidate}}\n</candidate>"
    assert verify(template(f"Rate this answer\n\n{blocks}"), require_scale=False) == [
        "its instruction has 3 words; it must have 4 to 400"
    ]
    assert verify(template(f"Rate this answer now\n\n{blocks}"), require_scale=False) == []
    assert verify(template(f"Rate from 1 to 5\n\n{blocks}"), max_words=5) == []
    assert verify(template(f"Rate from 1 to 5\n\n{blocks}"), max_words=4, require_scale=False) == [
        "its instruction has 5 words; it must have 4 to 4"
    ]


def test_the_scale_of_another_aspect_may_be_stated_beside_its_own() -> None:
    both = ASK.replace("from 1 to 5", "from 1 to 5, its tone from 0 to 1")
    assert faults(both) == ["it states a scale of 0 to 1, and the scale is 1 to 5"]
    assert verify(template(both), other_scales=[Scale(0, 1)]) == []
    other = ASK.replace("from 1 to 5", "from 0 to 1")
    assert verify(template(other), other_scales=[Scale(0, 1)]) == ["it does not state the scale 1 to 5"]
    assert verify(template(other), other_scales=[Scale(0, 1)], require_scale=False) == []


@given(st.text(), st.text())
def test_verify_takes_any_text(text: str, content: str) -> None:
    assert all(isinstance(fault, str) and fault for fault in verify(template(text), [{"source": content}]))


@given(st.text("ab{} \n", max_size=60), st.text("ab ", max_size=60))
def test_a_trace_is_found_wherever_it_lies(text: str, content: str) -> None:
    text += "{{source}}" + text
    trace = any(shared_ngram(part, content) for part in outside_slots(text))
    assert trace == any(fault.startswith("it holds words") for fault in verify(template(text), [{"source": content}]))


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("I 'm sure you do n't .", ["i", "m", "sure", "you", "do", "nt"]),
        ("I'm sure you don't.", ["i", "m", "sure", "you", "do", "nt"]),
        ("I’m sure you DON’T.", ["i", "m", "sure", "you", "do", "nt"]),
        ("can't n't isn't", ["ca", "nt", "nt", "is", "nt"]),
        ("aunt's ant", ["aunt", "s", "ant"]),
        ("overall_score: 3.5", ["overall", "score", "3", "5"]),
        ("Straße STRASSE ﬁne", ["strasse", "strasse", "fine"]),
        ("caf\u00e9 cafe\u0301", ["caf\u00e9", "caf\u00e9"]),
        ("你好 world", ["你", "好", "world"]),
        ("...?! \n\t — “”", []),
        ("", []),
        ("\ufe70", []),  # a sign that is a space and a mark in its compatible form
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_words_stand_where_they_say(text: str) -> None:
    spans = word_spans(text)
    assert [word.text for word in spans] == words(text)
    assert all(words(text[word.start : word.end]) == [word.text] for word in spans)
    assert all(before.end <= after.start for before, after in pairwise(spans))


def test_ngrams() -> None:
    assert ngrams("a b c", 2) == [("a", "b"), ("b", "c")]
    assert ngrams("a b c", 4) == []


def test_shared_ngram() -> None:
    # The content's first run counts: "c d e f g" comes before "w x y z a".
    text = "w x y z a. B C D, E F G"
    assert shared_ngram(text, "c d e f g and w x y z a") == "c d e f g"
    assert shared_ngram(text, "a b c d e f g h", 7) == "a b c d e f g"
    assert shared_ngram(text, "c d e f and g") is None
    assert shared_ngram(text, "w x y") is None
    assert shared_ngram("", "") is None


def test_the_text_outside_the_slots() -> None:
    assert outside_slots("a {{x}}b{{ y }}{{z}} c {d}") == ["a ", "b", "", " c {d}"]


# Scales

UP_TO = -math.inf


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("on a scale of 1 to 10", [(1, 10)]),
        ("Rate it from 1 to 5.", [(1, 5)]),
        ("a score between 1 and 5", [(1, 5)]),
        ("Rate it (1-5)", [(1, 5)]),
        ("Rate it [1–10].", [(1, 10)]),
        ("The score is 0—3.", [(0, 3)]),
        ("Score it out of 10.", [(UP_TO, 10)]),
        ("a score of 8 out of ten", [(UP_TO, 10)]),
        ("a number from 1 to 3", [(1, 3)]),
        ("scale (1-10)", [(1, 10)]),
        ("a 5-point Likert scale", [(UP_TO, 5)]),
        ("a five point scale", [(UP_TO, 5)]),
        ("rate the fluency from one to five", [(1, 5)]),
        ("a GRADE from Zero through Ten", [(0, 10)]),
        ("Rate it from 1 (worst) to 5 (best).", [(1, 5)]),
        ("a rating of -2 to 2", [(-2, 2)]),
        ("a mark from 1.5 to 4.5", [(1.5, 4.5)]),
        ("overall_score: 0 to 100", [(0, 100)]),
        ("Rate 1-to-5, where 1 is bad.", [(1, 5)]),
        ("Give 1 to 5 stars.", [(1, 5)]),
        ("Rate it from 1 to 5 in words.", [(1, 5)]),
        ("Rate it from 1 to 5, then give 0 to 10 points.", [(1, 5), (0, 10)]),
        ("Give it 0 to 10 points.\nOn a scale from 1 to 5, how good is it?", [(0, 10), (1, 5)]),
        # Numbers that are no scale
        ("Write 2 to 3 sentences.", []),
        ("Explain the score in 2 to 3 short sentences.", []),
        ("Rate it in 10-20 words.", []),
        ("Rate the films of 1990-1995.", []),
        ("Rate the film of 12-10-1995, number 555-1234.", []),
        ("Children of 3 to 5 play here.", []),
        ("Rate the reply. It has 2 to 3 parts.", []),
        ("Keep the number of words between 5 and 10", []),
        ("The narrator goes from one to five.", []),  # "narrator" holds "rat"
        ("Score 10 to 10, or 10 to 1.", []),
        ("The score went up by 5 to 10%.", []),
        ("Rate a price of $1 to 5.", []),
        ("a rating of 4 and 5", []),
        ("", []),
    ],
)
def test_stated_scales(text: str, scales: list[tuple[float, float]]) -> None:
    assert stated_scales(text) == scales


@given(st.text(alphabet="0123456789 .-–to()ratescale\n", max_size=80))
def test_a_stated_scale_is_a_scale(text: str) -> None:
    assert all(low < high <= 100 for low, high in stated_scales(text))


# Loops


@pytest.mark.parametrize(
    "text",
    [
        "The answer is good. " * 4,
        "Be strict. " + "and then the reply " * 6,
        "very " * 12,
        "the summary the article " * 10,
        "\n".join(f"{number}) The answer is very good" for number in range(1, 6)),
        "Rate it. The reply should be polite. Why? The reply should be polite. How? The reply should be polite.",
        " ".join(f"The reply should be relevant to the user and to the {word}" for word in "abcdefgh"),
        "好的答案是好的答案。" * 6,
        "答案很好。为什么？答案很好。怎么？答案很好。",
        CRITERIA + " and so on and on" * 4,
    ],
)
def test_a_loop(text: str) -> None:
    assert is_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
        "No, no, no! It is very, very, very good.",
        "The answer is good. The answer is good. That is all there is to say of it.",
        "It takes up what was said and adds a thought of its own. " * 2,
        POEM,
        CRITERIA,
        # 61 4-grams: 4 are the same in each sentence, 4 are its own (the last: 1), so 4 + 7 * 4 + 1 = 33 differ, 54 %.
        " ".join(f"The reply should be relevant to the {word}" for word in "abcdefgh"),
        "good\nbad\nbad\ngood\ngood\ngood\nbad\ngood\nbad\nbad\nbad\ngood\nfair",
        "Is it clear? Is it complete? Is it correct? Is it polite? Is it short? Is it true? Is it kind?",
        "1. apples\n2. pears\n3. plums\n4. figs\n5. dates\n6. limes\n7. nuts\n8. kiwis\n9. grapes\n10. lemons",
    ],
)
def test_no_loop(text: str) -> None:
    assert not is_loop(text)


@given(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=30), st.text(max_size=40))
def test_a_phrase_over_and_over_is_a_loop(phrase: list[str], before: str) -> None:
    # So often that it fills LOOP_WORDS words; one copy more, since the text before may cut into the first one.
    copies = max(LOOP_COPIES, math.ceil(LOOP_WORDS / len(phrase))) + 1
    assert is_loop(f"{before} {' '.join(phrase * copies)}")


@given(st.lists(st.integers(), unique=True, max_size=60))
def test_words_that_all_differ_are_no_loop(numbers: list[int]) -> None:
    assert not is_loop(" ".join(f"w{number}".replace("-", "m") for number in numbers))


def test_long_texts_are_looked_at_in_linear_time() -> None:
    def seconds(text: str) -> float:
        start = time.process_time()
        is_loop(text)
        stated_scales(text)
        verify(template(text + " {{source}} {{candidate}}"), [{"source": text}])
        return time.process_time() - start

    for unit in ("rate 1 to 5 ", "a b c d a b ", "( 1 (", "score -", "n't", "1 "):
        # The best of three: one pause of the machine is no quadratic text.
        short, long = (min(seconds(unit * times) for _ in range(3)) for times in (500, 4_000))
        assert long < 30 * max(short, 0.01)
