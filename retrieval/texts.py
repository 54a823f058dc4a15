"""What the retriever reads of a record, and which rated texts may be shown as examples for it (no leakage).

Pure functions over records; knows no models and no index.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rapidfuzz import fuzz

from judging.records import Record
from judging.tasks import load_task

NEAR_COPY = 90.0  # rapidfuzz ratio in percent, over units
MIN_UNITS = 8  # shorter texts may be similar by chance: "i agree ."
# Scripts without spaces between words: Thai, Chinese, Japanese, Korean. There every character is a unit, else a word.
UNSPACED = "\u0e00-\u0e7f\u2e80-\u9fff\uac00-\ud7af"
UNIT = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+")


def plain_text(record: Record) -> str:
    """The input of BM25 and of the plain encoder: source and candidate."""
    return f"{record.source}\n\n{record.candidate}"


def query_text(record: Record, aspect: str) -> str:
    """The input of the query tower: the aspect's question, then the text.

    The candidate comes before the source, so that an encoder that truncates long texts truncates the source.
    """
    return f"{_instruction(record.task, aspect)}\n\n{record.candidate}\n\n{record.source}"


def example_text(record: Record, aspect: str) -> str:
    """The input of the example tower: the same with the human score, on the record's own scale."""
    scale = record.scales[aspect]
    score = f"People's score: {record.scores[aspect]:g} ({scale})"
    return f"{_instruction(record.task, aspect)}\n{score}\n\n{record.candidate}\n\n{record.source}"


def _instruction(task: str, aspect: str) -> str:
    return f"{task}, {aspect}: {load_task(task).aspects[aspect].question}"


def may_serve(example: Record, record: Record) -> bool:
    """Whether `example` may be shown for `record`: not itself, not of its group, not a near-duplicate."""
    return example.id != record.id and example.group_key != record.group_key and not is_near_copy(example, record)


def is_near_copy(one: Record, other: Record) -> bool:
    """Whether candidate or source of the two are equal up to case, punctuation and a few words.

    Short texts count only where both candidate and source are equal.
    """
    candidates, sources = (_units(one.candidate), _units(other.candidate)), (_units(one.source), _units(other.source))
    same = candidates[0] == candidates[1] and sources[0] == sources[1] and bool(candidates[0])
    return same or _alike(*candidates) or _alike(*sources)


@lru_cache(maxsize=8192)
def _units(text: str) -> tuple[str, ...]:
    return tuple(UNIT.findall(text.casefold()))


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter, longer = sorted((len(one), len(other)))
    # The ratio is twice the shared units over all units, so texts of very different lengths cannot reach it.
    if shorter < MIN_UNITS or 2 * shorter / (shorter + longer) < NEAR_COPY / 100:
        return False
    return fuzz.ratio(one, other, score_cutoff=NEAR_COPY) > 0
