"""Checks of generated templates: slots, stated scale, length, repetition, and text leaked from an example.

Whether the template judges well is measured by the agreement. The helpers on words are used by `train` too.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from judging.records import Scale
from judging.template import CHAT_TOKENS, SLOT, Template, slot_block

NGRAM = 5  # shorter runs ("as well as the") are common phrases
MIN_WORDS = 4  # "Rate the reply below" is about the shortest instruction
MAX_POINT = 100  # no common rating scale goes beyond; years do

# Loops. Three copies in a row are a loop, but "no, no, no" is emphasis: so at least 12 words in all. In ordinary texts
# of 40 words nine in ten 4-grams are distinct, in lists of parallel sentences more than half. A refrain makes up to a
# third of a poem; lines of one or two words ("positive") are values of a list.
LOOP_COPIES, LOOP_WORDS = 3, 12
DISTINCT_FROM, DISTINCT_SHARE = 40, 0.5
SENTENCE_WORDS, SENTENCE_SHARE = 3, 0.5

# An ideograph or kana is a word of its own, since those scripts have no spaces; so is "n't", which data sets split off.
_ALONE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = rf"[^\W_{_ALONE}]"
_NOT = rf"n['’`´]t(?!{_LETTER})"
WORD = re.compile(rf"[{_ALONE}]|{_NOT}|(?:(?!{_NOT}){_LETTER}[\u0300-\u036f]*)+", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = rf"(?:\d{{1,4}}(?:\.\d+)?|{'|'.join(_NAMES)})"
_LOW = rf"(?<![\w.,:/$€£#-])(?P<low>-?{_NUMBER})(?:\s*\([^()\n]{{1,40}}\))?"  # "1 (worst) to 5 (best)"
_HIGH = rf"(?P<high>-?{_NUMBER})(?![\w%°]|[-–.,:/]\w)"
STATED = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_LOW}\s*(?:-?\bto\b-?|\bthrough\b|[-–—])\s*{_HIGH}",
        rf"\bbetween\s+{_LOW}\s+and\s+{_HIGH}",
        rf"(?P<low>)\bout\s+of\s+{_HIGH}",
        rf"(?P<low>)\b(?P<high>{_NUMBER})[- ]points?\s+(?:\w+\s+)?scale\b",
    )
]
RATING = re.compile(
    r"(?<![^\W_])(?:scal\w+|scor\w+|rat(?:e|es|ed|ings?)|grad(?:e|es|ed|ing)|marks?|points?|numbers?(?! of\b)|rank\w*"
    r"|stars?|levels?|values?|integers?|digits?|likert|evaluat\w+|assess\w*|judg\w+)(?![^\W_])",
    re.IGNORECASE,
)
# Nouns that a range counts where it is not a scale: "2 to 3 short sentences".
COUNTED = re.compile(
    r"[\s-]*(?:(?!(?:in|for|of|with|on|to|per)\b)\w+\s+)?(?:sentence|word|paragraph|line|character|token|second|minute"
    r"|hour|day|week|month|year|time|people|person|speaker|turn|reason|example|item|bullet|page|step|percent)",
    re.IGNORECASE,
)


class Word(NamedTuple):
    """A normalised word and the characters `text[start:end]` it stands for."""

    text: str
    start: int
    end: int


def verify(
    template: Template,
    contents: Iterable[Mapping[str, str]] = (),
    *,
    max_words: int = 400,
    require_scale: bool = True,
    other_scales: Collection[Scale] = (),
) -> list[str]:
    """Reasons why the template must not be used, one sentence each; empty: it may be used.

    Args:
        template: the generated template.
        contents: the texts, by field name, of the examples; no 5 consecutive words of them may be left.
        max_words: limit of the instruction: all words except the slots and the blocks of the fields.
        require_scale: whether the instruction must state the scale itself; else the reply format may do so alone.
        other_scales: scales of further aspects that a prompt for several aspects may state.
    """
    wrong = template.problems()
    # A slot is neither a word nor a line break: "Rate {{candidate}} from 1 to 5" is one sentence.
    instruction = " _ ".join(outside_slots(_without_blocks(template)))
    left = {gram for part in outside_slots(template.text) for gram in ngrams(part)}
    texts = (text for content in contents for text in content.values())
    if trace := next((gram for text in texts for gram in ngrams(text) if gram in left), None):
        wrong.append(f"it holds words of an example: {' '.join(trace)!r}")
    stated = dict.fromkeys(stated_scales(instruction))
    strange = [ends for ends in stated if not any(_is_scale(*ends, one) for one in (template.scale, *other_scales))]
    for low, high in strange:
        said = f"up to {high:g}" if low == -math.inf else f"{low:g} to {high:g}"
        wrong.append(f"it states a scale of {said}, and the scale is {template.scale}")
    if require_scale and not strange and not any(_is_scale(*ends, template.scale) for ends in stated):
        wrong.append(f"it does not state the scale {template.scale}")
    if not MIN_WORDS <= (num_words := len(words(instruction))) <= max_words:
        wrong.append(f"its instruction has {num_words} words; it must have {MIN_WORDS} to {max_words}")
    if is_loop(instruction):
        wrong.append("it repeats itself")
    if token := re.search(CHAT_TOKENS.pattern, template.text, re.IGNORECASE):
        wrong.append(f"it holds the chat token {token.group()!r}")
    if char := next(filter(_is_strange, template.text), None):
        wrong.append(f"it holds the character {char!r}")
    return wrong


def _is_scale(low: float, high: float, scale: Scale) -> bool:
    return high == scale.high and low in (-math.inf, scale.low)


def words(text: str) -> list[str]:
    """The normalised words of `text`: NFKC, case folded, without punctuation."""
    return [word.text for word in word_spans(text)]


def word_spans(text: str) -> list[Word]:
    """The words of `text` as `words` returns them, each with its position."""
    found = (Word(_normal(match.group()), *match.span()) for match in WORD.finditer(text))
    return [word for word in found if word.text]


def ngrams(text: str, n: int = NGRAM) -> list[tuple[str, ...]]:
    """All n-grams of words of `text`, in order."""
    known = words(text)
    return list(zip(*(known[offset:] for offset in range(n)), strict=False))


def shared_ngram(text: str, content: str, n: int = NGRAM) -> str | None:
    """The first n-gram of words of `content` that is also in `text`, or None.

    Args:
        text: the text to search.
        content: the text whose n-grams are looked up.
        n: words per n-gram.
    """
    known = set(ngrams(text, n))
    return next((" ".join(gram) for gram in ngrams(content, n) if gram in known), None)


def outside_slots(text: str) -> list[str]:
    """The pieces of a template's text between its slots, in order."""
    return SLOT.split(text)[::2]


