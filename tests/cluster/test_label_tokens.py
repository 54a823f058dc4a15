"""Which replies are one label, and what its token's alternatives are worth."""

import math
from typing import Any

import pytest

from cluster.label_tokens import CutOff, NoLabel, NoLogprobs, label_logprobs

LABELS = ("1", "2", "3", "4", "5")


def told(*tokens: str, reply: str | None = None, **more: Any) -> list[float]:
    """Probabilities of the labels; each token has half of its mass on itself, the rest on nothing listed."""
    listed = [
        {"token": one, "logprob": math.log(0.5), "top_logprobs": [{"token": one, "logprob": math.log(0.5)}]}
        for one in tokens
    ]
    found = label_logprobs("".join(tokens) if reply is None else reply, {"content": listed}, LABELS, **more)
    return [0.0 if math.isnan(one) else round(math.exp(one), 6) for one in found]


@pytest.mark.parametrize(
    "tokens",
    [
        ("4",),
        (" 4",),
        ("4", "."),
        ("Score", ":", " 4"),
        ("score", " =", " ", "4"),
        ("**", "Score", ":", "**", " ", "4"),
        ("**", "4", "**"),
        ('"', "4", '"'),
        ("`4", "`"),
        ("\n", "\n", "Score", ":", " ", "4", "\n"),
        ("4", "\n\n", "The", " text", " is"),
        ("Score", ":", " 4", "\n\n", "**", "Reason"),
        ("٤",),  # Arabic-Indic 4
        ("４",),  # full-width 4
    ],
)
def test_a_reply_that_is_one_label(tokens: tuple[str, ...]) -> None:
    assert told(*tokens) == [0, 0, 0, 0.5, 0]


@pytest.mark.parametrize(
    "tokens",
    [
        ("Score", ":", " ", "1", "0"),
        ("Score", ":", " -", "1"),
        ("-", "1"),
        ("4", "/", "1", "0"),
        ("4", "/", "5"),
        ("2", ".", "5"),
        ("2", ",", "5"),
        ("3", "-", "4"),
        ("3", " or", " 4"),
        ("2", "3"),
        ("1", ".", " The", " answer"),
        ("1", ".", "\n", "The", " answer"),
        ("1", ")", " The"),
        ("2", " points", " are", " missing"),
        ("5", "-point", " scale", ":", " 2"),
        ("Out", " of", " 5", ":", " 2"),
        ("On", " a", " scale", " of", " ", "1", " to", " "),
        ("Maximum", ":", " 5"),
        ("Confidence", ":", " 5"),
        ("4", "\n", "5"),
        ("4", "\n", "/", "1", "0"),
        ("1", "\n", "2", "\n", "3"),
        ("4", "th"),
        ("4", "%"),
        ("~", "4"),
        ("<", "4"),
        ("6",),
        ("0",),
        ("four",),
        ("²",),
        ("I", " cannot"),
    ],
)
def test_a_reply_that_is_something_else(tokens: tuple[str, ...]) -> None:
    with pytest.raises(NoLabel):
        told(*tokens)


def test_every_spelling_counts_and_what_is_no_label_does_not() -> None:
    top = {
        "4": 0.3,
        " 4": 0.2,
        "▁4": 0.1,
        "Ġ4": 0.1,
        "**4": 0.05,
        "3": 0.05,
        "44": 0.04,
        "4.5": 0.03,
        "-4": 0.02,
        "Four": 0.01,
    }
    entry = {
        "token": "4",
        "logprob": math.log(0.3),
        "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.items()],
    }
    found = label_logprobs("4", {"content": [entry]}, LABELS)
    # 4: 0.3 + 0.2 ("▁4" and "Ġ4" are " 4" again: the same text counts once) + 0.05.
    assert [0.0 if math.isnan(one) else round(math.exp(one), 6) for one in found] == [0, 0, 0.05, 0.55, 0]


def test_bytes_spell_a_token_where_its_name_does_not() -> None:
    entry = {
        "token": "token_id:19",
        "logprob": -0.1,
        "bytes": [32, 52],
        "top_logprobs": [{"token": "token_id:19", "bytes": [32, 52], "logprob": -0.1}],
    }
    found = label_logprobs("4", {"content": [entry]}, LABELS)
    assert found[3] == pytest.approx(-0.1)
    assert told("<0x34>", reply="4") == [0, 0, 0, 0.5, 0]


def test_the_thinking_is_no_part_of_the_answer() -> None:
    assert told("<think>", "2", " or", " 3", "</think>", "\n\n", "4") == [0, 0, 0, 0.5, 0]
    assert told("2", "?", "</think>", "4") == [0, 0, 0, 0.5, 0]
    assert told("2", " or", " 3", "4", reply="4", has_reasoning=True) == [0, 0, 0, 0.5, 0]
    with pytest.raises(CutOff):
        told("<think>", "4")
    with pytest.raises(CutOff):
        told("[THINK]", "4")


def test_tokens_that_spell_another_reply_tell_nothing() -> None:
    assert told("4", "<|im_end|>", reply="4") == [0, 0, 0, 0.5, 0]
    for tokens in (("-", "4"), ("4", "2"), ("3",), ("I", " say", " 4")):
        with pytest.raises(NoLogprobs):
            told(*tokens, reply="4")


def test_a_label_at_the_limit_may_go_on() -> None:
    with pytest.raises(CutOff):
        told("Score", ":", " 1", is_cut=True)
    assert told("**", "1", "**", is_cut=True) == [0.5, 0, 0, 0, 0]


def test_the_requests_own_prefix_is_the_agreed_start() -> None:
    assert told("Verdict", ":", " 4", reply_prefix="Verdict: ") == [0, 0, 0, 0.5, 0]
    with pytest.raises(NoLabel):
        told("Verdict", ":", " 4")


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"tokens": ["4"], "token_logprobs": [-0.1]},
        [-0.1],
        {"content": [{"token": "4", "logprob": None, "top_logprobs": [{"token": "4", "logprob": None}]}]},
        {"content": [{"token": "4", "logprob": -0.1}]},
        {"content": [{"token": "4", "logprob": 900.0, "top_logprobs": [{"token": "4", "logprob": 900.0}]}]},
        {"content": [{"token": "4", "logprob": True, "top_logprobs": [{"token": "4", "logprob": float("nan")}]}]},
    ],
)
def test_no_log_probabilities(logprobs: Any) -> None:
    with pytest.raises(NoLogprobs, match="log-probabilities"):
        label_logprobs("4", logprobs, LABELS)
