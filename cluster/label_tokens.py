"""The generated tokens of a chat reply -> the log-probabilities of labels, where the whole answer is one label.

The position is the one right behind the reply's own start (`Score:`), never the first token that looks like a label:
in "Out of 5: 2", "10" as two tokens, "4/10" or "1. The answer" no label is the answer. Nothing here is trusted.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

START = "Score"  # a reply's own start where the request has none
MAX_ANSWER_CHARS = 400  # a longer answer is looked at no further
MARKUP = r"[\s*_`\"']"
BRACKETS = (("", ""), ("<", ">"), (r"\[", r"\]"), (r"\[\[", r"\]\]"))
# Where a reasoning model's thinking begins and ends. What may stand in a parsed reply is judging/parse.py's to know.
THINKING = r"[^<>\[\]]{0,40}(?:think|thought|reason|reflect|analysis)[^<>\[\]]{0,40}"
OPENING = re.compile(rf"<{THINKING}>|\[{THINKING}\]", re.IGNORECASE)
ENDING = re.compile(rf"<(?:/|\|end){THINKING}>|\[/{THINKING}\]", re.IGNORECASE)
ENDS_OF_TURN = re.compile(r"(?:\s*(?:</s>|<eos>|<end_of_turn>|<\|[^<>|]{1,40}\|>))+\Z")
SPECIAL_TOKENS = re.compile(r"(?:\s|<[^<>]{1,60}>|\[/?[A-Z_]{1,30}\])*")
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BROKEN = "\ufffd"  # a character that is spread over several tokens
ROUNDING = 0.01  # a logarithm of a probability is at most 0


class NoLogprobs(ValueError):
    """The endpoint told no log-probabilities that can be read."""


class NoLabel(ValueError):
    """The reply is something else than one label."""


class CutOff(NoLabel):
    """The reply ended before it was known to be a label."""


class _Token(NamedTuple):
    text: str
    entry: Mapping[str, Any]


def label_logprobs(
    reply: str,
    logprobs: Any,
    labels: Sequence[str],
    *,
    reply_prefix: str = "",
    is_cut: bool = False,
    has_reasoning: bool = False,
) -> tuple[float, ...]:
    """Natural logarithms in the order of `labels`, each over every spelling (" 4", "4"); NaN: not among the listed.

    `reply`: the message's text. `logprobs`: what the endpoint gives under that name, in OpenAI's form. `is_cut`: the
    reply ran into the limit. `has_reasoning`: the endpoint hands the model's thinking apart from the text.
    Raises NoLogprobs, NoLabel.
    """
    answer = _answer(reply, is_cut)
    tokens = list(_tokens(logprobs))
    if not any(True for token in tokens for _ in _alternatives(token.entry)):
        raise NoLogprobs("the endpoint told no log-probabilities of alternatives (top_logprobs)")
    label, start, end = _label_in(answer, tuple(labels), reply_prefix, is_cut)
    whole = "".join(token.text for token in tokens)
    at = _place_of(answer, end, whole, may_begin_later=has_reasoning or len(answer) < len(reply.strip()))
    token = _token_at(tokens, at + start)
    if _bare(token.text) != label:
        raise NoLabel(f"the label is not a token of its own: {reply}")
    return _summed(token, labels, label)


def _answer(reply: str, is_cut: bool) -> str:
    """The reply's text behind its thinking, from its first character on. CutOff where the thinking does not end."""
    ends = [found.end() for found in ENDING.finditer(reply)]
    answer = ENDS_OF_TURN.sub("", reply[ends[-1] if ends else 0 :]).lstrip()
    if OPENING.match(answer) or (is_cut and not answer):
        raise CutOff(f"the reply is still the model's thinking: {reply}" if answer or reply else "the reply is empty")
    return answer


def _label_in(answer: str, labels: tuple[str, ...], reply_prefix: str, is_cut: bool) -> tuple[str, int, int]:
    """The label that is the whole answer, and where it begins and ends."""
    text = _plain_digits(answer[:MAX_ANSWER_CHARS])
    word = re.escape(reply_prefix.strip().rstrip(":= ") or START)
    start = re.compile(rf"(?:#+\s+)?{MARKUP}*+(?:{word}[\s*_]*+[:=\uff1a])?{MARKUP}*+", re.IGNORECASE)
    begun = start.match(text)
    assert begun is not None
    if is_cut and begun.end() == len(text):
        raise CutOff(f"the reply was cut before its label: {answer}")
    one = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    for opening, closing in BRACKETS:
        found = re.compile(rf"{opening}(?P<label>{one})(?!\w){closing}").match(text, begun.end())
        if found and _nothing_more(text[found.end() :], is_marker=not re.search("[:=\uff1a]", begun.group())):
            if is_cut and found.end() == len(text) == len(answer) and not closing:
                raise CutOff(f"the reply was cut right behind the label: {answer}")
            return found["label"], found.start("label"), found.end("label")
    raise NoLabel(f"the reply is no label alone: {answer}")


