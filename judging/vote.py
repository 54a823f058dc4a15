"""Several judges' verdicts on one aspect of one record -> one score. A verdict without a score abstains."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from judging.records import Score, Verdict

VoteRule = Literal["mean", "median", "majority", "weighted"]


def vote(
    verdicts: Sequence[Verdict],
    rule: VoteRule,
    *,
    min_votes: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Score:
    """The panel's score in points of the aspect's scale, or None with the reason.

    `mean`, `median`: of the scores that are there. `majority`: the whole number that more than half of *all* judges
    gave (scores rounded, halves up; who abstains counts in the half); none has it: unscored `no_majority`.
    `weighted`: mean with `weights` by judge name, over the judges that scored. Fewer scores than `min_votes`:
    unscored `no_quorum`. The order of the verdicts never matters.
    """
    aspect = verdicts[0].aspect
    assert all(verdict.aspect == aspect for verdict in verdicts)
    scored = sorted((verdict.judge, verdict.score) for verdict in verdicts if verdict.score is not None)
    num_votes, num_abstentions = len(scored), len(verdicts) - len(scored)
    if len(scored) < max(min_votes, 1):
        return Score(aspect, None, num_votes, num_abstentions, unscored="no_quorum")
    scores = [score for _, score in scored]
    if rule == "mean":
        return Score(aspect, statistics.fmean(scores), num_votes, num_abstentions)
    if rule == "median":
        return Score(aspect, statistics.median(scores), num_votes, num_abstentions)
    if rule == "weighted":
        heights = [(weights or {})[judge] for judge, _ in scored]
        if sum(heights) <= 0:
            return Score(aspect, None, num_votes, num_abstentions, unscored="no_quorum")
        return Score(aspect, statistics.fmean(scores, heights), num_votes, num_abstentions)
    label, number = Counter(math.floor(score + 0.5) for score in scores).most_common(1)[0]
    if 2 * number <= len(verdicts):
        return Score(aspect, None, num_votes, num_abstentions, unscored="no_majority")
    return Score(aspect, float(label), num_votes, num_abstentions)
