"""The tokens of a chat reply -> the labels' log-probabilities, if the whole reply is one label.

The position is the one right after the reply's own start (`Score:`), never the first token that looks like a label: in
"Out of 5: 2", "10" as two tokens, "4/10" or "1. The answer" the reply is not a label. The input is not trusted.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

START = "Score"  # a reply's own start if the request has no prefix
MAX_ANSWER_CHARS = 400  # the rest of a longer reply is ignored
MARKUP = r"[\s*_`\"']"
BRACKETS = (("", ""), ("<", ">"), (r"\[", r"\]"), (r"\[\[", r"\]\]"))
# Start and end of a reasoning model's thinking. judging/parse.py handles parsed replies.
THINKING = r"[^<>\[\]]{0,40}(?:think|thought|reason|reflect|analysis)[^<>\[\]]{0,40}"
OPENING = re.compile(rf"<{THINKING}>|\[{THINKING}\]", re.IGNORECASE)
ENDING = re.compile(rf"<(?:/|\|end){THINKING}>|\[/{THINKING}\]", re.IGNORECASE)
ENDS_OF_TURN = re.compile(r"(?:\s*(?:</s>|<eos>|<end_of_turn>|<\|[^<>|]{1,40}\|>))+\Z")
SPECIAL_TOKENS = re.compile(r"(?:\s|<[^<>]{1,60}>|\[/?[A-Z_]{1,30}\])*")
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BROKEN = "\ufffd"  # a character split over several tokens
ROUNDING = 0.01  # tolerance: the logarithm of a probability is at most 0


class NoLogprobs(ValueError):
    """The endpoint returned no usable log-probabilities."""


class NoLabel(ValueError):
    """The reply is not a single label."""


class CutOff(NoLabel):
    """The reply was truncated before its label was complete."""


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
    """The labels' log-probabilities at the position of the label in a reply.

    Args:
        reply: the message's text.
        logprobs: the endpoint's object of that name, in OpenAI's format.
        labels: of the scale.
        reply_prefix: what the reply may begin with, such as `Score:`.
        is_cut: the reply reached max_tokens.
        has_reasoning: the endpoint returns the model's reasoning separately from the text.

    Returns:
        Natural logarithms in the order of `labels`, each summed over all spellings (" 4", "4"); NaN: not among the
        returned alternatives.

    Raises:
        NoLogprobs: the endpoint returned no usable log-probabilities.
        NoLabel: the reply is not a single label.
    """
    answer = _answer(reply, is_cut)
    tokens = list(_tokens(logprobs))
    if not any(True for token in tokens for _ in _alternatives(token.entry)):
        raise NoLogprobs("the endpoint returned no log-probabilities of alternatives (top_logprobs)")
    label, start, end = _label_in(answer, tuple(labels), reply_prefix, is_cut)
    whole = "".join(token.text for token in tokens)
    at = _place_of(answer, end, whole, may_begin_later=has_reasoning or len(answer) < len(reply.strip()))
    token = _token_at(tokens, at + start)
    if _bare(token.text) != label:
        raise NoLabel(f"the label is not a single token: {reply}")
    return _summed(token, labels, label)


def _answer(reply: str, is_cut: bool) -> str:
    """The reply's text after the model's thinking. Raises CutOff if the thinking does not end."""
    ends = [found.end() for found in ENDING.finditer(reply)]
    answer = ENDS_OF_TURN.sub("", reply[ends[-1] if ends else 0 :]).lstrip()
    if OPENING.match(answer) or (is_cut and not answer):
        raise CutOff(
            f"the reply ended within the model's thinking: {reply}" if answer or reply else "the reply is empty"
        )
    return answer


def _label_in(answer: str, labels: tuple[str, ...], reply_prefix: str, is_cut: bool) -> tuple[str, int, int]:
    """The label that is the whole answer, with its start and end."""
    text = _plain_digits(answer[:MAX_ANSWER_CHARS])
    word = re.escape(reply_prefix.strip().rstrip(":= ") or START)
    start = re.compile(rf"(?:#+\s+)?{MARKUP}*+(?:{word}[\s*_]*+[:=\uff1a])?{MARKUP}*+", re.IGNORECASE)
    begun = start.match(text)
    assert begun is not None
    if is_cut and begun.end() == len(text):
        raise CutOff(f"the reply was truncated before its label: {answer}")
    one = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    for opening, closing in BRACKETS:
        found = re.compile(rf"{opening}(?P<label>{one})(?!\w){closing}").match(text, begun.end())
        if found and _nothing_more(text[found.end() :], is_marker=not re.search("[:=\uff1a]", begun.group())):
            if is_cut and found.end() == len(text) == len(answer) and not closing:
                raise CutOff(f"the reply was truncated right after the label: {answer}")
            return found["label"], found.start("label"), found.end("label")
    raise NoLabel(f"the reply is not a single label: {answer}")


def _nothing_more(rest: str, *, is_marker: bool) -> bool:
    """Whether only markup and a full stop follow the label on its line, and only words on the lines below.

    `is_marker`: the label has no start before it, so that with a full stop and a line below it may number a list.
    """
    line, _, below = re.sub(r"\A[*_`\"']*", "", rest).partition("\n")
    words = re.sub(r"\A[\s*_#>(\"'-]*", "", below)
    stop = line.strip(" \t*_`\"'\r")
    if stop not in ("", ".") or (stop and words and is_marker):
        return False
    return not (words[:1].isalpha() and words[:1].islower()) and not re.search(r"\d", words)


def _place_of(answer: str, end: int, whole: str, *, may_begin_later: bool) -> int:
    """The start of the answer in the tokens' text. Raises NoLogprobs if the tokens spell something else.

    `end`: of the label in the answer; up to there the two must agree, and also after it if no character is split.
    """
    shared = answer[:end] if BROKEN in whole else answer.rstrip()
    at = whole.rfind(shared)
    behind = whole[at + len(shared) :]
    before = whole[: max(at, 0)].strip()
    is_start = not before or may_begin_later or before.endswith((">", "]"))
    is_end = not behind[:1].isdecimal() if BROKEN in whole else bool(SPECIAL_TOKENS.fullmatch(behind))
    if at < 0 or not is_start or not is_end:
        raise NoLogprobs("the tokens of the endpoint's log-probabilities do not match its reply")
    return at


def _token_at(tokens: Sequence[_Token], place: int) -> _Token:
    for token in tokens:
        if place < len(token.text):
            return token
        place -= len(token.text)
    raise AssertionError("the position is within the tokens' text")


def _summed(token: _Token, labels: Sequence[str], chosen: str) -> tuple[float, ...]:
    returned: dict[str, float] = {}
    for text, logprob in _alternatives(token.entry):
        returned.setdefault(text, logprob)
    masses: dict[str, float] = {}
    for text, logprob in returned.items():
        label = _bare(text)
        if label in labels:
            masses[label] = masses.get(label, 0.0) + math.exp(logprob)
    if chosen not in masses:
        raise NoLogprobs("the endpoint returned no log-probability of its own label")
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
    """The alternative tokens with their log-probabilities; malformed entries are skipped."""
    listed = entry.get("top_logprobs")
    if isinstance(listed, dict):  # the format of OpenAI's older API
        listed = [{"token": token, "logprob": value} for token, value in listed.items()]
    if not isinstance(listed, list) or not listed:
        return  # one token without alternatives says nothing about the others
    for one in [*listed, entry]:
        text, logprob = _spelled(one), one.get("logprob") if isinstance(one, dict) else None
        if text is None or isinstance(logprob, bool) or not isinstance(logprob, int | float):
            continue
        if logprob <= ROUNDING:  # false for NaN
            yield text, max(min(logprob, 0.0), -1e9)


def _spelled(entry: Any) -> str | None:
    """A token as it appears in the text: decoded from its bytes if they say more than its name, else the name without
    the vocabulary's markers."""
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
    # GPT-2's vocabularies write a space as Ġ and a newline as Ċ, sentencepiece a space as ▁.
    return token.replace("Ġ", " ").replace("Ċ", "\n").replace("▁", " ")


def _plain_digits(text: str) -> str:
    """`text` with the decimal digits of every script as 0 to 9; of the same length."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)
