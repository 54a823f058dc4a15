"""Parses a judge's reply into a score, or the reason why there is none. Only the end of the reply counts.

A reply is parsed only where it ended with a stop token, after a reasoning model's thinking, and for the queried aspect
alone: the number of another aspect, a confidence or a maximum is not a verdict.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

from judging.records import Scale

SCORE = r"(?P<score>-?\d+(?:\.\d+)?)"
# A number, optionally in brackets as in "[[4]]", and its denominator.
NUMBER_OF = rf"(?:\[\[?|<)?{SCORE}(?:\]\]?|>)?[*_]*(?:\s*(?:/|out of)\s*[*_]*(?P<of>\d+(?:\.\d+)?))?[*_.\s]*"
BARE_NUMBER = re.compile(rf"[*_\s]*+{NUMBER_OF}", re.IGNORECASE)
LEAD, IS = r"(?:[-\u2022]\s+)?[*_#\s]*+", r"[*_\s]*+[:=\uff1a][*_\s]*+"
MAX_TAIL_CHARS = 8000  # a JSON object longer than this is not a verdict
MAX_STARTS = 64
MAX_LINES = 64  # before the last one, searched for another verdict
# The reason why a reply without a stop token is not parsed, by its `finish_reason`.
UNFINISHED = {"length": "cut_off", "filtered": "filtered", "other": "unfinished"}

# How reasoning models mark their thinking: <think>, [THINK], <|START_THINKING|>, <seed:think>, <details
# type="reasoning">, harmony's channels, with or without its special tokens.
NAMES = r"(?:think|thought|reason|reflect|monolog|scratchpad|rationale|analysis|chain[_ -]?of|\bcot\b)"
WORD = r"[\w:\u2581|._-]{0,40}"
TAG = rf"{WORD}{NAMES}{WORD}(?:\s[^<>]{{0,80}})?"
CLOSING = re.compile(
    rf"<\s?/\s?{TAG}>|<\|\s?end{TAG}>|\[/[A-Z_]*(?:THINK|REASON|THOUGHT)[A-Z]*\]|\u25c1/think\u25b7|</details>"
    r"|<unused95>|<\|channel\|>\s*final\b(?:<\|message\|>)?|assistantfinal",
    re.IGNORECASE,
)
OPENING = re.compile(
    rf"(?i:<\s?{TAG}>|<details\s[^<>]{{0,80}}reasoning[^<>]{{0,200}}>)|\[[A-Z_]*(?:THINK|REASON|THOUGHT)[A-Z]*\]"
    r"|\u25c1think\u25b7|<unused94>|<\|channel\|?>\s*(?:analysis|commentary|thought)\b|<\|inner_prefix\|>"
    r"|\Aanalysis(?=[A-Z])"
)
# End-of-turn tokens, and tags that models put around an answer.
BEFORE = re.compile(r"\A\s*<(?:answer|response|output)>", re.IGNORECASE)
BEHIND = re.compile(
    r"(?:</s>|<eos>|<end_of_turn>|<\|[^<>|]{1,40}\|>|</(?:answer|response|output)>)\s*\Z", re.IGNORECASE
)
MAX_BEHIND = 4
# Keys of a JSON reply that hold the score where no key names the aspect or is `score`.
PLAIN_KEYS = frozenset({"rating", *(f"{how}_{what}" for how in ("overall", "final") for what in ("score", "rating"))})
MAXIMUM_KEYS = frozenset(
    {
        *("max", "maximum", "out_of", "denominator", "scale", "scale_max", "scoring_scale"),
        *(f"{a}_{b}" for a in ("max", "maximum", "best", "max_possible") for b in ("score", "rating", "points")),
    }
)
ASPECT_KEYS = frozenset(("aspect", "criterion", "criteria", "name", "dimension", "metric", "category"))
REASON_KEYS = ("reason", "reasoning", "explanation")
# A maximum that the judge states before its score.
MAXIMUM_LINE = re.compile(
    r"max(?:imum)?(?: possible)? (?:score|rating)\W{0,4}(?:is )?(\d+(?:\.\d+)?)"
    r"|scale (?:of|from) \d+(?:\.\d+)? ?(?:to|-|\u2013) ?(\d+(?:\.\d+)?)|\A\W*out of (\d+(?:\.\d+)?)\W*\Z",
    re.IGNORECASE,
)
# A line of one or two words above a score names what is scored, unless it holds one of these words.
HEADING = re.compile(r"[*#_\s]*+(?P<words>[^\W\d_][\w-]{0,40}(?: [\w-]{1,40})?)[*_\s]*:?[*_\s]*")
NO_ASPECT = re.compile(
    r"final|overall|verdict|evaluation|conclusion|assessment|judge?ment|answer|result|score|rating|reason|explanation|"
    r"analysis|rationale|justification|feedback|review|comment|output|response|decision|summary|thus|therefore|so\b",
    re.IGNORECASE,
)


class Parsed(NamedTuple):
    """`score` in points, or None with `unscored` (a key of records.UNSCORED_REASONS); `reason`: the judge's words."""

    score: float | None
    unscored: str | None = None
    reason: str | None = None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that duplicate keys are detected."""


def parse_reply(reply: str, aspect: str, scale: Scale) -> Parsed:
    """The score at the end of the reply.

    Accepted: a JSON object at the end of the reply (a code fence may close it) with `<aspect>_score` or `score`, or
    else with `rating`, `overall_score` or `final_score`; or a last line such as "Score: 4", "Overall score: 4/5",
    "Fluency score: 4" for the aspect fluency, "Final verdict: 4"; or a reply that is one number. Anything else is
    unscored, and so is a number outside the scale: it is never clipped to the scale. Thinking in front (`<think>` and
    similar tags) is skipped; thinking that does not end is `cut_off`.

    Args:
        reply: the model's reply.
        aspect: the aspect that was rated.
        scale: the scale of the score, in points.

    Returns:
        The score with the judge's reason, or None with why it is unscored.
    """
    text = _without_frame(reply).removesuffix("```").rstrip()
    if text.endswith("}"):
        start, pairs = _object_at_end(text)
        if _behind_thinking(text[:start]) is None:
            return Parsed(None, "cut_off")
        return Parsed(None, "unparsed") if pairs is None else _from_json(pairs, aspect, scale)
    answer = behind_thinking(text)
    if answer is None:
        return Parsed(None, "cut_off")
    if number := BARE_NUMBER.fullmatch(answer):
        return _of(number["of"], scale) or _checked(float(number["score"]), scale)
    return _from_last_line(answer.splitlines(), aspect, scale)


def behind_thinking(reply: str) -> str | None:
    """The reply without a reasoning model's thinking; None where the thinking does not end."""
    answer = _behind_thinking(reply)
    return None if answer is None else _without_frame(answer)


