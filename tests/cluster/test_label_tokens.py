"""Which replies are one label, and what its token's alternatives are worth."""

import math
import time
from typing import Any

import pytest

from cluster.label_tokens import CutOff, NoLabel, NoLogprobs, label_logprobs

LABELS = ("1", "2", "3", "4", "5")


def entry(chosen: str, top: dict[str, float]) -> dict[str, Any]:
    """A generated token; `top`: probabilities by token."""
    listed = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
    return {"token": chosen, "logprob": math.log(top[chosen]), "top_logprobs": listed}


def probabilities(logprobs: tuple[float, ...]) -> list[float]:
    return [0.0 if math.isnan(one) else round(math.exp(one), 6) for one in logprobs]


def told(*tokens: str, reply: str | None = None, **more: Any) -> list[float]:
    """Probabilities of the labels; each token has half of its mass on itself, the rest on nothing listed."""
    listed = [entry(one, {one: 0.5}) for one in tokens]
    found = label_logprobs("".join(tokens) if reply is None else reply, {"content": listed}, LABELS, **more)
    return probabilities(found)


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
        ("Score", ":", " 4", ".", "\n\n", "The"),
        ("Score", ":", " 4", "\n\n", "(", "Expl"),
        ("Score", ":", " <", "4", ">"),
        ("Score", "：", "4"),
        ("[[", "4", "]]"),
        ("4", "</s>"),
        ("4", "<|im_end|>"),
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
        ("#", "1"),
        ("1", "\n", "Final", " score", ":", " 4"),
        ("4", "\n", "out", " of", " ten"),
        ("4", "\n", "and", " a", " half"),
        ("<b>", "2", "</b>", " 4"),
        ("Score", ":", " 2", " of", " <i>", "max", "</i>", "\n", "5"),
        ("2", " [/INST]", " 4"),
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
    top = {"4": 0.3, " 4": 0.2, "▁4": 0.1, "Ġ4": 0.1, "**4": 0.05, "3": 0.05}
    top |= {"44": 0.04, "4.5": 0.03, "-4": 0.02, "Four": 0.01}
    # 4: 0.3 + 0.2 ("▁4" and "Ġ4" are " 4" again: the same text counts once) + 0.05.
    assert probabilities(label_logprobs("4", {"content": [entry("4", top)]}, LABELS)) == [0, 0, 0.05, 0.55, 0]


def test_bytes_spell_a_token_where_its_name_does_not() -> None:
    one = {"token": "token_id:19", "logprob": -0.1, "bytes": [32, 52]}
    assert label_logprobs("4", {"content": [{**one, "top_logprobs": [one]}]}, LABELS)[3] == pytest.approx(-0.1)
    assert told("<0x34>", reply="4") == [0, 0, 0, 0.5, 0]


def test_a_label_of_several_tokens_is_not_its_first_one() -> None:
    ten = tuple(str(number) for number in range(1, 11))
    listed = [entry(token, {token: 0.9}) for token in ("1", "0")]
    with pytest.raises(NoLabel, match="single token"):
        label_logprobs("10", {"content": listed}, ten)
    minus = [entry(" -", {" -": 0.9, " 1": 0.05}), entry("1", {"1": 0.9})]
    with pytest.raises(NoLabel, match="single token"):
        label_logprobs(" -1", {"content": minus}, ("-1", "0", "1"))
    (whole,) = [entry("10", {"10": 0.5, "1": 0.25})]
    assert probabilities(label_logprobs("10", {"content": [whole]}, ten)) == [0.25, *[0] * 8, 0.5]


@pytest.mark.parametrize("token", ["4.", ": 4", ":4"])
def test_the_alternatives_of_a_token_that_is_no_label_do_not_count(token: str) -> None:
    start = [entry("Score", {"Score": 0.9})] if token.startswith(":") else []
    reply = "".join(one["token"] for one in start) + token
    with pytest.raises(NoLabel):
        label_logprobs(reply, {"content": [*start, entry(token, {token: 0.9, "3": 0.05})]}, LABELS)


@pytest.mark.parametrize("own", [{"logprob": None}, {}, {"logprob": 0.5}])
def test_a_label_without_a_log_probability_of_its_own_is_not_the_rest(own: dict[str, Any]) -> None:
    one = {"token": "4", **own, "top_logprobs": [{"token": "4", **own}, {"token": "3", "logprob": -3.0}]}
    with pytest.raises(NoLogprobs, match="own label"):
        label_logprobs("4", {"content": [one]}, LABELS)


def test_a_character_over_several_tokens_hides_nothing() -> None:
    parts = [entry("4", {"4": 0.5}), entry("\n\n", {"\n\n": 0.5}), entry("Ok ", {"Ok ": 0.5})]
    for raw in ([0xE4, 0xBD], [0xA0]):
        parts.append({"token": "x", "bytes": raw, "logprob": -0.1, "top_logprobs": [{"token": "x", "logprob": -0.1}]})
    assert probabilities(label_logprobs("4\n\nOk 你", {"content": parts}, LABELS)) == [0, 0, 0, 0.5, 0]


def test_bytes_that_only_repeat_the_name_say_nothing() -> None:
    for name in ("▁4", "Ġ4", "<0x34>"):
        one = {"token": name, "logprob": -0.1, "bytes": list(name.encode())}
        assert label_logprobs("4", {"content": [{**one, "top_logprobs": [one]}]}, LABELS)[3] == pytest.approx(-0.1)


def test_a_long_reply_is_quick() -> None:
    began = time.process_time()
    for reply in ("*" * 300_000, "Score: " + "*" * 300_000, "# " * 100_000, "<" * 300_000):
        with pytest.raises((NoLabel, NoLogprobs)):
            told(reply)
    assert time.process_time() - began < 2


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
    for tokens in (("Score", ":", " 1"), ("Score", ":"), ("<think>", "\n", "</think>", "Score", ":"), ("",)):
        with pytest.raises(CutOff):
            told(*tokens, is_cut=True)
    assert told("Score", ":", " 1", "\n\n", is_cut=True) == [0.5, 0, 0, 0, 0]
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
