"""Two texts compared by one judge, in both orders: the records of a pair, the judge's prompts, and its preference.

Batch, online and the position probe share it. A pair in one order is a record: its candidate is shown as Text 1, its
field `other` as Text 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from judging.judge import Judge
from judging.records import Record, Verdict, content_id
from judging.request_templates import PAIR_SCALE, pair_template, preference
from judging.tasks import load_task

Winner = Literal["first", "second", "tie"]
TIE_MARGIN = 0.02  # a preference this close to 0.5 is a tie


class Compared(NamedTuple):
    """One judge's verdicts on a pair in both orders. All preferences are for the second text, 0 to 1.

    `verdict`: both orders as one, its score the mean of the two; unscored where one of them is. `given`: when the first
    text is shown first; `turned`: when the second is; None: unscored. `is_consistent`: both orders prefer the same.
    """

    verdict: Verdict
    given: float | None
    turned: float | None
    is_consistent: bool | None


def in_order(first: Record, second: Record) -> Record:
    """The record of an ordered pair for the pairwise template, with the aspects on which both have a human score."""
    scores = {aspect: score for aspect, score in first.scores.items() if aspect in second.scores}
    fields = {**first.fields, "other": second.candidate}
    return dataclasses.replace(first, id=pair_id(first.id, second.id), fields=fields, scores=scores)


def pair_id(first: str, second: str) -> str:
    """The id of the pair in that order."""
    return content_id("pair", first, second)


def pairwise(judge: Judge, wanted: Iterable[tuple[str, str]], *, with_tie: bool = False) -> Judge:
    """The judge as it compares two texts: by the pairwise template, without few-shot examples.

    Args:
        judge: one that can follow another prompt (`not judge.is_fixed`).
        wanted: (task, aspect) pairs to compare by.
        with_tie: offer a third label for a tie.
    """
    assert not judge.is_fixed
    templates = {(task, aspect): pair_template(load_task(task), aspect, with_tie=with_tie) for task, aspect in wanted}
    return dataclasses.replace(judge, templates=templates, examples={}, pool={})


def both_orders(given: Verdict, turned: Verdict) -> Compared:
    """The preference of one judge from its verdicts on a pair in the given and in the reversed order."""
    seconds = [_second(verdict) for verdict in (given, turned)]
    # In the reversed order the pair's second text is shown first.
    parts = (seconds[0], None if seconds[1] is None else 1 - seconds[1])
    if seconds[0] is None or seconds[1] is None:
        return Compared(given if given.score is None else turned, *parts, None)
    found = preference(PAIR_SCALE.low + seconds[0], PAIR_SCALE.low + seconds[1])
    masses = [one.label_mass for one in (given, turned) if one.label_mass is not None]
    merged = dataclasses.replace(
        given, score=found.second, label_mass=min(masses, default=None), label_probabilities=None
    )
    return Compared(merged, *parts, found.is_consistent)


def winner(second: float, margin: float = TIE_MARGIN) -> Winner:
    """The preferred text from the preference for the second (0 to 1): a tie at most `margin` away from 0.5."""
    # Differences of binary fractions: .52 - .5 is a little more than .02.
    if abs(second - 0.5) <= margin + 1e-9:
        return "tie"
    return "second" if second > 0.5 else "first"


def _second(verdict: Verdict) -> float | None:
    """How far a verdict prefers the text shown second, 0 to 1; a tie (the label 3, where there is one) is a half."""
    if verdict.score is None:
        return None
    if verdict.label_probabilities is not None:
        return _of_labels(verdict.label_probabilities)
    return verdict.score - PAIR_SCALE.low if verdict.score in PAIR_SCALE else 0.5


def _of_labels(probabilities: Sequence[float]) -> float:
    _, second, *tie = probabilities
    return min(1.0, second + sum(tie) / 2)