def stated_scales(text: str) -> list[tuple[float, float]]:
    """Every scale stated in `text`, in order, as (low, high).

    A range of numbers is a scale where its sentence has a rating word and the range does not count anything else. Where
    only the upper end is stated ("out of 10", "a 5-point scale") low is -inf.
    """
    return [scale for sentence in SENTENCE_END.split(text) if RATING.search(sentence) for scale in _ranges(sentence)]


def is_loop(text: str) -> bool:
    """Whether `text` is repetitive: a phrase in a loop, too few distinct 4-grams, or repeated sentences.

    Lists, parallel sentences and poems with a short refrain are not loops. Linear in the length of `text`.
    """
    known = words(text)
    grams = list(zip(known, known[1:], known[2:], known[3:], strict=False))
    few = len(known) >= DISTINCT_FROM and len(set(grams)) < DISTINCT_SHARE * len(grams)
    return few or _runs_on(known) or _repeats_sentences(text, len(known))


def _runs_on(known: list[str]) -> bool:
    """Whether a phrase is repeated LOOP_COPIES times in a row.

    Its length is inferred from the previous position of its last three words, and kept as long as the words agree.
    """
    last: dict[tuple[str, ...], int] = {}
    length = same = 0
    for place, word in enumerate(known):
        gram = tuple(known[max(0, place - 2) : place + 1])
        if length and word == known[place - length]:
            same += 1
        else:
            length, same = place - last.get(gram, place), len(gram)
        last[gram] = place
        if length and length + same >= max(LOOP_WORDS, LOOP_COPIES * length):
            return True
    return False


def _repeats_sentences(text: str, num_words: int) -> bool:
    # Without its number; else a numbered list of the same sentence would be a list of different sentences.
    counts = Counter(tuple(words(re.sub(r"^\W*\d+\W", "", sentence))) for sentence in SENTENCE_END.split(text))
    again = (
        len(sentence) * count
        for sentence, count in counts.items()
        if count >= LOOP_COPIES and len(sentence) >= SENTENCE_WORDS
    )
    return sum(again) >= max(LOOP_WORDS, SENTENCE_SHARE * num_words)


def _ranges(sentence: str) -> list[tuple[float, float]]:
    found = sorted(
        (match for pattern in STATED for match in pattern.finditer(sentence)), key=lambda match: match.start()
    )
    said = [(_value(match["low"]), _value(match["high"]), match.end()) for match in found]
    return [(low, high) for low, high, end in said if low < high <= MAX_POINT and not COUNTED.match(sentence, end)]


def _value(said: str) -> float:
    name = said.removeprefix("-").lower()
    value = float(_NAMES.index(name) if name in _NAMES else name or math.inf)
    return -value if said.startswith("-") or not said else value


def _without_blocks(template: Template) -> str:
    text = template.text
    for spec in template.fields:
        text = text.replace(slot_block(spec), f"{{{{{spec.name}}}}}")
    return text


def _normal(token: str) -> str:
    if not token.isascii():
        token = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", token).casefold())
    return "".join(filter(str.isalnum, token.casefold()))


def _is_strange(char: str) -> bool:
    """Whether it is a control character, an unpaired surrogate or the replacement character of undecodable bytes."""
    return char == "\ufffd" or (unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r")
