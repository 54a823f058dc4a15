"""Text features as scores: length, overlap with the source, novelty, repetition. Baselines, not opinions.

Each measure is a number from 0 to 1 that is mapped linearly onto the scale. Words are runs of letters and digits; each
character of a script that writes without spaces (Chinese, Japanese, Thai and others) is a word of its own. Linear time.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

Feature = Literal["length", "overlap", "novelty", "repetition"]

LONG = 1000  # words; a text of that length and more has the length 1
# Blocks of scripts without spaces: Thai to Burmese, Khmer, kana and CJK with their extensions.
WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{WITHOUT_SPACES}]|[^\W_{WITHOUT_SPACES}]+")
RUN = 2  # words of a run that is compared (bigrams)
REPEATED = 3  # words of a run that counts as repeated


def words(text: str) -> list[str]:
    """The words of a text, without case."""
    return WORD.findall(text.casefold())


def measure(feature: Feature, candidate: str, source: str) -> float | None:
    """The measure of a text, 0 to 1; None where it needs a source and there is none.

    - length: log(1 + words) / log(1 + 1000), at most 1.
    - overlap: the share of the candidate's words that stand in the source, each as often as it stands there.
    - novelty: the share of the candidate's bigrams that do not stand in the source.
    - repetition: 1 minus the share of its runs of three words that occurred before; 1: nothing is repeated.
    """
    found = words(candidate)
    if feature == "length":
        return min(1.0, math.log1p(len(found)) / math.log1p(LONG))
    if feature == "repetition":
        runs = _runs(found, REPEATED)
        return len(set(runs)) / len(runs) if runs else 1.0
    given = words(source)
    if not given:
        return None
    if feature == "overlap":
        shared = Counter(found) & Counter(given)
        return shared.total() / len(found) if found else 0.0
    known, runs = set(_runs(given, RUN)), _runs(found, RUN)
    return sum(run not in known for run in runs) / len(runs) if runs else 0.0


def _runs(found: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(found[start:] for start in range(size)), strict=False))