def _behind_thinking(text: str) -> str | None:
    # The last end counts: thinking may mention tags.
    ends = [mark.end() for mark in CLOSING.finditer(text)]
    answer = text[ends[-1] :] if ends else text
    return None if OPENING.search(answer) else answer


def _without_frame(text: str) -> str:
    """The text without surrounding whitespace, end-of-turn tokens and tags such as <answer>."""
    for _ in range(MAX_BEHIND):
        text = text[:-MAX_TAIL_CHARS] + BEHIND.sub("", text[-MAX_TAIL_CHARS:])
    return BEFORE.sub("", text).strip()


@lru_cache(maxsize=64)
def _score_line(aspect: str) -> re.Pattern[str]:
    """A line that holds the score of the aspect: by its name (group `named`) or without a name."""
    name = _name(aspect)
    what = r"(?:score|rating)"
    named = rf"(?P<named>{name}(?:[ _]{what})?|{what} (?:for|of) {name})" if name else r"(?P<named>(?!))"
    plain = rf"(?:(?:my|the|overall|final) ){{0,2}}(?:overall_|final_)?{what}|final (?:answer|verdict|judge?ment|grade)"
    return re.compile(rf"{LEAD}(?:{named}|{plain})(?: ?\(\d+ ?[-\u2013] ?\d+\))?{IS}{NUMBER_OF}", re.IGNORECASE)


def _name(aspect: str) -> str:
    return r"[ _-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", aspect) if word)


