"""What the shown examples say without a judge: the mean of their scores, as the text's score.

That is a nearest-neighbour regression. A judge must beat it, or the search alone would do; and one whose scores go
along with it far more closely than both go along with the labels copies its examples. Reads what `evaluate` left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from evaluation.judges.few_shot import mean_scores
from evaluation.measure.formatting import with_interval
from evaluation.measure.slices import Slice, columns_of
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Method
from judging.stats.estimate import Estimate, to_json

SHOWN = ("dataset.spearman", "group.spearman")
FOLLOWS = "dataset.spearman"  # within a group all texts may be shown the same examples
LEVELS = ("dataset", "group")
Means = Mapping[tuple[str, str], float | None]  # (record id, aspect) -> the mean score of its examples


@dataclass(frozen=True)
class Neighbours:
    """Of one judge, by statistic, all on the rows that it scored with examples.

    `alone`: agreement of the examples' mean score with the labels; `minus_alone`: the judge's minus that; `follows`:
    agreement of the judge's score with that mean.
    """

    alone: Mapping[str, Estimate]
    minus_alone: Mapping[str, Estimate]
    follows: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        return {name: to_json(getattr(self, name)) for name in ("alone", "minus_alone", "follows")}


def means_of(run: Path, judges: Mapping[str, Mapping[str, Any]]) -> dict[str, Means]:
    """By judge, for those with a search. `judges`: those of the evaluation's summary. Raises InputError."""
    return {name: mean_scores(run / "evaluate", name) for name, judge in judges.items() if "icl" in judge}


def neighbours(
    part: Slice, means: Mapping[str, Means], *, resamples: int, seed: int, interval: Method
) -> dict[str, Neighbours]:
    """By judge, for those to which examples were shown on this slice."""
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


def table_rows(found: Mapping[str, Neighbours]) -> list[list[str]]:
    """For the terminal: a head, then one line a judge."""
    head = ["shown examples", f"their mean alone ({FOLLOWS})", "judge minus it", "judge with it", "coverage"]
    return [head, *([judge, *_cells(one, (FOLLOWS,))] for judge, one in found.items())]


def section(found: Mapping[str, Neighbours], label: str) -> str:
    """The report's section of one slice; empty where no judge was shown examples. `label`: "human score"."""
    if not found:
        return ""
    rows = "".join(
        f"<tr><th>{escape(judge)}{''.join(f'<td>{escape(cell)}' for cell in _cells(one, SHOWN))}"
        for judge, one in found.items()
    )
    heads = "".join(f"<th>{what}, {name}" for what in ("alone", "judge minus it") for name in SHOWN)
    n = ", ".join(f"{judge} {one.follows[FOLLOWS].n}" for judge, one in found.items())
    return (
        f"<h3>What the shown examples say without the judge</h3><p>The mean {escape(label)} of a text's examples, "
        "taken as that text's score. A judge should be better than that; one whose scores go along with it far more "
        f"closely than with the {escape(label)}s copies its examples. Rows scored with examples: {escape(n)}.</p>"
        f"<table><tr><th>{heads}<th>judge with it, {FOLLOWS}<th>coverage{rows}</table>"
    )


def _cells(one: Neighbours, statistics: Sequence[str]) -> list[str]:
    told = [found[name] for found in (one.alone, one.minus_alone) for name in statistics]
    return [
        *(with_interval(estimate) for estimate in (*told, one.follows[FOLLOWS])),
        f"{one.alone[FOLLOWS].coverage:.3f}",
    ]
