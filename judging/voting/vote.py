"""Aggregates several judges' verdicts on one aspect of one record into one score."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from judging.records import Score, Verdict
from judging.voting.stacked_vote import LearnedVote

VoteRule = Literal["mean", "median", "majority", "weighted"]
TaughtRule = Literal["learned", "best"]  # rules fitted on a labelled dev part


def vote(
    verdicts: Sequence[Verdict],
    rule: VoteRule | TaughtRule,
    *,
    min_votes: int = 1,
    weights: Mapping[str, float] | None = None,
    learned: LearnedVote | None = None,
    best: str | None = None,
) -> Score:
    """The panel's score in points of the aspect's scale, or None with the reason.

    `mean`, `median`: of the scores; the median of an even number is the mean of the middle two. `majority`: the whole
    number given by more than half of *all* judges (scores rounded, halves up; missing scores count in the half); where
    there is none, as in a tie of two halves: unscored `no_majority`. `weighted`: weighted mean over the judges with a
    score. `learned`: by the learned vote. `best`: the score of one judge. Fewer scores than `min_votes`, or no score
    of a judge that counts: unscored `no_quorum`; `empty` where every verdict is. The order of the verdicts has no
    effect.

    Args:
        verdicts: one per judge, all of one aspect.
        rule: how to aggregate.
        min_votes: scores that are required.
        weights: by judge, for `weighted`.
        learned: the vote of this task and aspect, for `learned`.
        best: the name of the judge, for `best`.

    Raises:
        KeyError: for a judge without a weight, and where the best judge has no verdict.
        ValueError: for a judge that `learned` does not know.
    """
    aspect = verdicts[0].aspect
    assert all(verdict.aspect == aspect for verdict in verdicts)
    said = {verdict.judge: verdict.score for verdict in sorted(verdicts, key=lambda verdict: verdict.judge)}
    assert len(said) == len(verdicts)
    scores = {judge: score for judge, score in said.items() if score is not None}
    counts = (len(scores), len(said) - len(scores))
    if all(verdict.unscored == "empty" for verdict in verdicts):
        return Score(aspect, None, *counts, unscored="empty")
    if len(scores) < max(min_votes, 1):
        return Score(aspect, None, *counts, unscored="no_quorum")
    if rule == "majority":
        label, number = Counter(math.floor(score + 0.5) for score in scores.values()).most_common(1)[0]
        if 2 * number <= len(said):
            return Score(aspect, None, *counts, unscored="no_majority")
        return Score(aspect, float(label), *counts)
    score = _combined(said, scores, rule, weights or {}, learned, best)
    return Score(aspect, score, *counts, unscored="no_quorum" if score is None else None)


def _combined(
    said: Mapping[str, float | None],
    scores: Mapping[str, float],
    rule: VoteRule | TaughtRule,
    weights: Mapping[str, float],
    learned: LearnedVote | None,
    best: str | None,
) -> float | None:
    """One score from `scores`, the known ones of `said`; None where none of them counts."""
    if rule == "learned":
        assert learned is not None
        return learned.score(said)
    if rule == "best":
        assert best is not None
        return said[best]
    if rule == "weighted":
        heights = [weights[judge] for judge in scores]
        return statistics.fmean(scores.values(), heights) if sum(heights) > 0 else None
    return statistics.fmean(scores.values()) if rule == "mean" else statistics.median(scores.values())