def _from_last_line(lines: list[str], aspect: str, scale: Scale) -> Parsed:
    pattern = _score_line(aspect)
    line = pattern.fullmatch(lines[-1]) if lines else None
    # A line of the aspect's bare name ("Fluency: 4") is not a verdict, but shows that another number is not about it.
    if not line or (line["named"] and not re.search("score|rating", line["named"], re.IGNORECASE)):
        return Parsed(None, "unparsed")
    reason = "\n".join(lines[:-1]).strip() or None
    before = lines[-1 - MAX_LINES : -1]
    if not line["named"]:
        named = [found for one in before if (found := pattern.fullmatch(one)) and found["named"]]
        if any(float(one["score"]) != float(line["score"]) for one in named):
            return Parsed(None, "ambiguous", reason)
        if _is_of_another(before, aspect):
            return Parsed(None, "unparsed", reason)
    stated = [number for one in before for found in MAXIMUM_LINE.finditer(one) for number in found.groups() if number]
    if any(float(number) != scale.high for number in stated):
        return Parsed(None, "off_scale", reason)
    return (_of(line["of"], scale) or _checked(float(line["score"]), scale))._replace(reason=reason)


def _is_of_another(before: list[str], aspect: str) -> bool:
    """Whether the nearest line above is a heading that names something other than the aspect."""
    above = next((line.strip() for line in reversed(before) if line.strip()), "")
    heading = HEADING.fullmatch(above[:200])
    if not heading or not (above.endswith((":", "*", "_")) or above.startswith("#") or " " not in above):
        return False
    words = heading["words"]
    return not (NO_ASPECT.search(words) or re.search(_name(aspect) or r"(?!)", words, re.IGNORECASE))


def _of(stated: str | None, scale: Scale) -> Parsed | None:
    """`off_scale` where a stated denominator is not the upper end of the scale."""
    return Parsed(None, "off_scale") if stated is not None and float(stated) != scale.high else None


def _from_json(pairs: _Pairs, aspect: str, scale: Scale) -> Parsed:
    keyed = [(_key(key), value) for key, value in pairs]
    own = _key(aspect)
    named = {f"{own}_score", f"{own}_rating"}
    values = [value for key, value in keyed if key in {*named, "score"}]
    is_plain = not any(key in named for key, _ in keyed)
    values = values or [value for key, value in keyed if key in PLAIN_KEYS]
    reasons = [value for key, value in keyed if key in REASON_KEYS]
    # JSON can hold an unpaired surrogate, which could not be written to a file.
    reason = reasons[0].encode("utf-8", "replace").decode() if reasons and isinstance(reasons[0], str) else None
    if len(values) != 1:
        return Parsed(None, "ambiguous" if values else "unparsed", reason)
    if is_plain and own not in ("score", *PLAIN_KEYS) and any(key == own for key, _ in keyed):
        return Parsed(None, "ambiguous", reason)
    about = [value for key, value in keyed if key in ASPECT_KEYS and isinstance(value, str)]
    if is_plain and any(_key(one) not in (own, "overall") for one in about):
        return Parsed(None, "unparsed", reason)
    if any(key in MAXIMUM_KEYS and _largest(most) not in (None, scale.high) for key, most in keyed):
        return Parsed(None, "off_scale", reason)
    return _value(values[0], scale)._replace(reason=reason)


def _key(name: str) -> str:
    """`Fluency Score`, `fluency-score` and `fluencyScore` are one key."""
    return re.sub(r"[\s_-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())).lower()


def _value(value: Any, scale: Scale) -> Parsed:
    if isinstance(value, str) and (number := BARE_NUMBER.fullmatch(value.strip())):
        return _of(number["of"], scale) or _checked(float(number["score"]), scale)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Parsed(None, "unparsed")
    return _checked(value, scale)


def _largest(value: Any) -> float | None:
    """The largest number in a stated scale or maximum such as 10, "10", "1-10" or [0, 10]."""
    if isinstance(value, str):
        return max((float(one) for one in re.findall(r"\d+(?:\.\d+)?", value[:100])), default=None)
    inner = [one for _, one in value] if isinstance(value, _Pairs) else value if isinstance(value, list) else [value]
    numbers = [one for one in inner if isinstance(one, int | float) and not isinstance(one, bool)]
    return max(numbers, default=None)


def _object_at_end(text: str) -> tuple[int, _Pairs | None]:
    """The start of the JSON object that ends the text, and its pairs; the text's length and None if there is none."""
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
