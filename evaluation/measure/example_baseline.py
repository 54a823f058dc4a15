"""The baseline of the few-shot examples alone: the mean human score of a text's examples as its score, without a judge.

This is a nearest-neighbour regression. A judge must beat it, or the retriever alone would be enough. A judge whose
scores correlate with it far more strongly than with the labels copies its examples. Reads the output of `evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.judges.few_shot import mean_scores
from evaluation.measure.slices import Slice, columns_of
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Method
from judging.stats.estimate import Estimate, to_json

FOLLOWS = "dataset.spearman"  # within a group, all texts may have the same examples
LEVELS = ("dataset", "group")
Means = Mapping[tuple[str, str], float | None]  # (record id, aspect) -> the mean score of its examples


@dataclass(frozen=True)
class Neighbours:
    """Estimates of one judge by statistic, on the rows that it scored with examples.

    `alone`: agreement of the examples' mean score with the labels; `minus_alone`: paired difference, judge minus
    `alone`; `follows`: correlation of the judge's score with the examples' mean score.
    """

    alone: Mapping[str, Estimate]
    minus_alone: Mapping[str, Estimate]
    follows: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        return {name: to_json(getattr(self, name)) for name in ("alone", "minus_alone", "follows")}


def means_of(run: Path, judges: Mapping[str, Mapping[str, Any]]) -> dict[str, Means]:
    """Examples' mean scores of each judge that retrieves examples. `judges`: of the summary. Raises InputError."""
    return {name: mean_scores(run / "evaluate", name) for name, judge in judges.items() if "icl" in judge}


def neighbours(
    part: Slice, means: Mapping[str, Means], *, resamples: int, seed: int, interval: Method
) -> dict[str, Neighbours]:
    """The baseline of each judge that had few-shot examples on this slice.

    Args:
        part: the slice.
        means: see `means_of`.
        resamples: bootstrap resamples of groups.
        seed: of the bootstrap.
        interval: how the bootstrap's interval is computed.
    """
    settings: dict[str, Any] = {"levels": LEVELS, "resamples": resamples, "seed": seed, "interval": interval}
    found = {}
    for judge, known in means.items():
        score = [row[f"{judge}.score"] for row in part.rows]
        mean = [
            None if one is None else known.get((row["id"], part.aspect))
            for row, one in zip(part.rows, score, strict=True)
        ]
        if all(one is None for one in mean):
            continue
        columns = columns_of(part.rows, score)
        both = [(row, one) for row, one in zip(part.rows, mean, strict=True) if one is not None]
        followed = replace(
            columns_of([row for row, _ in both], [row[f"{judge}.score"] for row, _ in both]),
            human=[one for _, one in both],
            ratings=None,
        )
        found[judge] = Neighbours(
            alone=agreement(replace(columns, score=mean), shuffles=0, **settings),
            minus_alone=compare(columns, mean, **settings),
            follows=agreement(followed, shuffles=0, **settings),
        )
    return found
