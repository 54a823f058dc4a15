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
MARKUP = r"[\s*_#`\"']"
# What a reasoning model's thinking begins and ends with, whatever its name: <think>, [/THINK].
OPENING = re.compile(r"<\w[^<>]{0,40}>|\[[A-Z_]{2,30}\]")
ENDING = re.compile(r"</\w[^<>]{0,40}>|\[/[A-Z_]{2,30}\]")
SPECIAL_TOKENS = re.compile(r"(?:\s|<[^<>]{1,60}>|\[/?[A-Z_]{1,30}\])*")
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
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
    tokens = list(_tokens(logprobs))
    if not any(True for token in tokens for _ in _alternatives(token.entry)):
        raise NoLogprobs("the endpoint told no log-probabilities: set score_mode: parsed for this judge")
    answer = _answer(reply)
    found = _pattern(tuple(labels), reply_prefix).match(_plain_digits(answer))
    if not found:
        raise NoLabel(f"the reply is no label alone: {reply}")
    if is_cut and found.end("label") == len(answer):
        raise CutOff(f"the reply was cut right behind the label: {reply}")
    whole = "".join(token.text for token in tokens)
    at = _place_of(answer, whole, may_begin_later=has_reasoning or answer != reply.strip())
    token = _token_at(tokens, at + found.start("label"))
    return _summed(token, labels)


def _answer(reply: str) -> str:
    """The reply's text behind its thinking, without outer white space. CutOff where the thinking does not end."""
    ends = [found.end() for found in ENDING.finditer(reply)]
    answer = reply[ends[-1] if ends else 0 :].strip()
    if OPENING.match(answer):
        raise CutOff(f"the reply is still the model's thinking: {reply}")
    return answer


def _pattern(labels: tuple[str, ...], reply_prefix: str) -> re.Pattern[str]:
    """The whole answer: markup, the agreed start, one label. Behind its line only words may follow, no number."""
    word = re.escape(reply_prefix.strip().rstrip(":= ") or START)
    one = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    start = rf"{MARKUP}*(?:{word}[\s*_]*[:=])?{MARKUP}*"
    end = r"[*_`\"']*(?:\.?[\s*_`\"']*\Z|[^\S\n]*\n[\s*_#>-]*[^\W\d_])"
    return re.compile(rf"{start}(?P<label>{one})(?!\w){end}", re.IGNORECASE)


def _place_of(answer: str, whole: str, *, may_begin_later: bool) -> int:
    """Where the answer begins in the tokens' text. NoLogprobs where the tokens spell something else."""
    at = whole.rfind(answer)
    behind = whole[at + len(answer) :]
    before = whole[: max(at, 0)].strip()
    is_start = not before or may_begin_later or before.endswith((">", "]"))
    if at < 0 or not SPECIAL_TOKENS.fullmatch(behind) or not is_start:
        raise NoLogprobs("the endpoint's log-probabilities do not spell its reply: set score_mode: parsed")
    return at


def _token_at(tokens: Sequence[_Token], place: int) -> _Token:
    for token in tokens:
        if place < len(token.text):
            return token
        place -= len(token.text)
    raise AssertionError("the place lies within the tokens' text")


def _summed(token: _Token, labels: Sequence[str]) -> tuple[float, ...]:
    masses = dict.fromkeys(labels, 0.0)
    told: dict[str, float] = {}
    for text, logprob in _alternatives(token.entry):
        told.setdefault(text, logprob)
    for text, logprob in told.items():
        label = _plain_digits(re.sub(rf"\A{MARKUP}+|{MARKUP}+\Z", "", text))
        if label in masses:
            masses[label] += math.exp(logprob)
    return tuple(math.log(mass) if mass else math.nan for mass in masses.values())


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
            yield text, min(float(logprob), 0.0)


def _spelled(entry: Any) -> str | None:
    """A token as it stands in the text: by its bytes where they are told, else without its vocabulary's own marks."""
    if not isinstance(entry, dict):
        return None
    raw = entry.get("bytes")
    if isinstance(raw, list) and raw and all(type(one) is int and 0 <= one < 256 for one in raw):
        return bytes(raw).decode("utf-8", "replace")
    token = entry.get("token")
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
