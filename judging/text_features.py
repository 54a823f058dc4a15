"""Text features as scores: length, overlap with the source, novelty, repetition. Baselines, not opinions.

Each measure is a number from 0 to 1 that is mapped linearly onto the scale. Words are runs of letters and digits with
their marks; each character of a script that writes without spaces (Chinese, Japanese, Thai and others) is a word of its
own. Linear time.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Literal

Feature = Literal["length", "overlap", "novelty", "repetition"]

LONG = 1000  # words; a text of that length and more has the length 1
# Blocks of scripts without spaces: Thai to Burmese, Khmer, kana and CJK with their extensions.
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
HAN_BEYOND = "\U00020000-\U0003ffff"
RUN = 2  # words of a run that is compared (bigrams)
REPEATED = 3  # words of a run that counts as repeated
MOST_COMPOSED = 64  # characters; composing a longer run of marks takes quadratic time


def words(text: str) -> list[str]:
    """The words of a text, without case, with composed marks (NFC); equal words are one object, to save memory."""
    known: dict[str, str] = {}
    return [known.setdefault(word, word) for word in map(_composed, _spelled(text))]


def measure(feature: Feature, candidate: str, source: str) -> float | None:
    """The measure of a text, 0 to 1; None where it needs a source and there is none.

    - length: log(1 + words) / log(1 + 1000), at most 1.
    - overlap: the share of the candidate's words that stand in the source, each as often as it stands there.
    - novelty: the share of the candidate's bigrams that do not stand in the source; of one word, whether it does not.
    - repetition: 1 minus the share of its runs of three words that occurred before; 1: nothing is repeated.

    Related measures: coverage (arXiv 1804.11283), novel n-grams (1704.04368), distinct n-grams (1510.03055).
    """
    if feature == "length":
        return min(1.0, math.log1p(sum(1 for _ in _spelled(candidate))) / math.log1p(LONG))
    found = words(candidate)
    if feature == "repetition":
        num_runs = len(found) - REPEATED + 1
        return len(set(_runs(found, REPEATED))) / num_runs if num_runs > 0 else 1.0
    given = words(source)
    if not given:
        return None
    if feature == "overlap":
        shared = Counter(found) & Counter(given)
        return shared.total() / len(found) if found else 0.0
    size = min(RUN, len(found))
    known = set(_runs(given, size))
    return sum(run not in known for run in _runs(found, size)) / (len(found) - size + 1) if found else 0.0


def _spelled(text: str) -> Iterator[str]:
    return (match[0] for match in _word().finditer(text.casefold()))


def _composed(word: str) -> str:
    is_plain = word.isascii() or len(word) > MOST_COMPOSED
    return word if is_plain else unicodedata.normalize("NFC", word)


def _runs(found: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(found[start:] for start in range(size)), strict=False)


@cache
def _word() -> re.Pattern[str]:
    """One word. Python's `\\w` has no marks, which would divide most words of Hindi and of decomposed French."""
    alone: list[int] = []
    letters: list[int] = []
    marks: list[int] = []
    for code in range(0x20000):
        sign = chr(code)
        if unicodedata.category(sign).startswith("M"):
            marks.append(code)
        elif sign.isalnum():
            (alone if WITHOUT_SPACES.match(sign) else letters).append(code)
    inner = _ranges(sorted(letters + marks))
    return re.compile(f"[{_ranges(alone)}{HAN_BEYOND}][{_ranges(marks)}]*|[{_ranges(letters)}][{inner}]*")


def _ranges(codes: Sequence[int]) -> str:
    """Sorted code points as the inside of a character class."""
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), lambda one: one[1] - one[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
