"""What the shown examples say without a judge: the mean of the scores that people gave them, as a score of its own.

That is a nearest-neighbour regression. A judge that is no better than it does not read the text; one whose scores
follow it copies. Reads what `evaluate` left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from judging.agreement import agreement, compare
from judging.bootstrap import Method
from judging.estimate import Estimate, to_json
from serve.examples import mean_scores
from serve.metrics import Slice, columns_of
from serve.tables import with_interval

SHOWN = ("dataset.spearman", "group.spearman")
FOLLOWS = "dataset.spearman"  # within a group all texts may be shown the same examples
LEVELS = ("dataset", "group")


@dataclass(frozen=True)
class Neighbours:
    """Of one judge. `alone`: agreement of its examples' mean score with people; `minus_alone`: the judge's minus that.

    `follows`: agreement of the judge's score with that mean, by statistic.
    """

    alone: Mapping[str, Estimate]
    minus_alone: Mapping[str, Estimate]
    follows: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        return {name: to_json(getattr(self, name)) for name in ("alone", "minus_alone", "follows")}


def neighbours(run: Path, part: Slice, *, resamples: int, seed: int, interval: Method) -> dict[str, Neighbours]:
    """By judge, for those to which examples were shown that a search had found."""
    settings: dict[str, Any] = {"levels": LEVELS, "resamples": resamples, "seed": seed, "interval": interval}
    found = {}
    for judge in part.modes:
        known = mean_scores(run / "evaluate", judge)
        means = [known.get((row["id"], part.aspect)) for row in part.rows]
        if all(mean is None for mean in means):
            continue
        columns = columns_of(part.rows, [row[f"{judge}.score"] for row in part.rows])
        shown = [(row, mean) for row, mean in zip(part.rows, means, strict=True) if mean is not None]
        followed = replace(
            columns_of([row for row, _ in shown], [row[f"{judge}.score"] for row, _ in shown]),
            human=[mean for _, mean in shown],
            ratings=None,
        )
        found[judge] = Neighbours(
            alone=agreement(replace(columns, score=means), shuffles=0, **settings),
            minus_alone=compare(columns, means, **settings),
            follows=agreement(followed, shuffles=0, **settings),
        )
    return found


def table_rows(found: Mapping[str, Neighbours]) -> list[list[str]]:
    """For the terminal: a head, then one line a judge."""
    head = ["shown examples", f"their mean alone ({FOLLOWS})", "judge minus it", "judge's score with it"]
    return [head, *([judge, *_cells(one, (FOLLOWS,))] for judge, one in found.items())]


def section(found: Mapping[str, Neighbours]) -> str:
    """The report's section of one slice; empty where no judge was shown examples."""
    if not found:
        return ""
    rows = "".join(
        f"<tr><th>{escape(judge)}{''.join(f'<td>{escape(cell)}' for cell in _cells(one, SHOWN))}"
        for judge, one in found.items()
    )
    heads = "".join(f"<th>{what}, {name}" for what in ("alone", "judge minus it") for name in SHOWN)
    return (
        "<h3>What the shown examples say without the judge</h3><p>The mean of the scores that people gave a text's "
        "examples, as that text's score. A judge that is no better does not use the text; one that goes along with it "
        f"copies.</p><table><tr><th>{heads}<th>judge's score with it, {FOLLOWS}{rows}</table>"
    )


def _cells(one: Neighbours, statistics: Sequence[str]) -> list[str]:
    told = [found[name] for found in (one.alone, one.minus_alone) for name in statistics]
    return [with_interval(estimate) for estimate in (*told, one.follows[FOLLOWS])]
