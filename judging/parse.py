"""A judge's reply and the scale -> a score, or the reason why there is none. Only the end of the reply counts.

A reply is read where it ended by itself, behind a reasoning model's thinking, and for the aspect asked for alone: the
number of another aspect, a confidence or a maximum is no verdict.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

from judging.records import Scale

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
MAX_TAIL_CHARS = 8000  # a JSON object longer than this is no verdict
MAX_STARTS = 64
MAX_LINES = 64  # before the last one, in which another verdict is looked for
# Why a reply that did not end by itself is not read, by its `finish_reason`.
UNFINISHED = {"length": "cut_off", "filtered": "filtered", "other": "unfinished"}

THINKING_NAMES = r"(?:\w{1,20}:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad)\b"
THINKING = re.compile(
    rf"(?P<opens><\s*{THINKING_NAMES}[^<>/]{{0,80}}>|\[THINK\]|\u25c1think\u25b7"
    r"|<\|(?:begin|start)_of_(?:thought|thinking|reasoning)\|>"
    r"|<\|channel\|>\s*(?:analysis|commentary)\b)"
    rf"|<\s*/\s*{THINKING_NAMES}[^<>]{{0,80}}>|\[/THINK\]|\u25c1/think\u25b7"
    r"|<\|end_of_(?:thought|thinking|reasoning)\|>|<\|channel\|>\s*final\b(?:<\|message\|>)?",
    re.IGNORECASE,
)
# Keys of a JSON reply that give the score where no key names the aspect or plainly says `score`.
PLAIN_KEYS = frozenset({"rating", *(f"{how}_{what}" for how in ("overall", "final") for what in ("score", "rating"))})
MAXIMUM_KEYS = frozenset({"max_score", "maximum_score", "max", "maximum", "out_of"})
REASON_KEYS = ("reason", "reasoning", "explanation")


class Parsed(NamedTuple):
    """`score` in points, or None with `unscored` (a key of records.UNSCORED_REASONS); `reason`: the judge's words."""

    score: float | None
    unscored: str | None = None
    reason: str | None = None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key that stands twice is seen."""


def parse_reply(reply: str, aspect: str, scale: Scale) -> Parsed:
    """The score that ends the reply.

    Accepted: a JSON object that ends the reply (a code fence may close it) with `<aspect>_score` or `score`, or else
    with `rating`, `overall_score` or `final_score`; or a last line such as "Score: 4", "Overall score: 4/5", "Fluency
    score: 4" for the aspect fluency, "Final verdict: 4"; or a reply that is one number. Anything else is unscored, and
    so is a number outside the scale: it is never moved onto the scale. Thinking in front (`<think>` and its kin) is
    passed by; thinking that does not end is `cut_off`.
    """
    text = reply.strip().removesuffix("```").rstrip()
    if text.endswith("}"):
        start, pairs = _object_at_end(text)
        _, is_open = _behind_thinking(text[:start])
        if is_open:
            return Parsed(None, "cut_off")
        return Parsed(None, "unparsed") if pairs is None else _from_json(pairs, aspect, scale)
    text, is_open = _behind_thinking(text)
    if is_open:
        return Parsed(None, "cut_off")
    text = text.strip()
    if NUMBER.fullmatch(text):
        return _checked(float(text), scale)
    return _from_last_line(text.splitlines(), aspect, scale)


def _behind_thinking(text: str) -> tuple[str, bool]:
    """What follows the last end of a thinking, and whether another one is open."""
    start, depth = 0, 0
    for mark in THINKING.finditer(text):
        depth = depth + 1 if mark.group("opens") else max(depth - 1, 0)
        start = mark.end()
    return text[start:], depth > 0


@lru_cache(maxsize=64)
def _score_line(aspect: str) -> re.Pattern[str]:
    """A line that gives the score of the aspect: by its name (group `named`) or plainly."""
    name = r"[ _-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", aspect) if word)
    what = r"(?:score|rating)"
    named = rf"(?P<named>{name}[ _]{what}|{what} (?:for|of) {name})|" if name else ""
    plain = rf"(?:(?:my|the|overall|final) ){{0,2}}(?:overall_|final_)?{what}|final (?:answer|verdict|judge?ment|grade)"
    return re.compile(
        rf"[*_#\s]*(?:{named}{plain})[*_\s]*[:=][*_\s]*"
        r"(?P<score>-?\d+(?:\.\d+)?)(?:\s*/\s*(?P<of>\d+(?:\.\d+)?))?[*_.\s]*",
        re.IGNORECASE,
    )


def _from_last_line(lines: list[str], aspect: str, scale: Scale) -> Parsed:
    pattern = _score_line(aspect)
    line = pattern.fullmatch(lines[-1]) if lines else None
    if not line:
        return Parsed(None, "unparsed")
    reason = "\n".join(lines[:-1]).strip() or None
    if not line.groupdict().get("named"):
        before = [found for one in lines[-1 - MAX_LINES : -1] if (found := pattern.fullmatch(one))]
        if any(one.groupdict().get("named") and float(one["score"]) != float(line["score"]) for one in before):
            return Parsed(None, "ambiguous", reason)
    if line["of"] is not None and float(line["of"]) != scale.high:
        return Parsed(None, "off_scale", reason)
    return _checked(float(line["score"]), scale, reason)


def _from_json(pairs: _Pairs, aspect: str, scale: Scale) -> Parsed:
    keyed = [(re.sub(r"[\s-]+", "_", key.strip().lower()), value) for key, value in pairs]
    wanted = {f"{aspect}_score".lower(), f"{aspect}_rating".lower(), "score"}
    values = [value for key, value in keyed if key in wanted] or [value for key, value in keyed if key in PLAIN_KEYS]
    reasons = [value for key, value in keyed if key in REASON_KEYS]
    # Half of a surrogate pair, which JSON can spell, could not be written to a file.
    reason = reasons[0].encode("utf-8", "replace").decode() if reasons and isinstance(reasons[0], str) else None
    if len(values) != 1:
        return Parsed(None, "ambiguous" if values else "unparsed", reason)
    value = values[0]
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Parsed(None, "unparsed", reason)
    if any(key in MAXIMUM_KEYS and isinstance(most, int | float) and most != scale.high for key, most in keyed):
        return Parsed(None, "off_scale", reason)
    return _checked(value, scale, reason)


def _object_at_end(text: str) -> tuple[int, _Pairs | None]:
    """Where the JSON object that ends the text begins, and its pairs; the text's end and None where none does."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    tail = text[-MAX_TAIL_CHARS:]
    for start in [found.start() for found in re.finditer(r"\{", tail)][-MAX_STARTS:]:
        try:
            value, end = decoder.raw_decode(tail, start)
        except (ValueError, RecursionError):
            continue
        if end == len(tail) and isinstance(value, _Pairs):
            return len(text) - len(tail) + start, value
    return len(text), None


def _checked(value: float, scale: Scale, reason: str | None = None) -> Parsed:
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    return Parsed(score, None, reason) if score in scale else Parsed(None, "off_scale", reason)
