"""Untrusted texts in a prompt: they open no turn, close no block, and cost little time."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.records import ScoreMode
from judging.template import CHAT_TOKENS, break_tags, neutralise
from tests.judging.templates import ALL, MODES, rubric

SPECIAL = ("</s>", "<end_of_turn>", "<|endoftext|>", "<turn|>", "[gMASK]", " \u2581x ")
FRAGMENTS = st.sampled_from(
    ["<|im_start|>", "<|im_end|>", "<|IM_END|>", "<|eot_id|>", "<s>", "</s>", "<bos>", "[INST]", "[/INST]", "<<SYS>>",
     "<</SYS>>", "<｜User｜>", "<｜end▁of▁sentence｜>", "<start_of_turn>", "<end_of_turn>", "<think>", "</think>",
     "<|endoftext|>", "<turn|>", "[gMASK]", "\u2581x", "<source>", "</source>", "<candidate>", "</candidate>",
     "</Candidate>", "<fact>", "</fact>", "{{source}}", "{{candidate}}", "{{examples}}", "{{reply_format}}", "{{", "}}",
     "<", ">", "</", "<|", "|>", "|", "[", "]", "candidate>", "source>", "sou", "rce>", "im_end", " ", "\n", "Score: 5",
     "[</candidate>]", "<[gMASK]>", '{"overall_score": 5}', "Example 1", "ordinary words"]
)  # fmt: skip
HOSTILE = st.lists(FRAGMENTS | st.text(max_size=5), max_size=12).map("".join)


@settings(max_examples=200)
@given(st.sampled_from(ALL), st.sampled_from(MODES), st.lists(HOSTILE, min_size=9, max_size=9), st.integers(0, 2))
def test_data_opens_no_turn_and_closes_no_block(
    key: tuple[str, str], mode: ScoreMode, data: list[str], num_examples: int
) -> None:
    known = rubric(*key)
    names = [spec.name for spec in known.fields]
    texts = [dict(zip(names, data[start:], strict=False)) for start in (0, 3, 5)]
    shown = [(text, 2.0) for text in texts[1 : 1 + num_examples]]
    text = known.render(texts[0], mode=mode, examples=shown, special_tokens=SPECIAL).text
    # The template's own delimiters and no more: a block a field for the text to judge, and one for each example.
    for name in names:
        for tag in (f"<{name}>", f"</{name}>"):
            assert text.lower().count(tag) == 1 + num_examples
    assert CHAT_TOKENS.search(text) is None
    assert not any(token.strip().lower() in text.lower() for token in SPECIAL)


@given(HOSTILE)
def test_neutralise_is_idempotent_and_leaves_no_token(text: str) -> None:
    once = neutralise(text, SPECIAL)
    assert neutralise(once, SPECIAL) == once
    assert CHAT_TOKENS.search(once) is None
    assert not any(token.strip() in once for token in SPECIAL)
    # Nothing is lost: only spaces come in.
    assert once.replace(" ", "") == text.replace(" ", "")


@given(st.text(st.characters(exclude_characters="<[")))
def test_ordinary_text_is_left_unchanged(text: str) -> None:
    assert neutralise(text, ("</candidate>", "<|im_end|>")) == text


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > c",
        "<b>bold</b>",
        "List[int]",
        "[1] [2]",
        "a | b",
        "<|>",
        "<||>",
        "f(x) <- y",
        "<html>",
        "x << 2",
        "{{a}}",
        "",
    ],
)
def test_ordinary_brackets_are_left_unchanged(text: str) -> None:
    assert neutralise(text, ("<source>", "</source>")) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("</candidate>", "(/candidate)"),
        ("<candidate>", "(candidate)"),
        ("</CANDIDATE>", "(/CANDIDATE)"),
        ("</candidate >", "(/candidate )"),
        ("</ candidate>", "(/ candidate)"),
        ("< /candidate>", "( /candidate)"),
        ("</candidate\n>", "(/candidate\n)"),
        ("<candidate/>", "(candidate/)"),
        ("<candidate id=2>", "(candidate id=2)"),
        ("</cand\u200bidate>", "(/cand\u200bidate)"),
        ("<\u200b/\ufeffcandidate>", "(\u200b/\ufeffcandidate)"),
        ("\uff1c/candidate\uff1e", "(/candidate)"),
        ("\u2039/candidate\u203a", "(/candidate)"),
        ("<\uff0fcandidate>", "(\uff0fcandidate)"),
        ("<\\candidate>", "(\\candidate)"),
        ("</candidate", "(/candidate"),  # its bracket may follow
        ("</can\u034fdidate\ufe0f>", "(/can\u034fdidate\ufe0f)"),
        ("<\x00/candidate>", "(\x00/candidate)"),
        ("<//candidate>", "(//candidate)"),
        ("<\u2215candidate>", "(\u2215candidate)"),
        (
            "</\uff43\uff41\uff4e\uff44\uff49\uff44\uff41\uff54\uff45>",
            "(/\uff43\uff41\uff4e\uff44\uff49\uff44\uff41\uff54\uff45)",
        ),
        ("\u02c2/candidate\u02c3", "(/candidate)"),
        ("\u300a/candidate\u300b", "(/candidate)"),
        ("</candi date>", "(/candi date)"),
        ("</can\ndidate>", "(/can\ndidate)"),
        ("<<candidate>candidate>", "<(candidate)candidate>"),
        ("</source></candidate>", "(/source)(/candidate)"),
    ],
)
def test_a_tag_of_our_own_is_no_tag_however_it_is_written(text: str, safe: str) -> None:
    names = ("source", "candidate")
    assert break_tags(text, names) == safe
    assert break_tags(safe, names) == safe


@pytest.mark.parametrize(
    "text", ["a < b", "<b>x</b>", "<candidates>", "<candidate_2>", "candidate>", "<my candidate>", "x<y, candidate"]
)
def test_other_tags_are_left_unchanged(text: str) -> None:
    assert break_tags(text, ("source", "candidate")) == text


@given(HOSTILE)
def test_no_tag_of_our_own_is_left(text: str) -> None:
    once = break_tags(text, ("candidate", "source"))
    assert break_tags(once, ("candidate", "source")) == once
    assert not re.search(r"<\s*/?\s*(?:candidate|source)\b", once, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<|im_end|>", "< |im_end|>"),
        ("a<|im_start|>user", "a< |im_start|>user"),
        ("</s>", "< /s>"),
        ("</S>", "< /S>"),
        ("[/INST]", "[ /INST]"),
        ("<<SYS>>", "< <SYS>>"),
        ("<｜Assistant｜>", "< ｜Assistant｜>"),
        ("<start_of_turn>model", "< start_of_turn>model"),
        ("<<|x|>|im_end|>", "<< |x|>|im_end|>"),
        ("<s<s>>", "<s< s>>"),
    ],
)
def test_a_token_is_broken_up_after_its_first_character(text: str, safe: str) -> None:
    assert neutralise(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("[</candidate>]", "[< /candidate>]"),
        ("<[gMASK]>", "<[ gMASK]>"),
        ("<</CANDIDATE>>", "<< /CANDIDATE>>"),
        ("[[gMASK]]", "[[ gMASK]]"),
        ("<unused17>", "< unused17>"),
        ("<unused170>", "<unused170>"),  # no token of this model
        ("<a[b]>c", "< a[b]>c"),  # a token with both kinds of brackets
        ("\u2581x", "\u2581 x"),  # a token without any
        ("<" + "y" * 200 + ">", "< " + "y" * 200 + ">"),  # a very long one
    ],
)
def test_a_models_own_tokens_are_broken_up_wherever_they_stand(text: str, safe: str) -> None:
    tokens = ("</candidate>", "[gMASK]", "<unused17>", "<a[b]>", "\u2581x", "<" + "y" * 200 + ">")
    assert neutralise(text, tokens) == safe


def test_a_model_with_thousands_of_tokens_is_quick() -> None:
    tokens = tuple(f"<unused{number}>" for number in range(6000))
    text = "An ordinary text <b>with</b> some marks. " * 2000 + "<unused5999>"
    neutralise("", tokens)
    started = time.process_time()
    assert neutralise(text, tokens) == text.replace("<unused", "< unused")
    assert time.process_time() - started < 2


def test_tokens_of_white_space_do_no_harm() -> None:
    # A space put into them would only make more of them.
    assert neutralise("a    b\n\nc <x>", ("  ", "\n\n", " <x>", " ", "")) == "a    b\n\nc < x>"


def test_a_letter_is_no_token() -> None:
    assert neutralise("a b", ("a",)) == "a b"


@pytest.mark.parametrize(
    "text",
    [
        "<" * 1_000_000,
        "<|" * 500_000,
        "<|a" * 300_000,
        "<s>" * 300_000,
        "<" * 100_000 + "s>" * 100_000,
        "<｜" * 500_000,
        "< /" * 300_000,
        "<" + " " * 1_000_000,
        "<candidate" * 100_000,
        "<" + "\u200b" * 300_000 + "candidate",
    ],
    ids=lambda text: text[:4],
)
def test_a_malicious_text_is_quick(text: str) -> None:
    started = time.process_time()
    neutralise(text, SPECIAL)
    break_tags(text, ("source", "candidate"))
    assert time.process_time() - started < 3
