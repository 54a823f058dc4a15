"""What the retriever reads of a record, and which rated texts may be shown as examples for which record.

Pure functions over records; knows no models and no index.
"""

from __future__ import annotations

import re

from rapidfuzz import fuzz

from judging.records import Record
from judging.tasks import load_task

NEAR_COPY = 90.0  # rapidfuzz ratio in percent, over normalised texts
MIN_WORDS = 8  # shorter texts may be alike by chance: "i agree ."
WORD = re.compile(r"\w+")


def plain_text(record: Record) -> str:
    """Source and candidate as plain search reads them."""
    return f"{record.source}\n\n{record.candidate}"


def query_text(record: Record, aspect: str) -> str:
    """What the query tower reads: what is to be judged, then the text.

    The candidate stands before the source: an encoder that cuts long texts cuts the source.
    """
    return f"{_instruction(record.task, aspect)}\n\n{record.candidate}\n\n{record.source}"


def example_text(record: Record, aspect: str) -> str:
    """What the example tower reads: the same, with what people said of it, in points of the record's own scale."""
    scale = record.scales[aspect]
    score = f"People's score: {record.scores[aspect]:g} ({scale})"
    return f"{_instruction(record.task, aspect)}\n{score}\n\n{record.candidate}\n\n{record.source}"


def _instruction(task: str, aspect: str) -> str:
    return f"{task}, {aspect}: {load_task(task).aspects[aspect].question}"


def may_serve(example: Record, record: Record) -> bool:
    """Whether `example` may be shown when `record` is judged: not itself, not its group, not a near-copy."""
    return example.id != record.id and example.group_key != record.group_key and not is_near_copy(example, record)


def is_near_copy(one: Record, other: Record) -> bool:
    """Whether candidate or source of the two are the same but for case, punctuation and a few words."""
    return _alike(one.candidate, other.candidate) or _alike(one.source, other.source)


def _alike(one: str, other: str) -> bool:
    if one == other:
        return len(WORD.findall(one)) >= MIN_WORDS
    # A ratio of 90 % needs lengths that differ by less than a fifth; before the words are taken, twice that is allowed.
    if not 0.6 < (len(one) + 1) / (len(other) + 1) < 1.67:
        return False
    words, others = WORD.findall(one.casefold()), WORD.findall(other.casefold())
    if min(len(words), len(others)) < MIN_WORDS:
        return False
    return fuzz.ratio(words, others, score_cutoff=NEAR_COPY) > 0