def _nothing_more(rest: str, *, is_marker: bool) -> bool:
    """Whether behind the label only markup and a full stop follow on its line, and below it only words.

    `is_marker`: the label stands alone, so that with a full stop and a line below it may number a list.
    """
    line, _, below = re.sub(r"\A[*_`\"']*", "", rest).partition("\n")
    words = re.sub(r"\A[\s*_#>(\"'-]*", "", below)
    stop = line.strip(" \t*_`\"'\r")
    if stop not in ("", ".") or (stop and words and is_marker):
        return False
    return not (words[:1].isalpha() and words[:1].islower()) and not re.search(r"\d", words)


def _place_of(answer: str, end: int, whole: str, *, may_begin_later: bool) -> int:
    """Where the answer begins in the tokens' text. NoLogprobs where the tokens spell something else.

    `end`: of the label in the answer; up to there they must agree, and behind it where no character is broken.
    """
    shared = answer[:end] if BROKEN in whole else answer.rstrip()
    at = whole.rfind(shared)
    behind = whole[at + len(shared) :]
    before = whole[: max(at, 0)].strip()
    is_start = not before or may_begin_later or before.endswith((">", "]"))
    is_end = not behind[:1].isdecimal() if BROKEN in whole else bool(SPECIAL_TOKENS.fullmatch(behind))
    if at < 0 or not is_start or not is_end:
        raise NoLogprobs("the endpoint's log-probabilities do not spell its reply")
    return at


def _token_at(tokens: Sequence[_Token], place: int) -> _Token:
    for token in tokens:
        if place < len(token.text):
            return token
        place -= len(token.text)
    raise AssertionError("the place lies within the tokens' text")


def _summed(token: _Token, labels: Sequence[str], chosen: str) -> tuple[float, ...]:
    told: dict[str, float] = {}
    for text, logprob in _alternatives(token.entry):
        told.setdefault(text, logprob)
    masses: dict[str, float] = {}
    for text, logprob in told.items():
        label = _bare(text)
        if label in labels:
            masses[label] = masses.get(label, 0.0) + math.exp(logprob)
    if chosen not in masses:
        raise NoLogprobs("the endpoint told no log-probability of its own label")
    return tuple(math.log(mass) if (mass := masses.get(label, 0.0)) else math.nan for label in labels)


def _bare(token: str) -> str:
    return _plain_digits(re.sub(rf"\A{MARKUP}+|{MARKUP}+\Z", "", token))


def _tokens(logprobs: Any) -> Iterator[_Token]:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    for entry in content if isinstance(content, list) else ():
        text = _spelled(entry)
        if text is not None:
            yield _Token(text, entry)


def _alternatives(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The tokens that might have stood there, with their log-probabilities; what is no such pair is passed by."""
    listed = entry.get("top_logprobs")
    if isinstance(listed, dict):  # the form of OpenAI's older interface
        listed = [{"token": token, "logprob": value} for token, value in listed.items()]
    if not isinstance(listed, list) or not listed:
        return  # without alternatives one token says nothing of the others
    for one in [*listed, entry]:
        text, logprob = _spelled(one), one.get("logprob") if isinstance(one, dict) else None
        if text is None or isinstance(logprob, bool) or not isinstance(logprob, int | float):
            continue
        if logprob <= ROUNDING:  # not NaN either
            yield text, max(min(logprob, 0.0), -1e9)


def _spelled(entry: Any) -> str | None:
    """A token as it stands in the text: by its bytes where they tell more than its name, which is freed of the
    vocabulary's own marks."""
    if not isinstance(entry, dict):
        return None
    raw, token = entry.get("bytes"), entry.get("token")
    if isinstance(raw, list) and raw and all(type(one) is int and 0 <= one < 256 for one in raw):
        data = bytes(raw)
        if not isinstance(token, str) or data != token.encode("utf-8", "replace"):
            return data.decode("utf-8", "replace")
    if not isinstance(token, str):
        return None
    if byte := BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte.group(1), 16)]).decode("utf-8", "replace")
    # GPT-2's vocabularies write a space as Ġ and a line's end as Ċ, sentencepiece a space as ▁.
    return token.replace("Ġ", " ").replace("Ċ", "\n").replace("▁", " ")


def _plain_digits(text: str) -> str:
    """Decimal digits of every script as 0 to 9; of the same length."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)
