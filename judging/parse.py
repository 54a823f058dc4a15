"""A judge's reply and the scale -> a score, or the reason why there is none. Only the end of the reply counts."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from judging.records import Scale

SCORE_LINE = re.compile(
    r"[*_#\s]*(?:[a-z]+[ _])?(?:score|rating)[*_\s]*[:=][*_\s]*(-?\d+(?:\.\d+)?)(?:\s*/\s*(\d+(?:\.\d+)?))?[*_.\s]*",
    re.IGNORECASE,
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
MAX_TAIL_CHARS = 8000  # a JSON object longer than this is no verdict
MAX_STARTS = 64


class Parsed(NamedTuple):
    """`score` in points, or None with `unscored` (a key of records.UNSCORED_REASONS); `reason`: the judge's words."""

    score: float | None
    unscored: str | None = None
    reason: str | None = None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key that stands twice is seen."""


def parse_reply(reply: str, aspect: str, scale: Scale) -> Parsed:
    """The score that ends the reply.

    Accepted: a JSON object with `<aspect>_score` or `score` that ends the reply (a code fence may close it); or a last
    line such as "Score: 4", "Overall score: 4/5"; or a reply that is one number. Anything else is unscored, and so is
    a number outside the scale: it is never moved onto the scale.
    """
    text = reply.strip().removesuffix("```").rstrip()
    if text.endswith("}"):
        return _from_json(text[-MAX_TAIL_CHARS:], aspect, scale)
    if NUMBER.fullmatch(text):
        return _checked(float(text), scale)
    lines = text.splitlines()
    line = SCORE_LINE.fullmatch(lines[-1]) if lines else None
    if not line:
        return Parsed(None, "unparsed")
    if line.group(2) is not None and float(line.group(2)) != scale.high:
        return Parsed(None, "off_scale")
    return _checked(float(line.group(1)), scale, "\n".join(lines[:-1]).strip() or None)


def _from_json(text: str, aspect: str, scale: Scale) -> Parsed:
    pairs = _object_at_end(text)
    if pairs is None:
        return Parsed(None, "unparsed")
    wanted = {f"{aspect}_score".lower(), "score"}
    values = [value for key, value in pairs if key.lower() in wanted]
    if not values:
        return Parsed(None, "unparsed")
    if len(values) > 1:
        return Parsed(None, "ambiguous")
    reasons = [value for key, value in pairs if key.lower() in ("reason", "reasoning", "explanation")]
    # Half of a surrogate pair, which JSON can spell, could not be written to a file.
    reason = reasons[0].encode("utf-8", "replace").decode() if reasons and isinstance(reasons[0], str) else None
    value = values[0]
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Parsed(None, "unparsed", reason)
    return _checked(value, scale, reason)


def _object_at_end(text: str) -> _Pairs | None:
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    for start in [found.start() for found in re.finditer(r"\{", text)][-MAX_STARTS:]:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if end == len(text) and isinstance(value, _Pairs):
            return value
    return None


def _checked(value: float, scale: Scale, reason: str | None = None) -> Parsed:
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    return Parsed(score, None, reason) if score in scale else Parsed(None, "off_scale", reason)
