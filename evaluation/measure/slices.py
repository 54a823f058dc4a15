"""`scores.parquet` -> the agreement of each judge, the panel and the length baseline with the labels, by slice.

A slice is one task, data set, aspect and scale. Different slices are never pooled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from operator import ne
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from evaluation.judges.aggregation import PANEL
from evaluation.judges.prompt_sources import RUBRIC
from evaluation.measure.formatting import part_title, several_scales
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Method
from judging.stats.estimate import Estimate, is_of_order, to_json
from judging.stats.human_ceiling import human_ceiling
from judging.stats.rows import Columns

BASELINE_ARMS = ("none", "random", "semantic")
LENGTH = "length"  # the length baseline: the candidate's number of characters as its score


class Comparison(NamedTuple):
    """Two judges of one model that differ in one setting: the prompt, or the few-shot examples."""

    judge: str
    baseline: str
    what: str  # the baseline's setting: "rubric", "none", "random", "semantic"


# The bootstrap's 95 % interval covers the mean of three groups in 75 % of cases, of ten in 89 %
# (tests/judging/stats/test_agreement.py).
FEW_GROUPS = 10


@dataclass(frozen=True)
class Slice:
    """The agreement on one task, data set and aspect; estimates by score column and name of the statistic."""

    task: str
    dataset: str
    aspect: str
    num_rows: int
    num_groups: int
    num_systems: int
    scale: tuple[float, float]
    estimates: Mapping[str, Mapping[str, Estimate]]
    against_length: Mapping[str, Mapping[str, Estimate]]
    against_panel: Mapping[str, Mapping[str, Estimate]]
    against_baseline: Mapping[Comparison, Mapping[str, Estimate]]
    ceiling: Mapping[str, Estimate] | None
    unscored: Mapping[str, Mapping[str, int]]
    modes: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    features: Mapping[str, str] = field(default_factory=dict)  # text feature by judge, for judges that are one
    is_scale_named: bool = False  # in the title, where a part of the data has several scales

    def named(self, column: str) -> str:
        """A score column's name for the reader: a text feature is not to be taken for a judge's opinion."""
        return f"{column} (feature: {self.features[column]})" if column in self.features else column

    @property
    def title(self) -> str:
        return part_title(self.task, self.dataset, self.aspect, self.scale if self.is_scale_named else None)

    @property
    def shape(self) -> str:
        is_few = self.num_groups < FEW_GROUPS
        few = f"; fewer than {FEW_GROUPS} groups, so the intervals are too narrow" if is_few else ""
        nameless = sum(not row["system"] for row in self.rows) if self.num_systems else 0
        left_out = f" ({nameless} without a system, excluded from system.*)" if nameless else ""
        return f"{self.num_rows} rows{left_out}, {self.num_groups} groups, {self.num_systems} systems{few}"

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "dataset": self.dataset,
            "aspect": self.aspect,
            "num_rows": self.num_rows,
            "num_groups": self.num_groups,
            "num_systems": self.num_systems,
            "scale": list(self.scale),
            "score_mode": dict(self.modes),
            "unscored": {name: dict(reasons) for name, reasons in self.unscored.items()},
            "agreement": {name: to_json(found) for name, found in self.estimates.items()},
            "difference_to_length": {name: to_json(found) for name, found in self.against_length.items()},
            "panel_minus_judge": {name: to_json(found) for name, found in self.against_panel.items()},
            "difference_to_baseline": [
                {**pair._asdict(), "agreement": to_json(found)} for pair, found in self.against_baseline.items()
            ],
            "human_ceiling": to_json(self.ceiling) if self.ceiling else None,
        }


def measure(
    scores: Path,
    *,
    resamples: int,
    seed: int,
    interval: Method,
    pairs: Sequence[Comparison] = (),
    features: Mapping[str, str] | None = None,
) -> list[Slice]:
    """The agreement of all labelled slices of a scores file, in the order of their first row.

    Args:
        scores: `scores.parquet`.
        resamples: bootstrap resamples of groups.
        seed: of the bootstrap.
        interval: how the bootstrap's interval is computed.
        pairs: judges to compare with each other, see `comparisons`.
        features: text feature by judge, for judges that are one.
    """
    slices = labelled_slices(scores)
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed, "interval": interval}
    found = [_measure_slice(key[:3], rows, pairs, settings) for key, rows in slices.items()]
    several = several_scales(slices)
    return [
        replace(part, features=features or {}, is_scale_named=key[:3] in several)
        for key, part in zip(slices, found, strict=True)
    ]


def labelled_slices(scores: Path) -> dict[tuple[str, str, str, float, float], list[dict[str, Any]]]:
    """(task, dataset, aspect, low and high end of the scale) -> the labelled rows of a scores file."""
    slices: dict[tuple[str, str, str, float, float], list[dict[str, Any]]] = {}
    for batch in pq.read_table(scores, filters=pc.field("label").is_valid()).to_batches():
        for row in batch.to_pylist():
            key = (row["task"], row["dataset"], row["aspect"], row["scale_low"], row["scale_high"])
            slices.setdefault(key, []).append(row)
    return slices


def comparisons(judges: Mapping[str, Mapping[str, Any]]) -> list[Comparison]:
    """Pairs of judges of one model that differ only in the prompt, or only in the few-shot examples.

    A judge with its own prompt is compared with the rubric; retrieved examples (`icl`) with no examples, random ones
    and semantic search. Of several candidates, the first with the same score mode, and the same examples, is taken.
    `judges`: those of the evaluation's summary.
    """
    found: list[Comparison] = []
    for name, judge in judges.items():
        same = {other: one for other, one in judges.items() if other != name and one.get("model") == judge.get("model")}
        if judge.get("prompt", RUBRIC) != RUBRIC:
            written = [other for other, one in same.items() if one["prompt"] == RUBRIC]
            written.sort(key=lambda other: (_mode(same[other]) != _mode(judge), _arm(same[other]) != _arm(judge)))
            found += [Comparison(name, other, RUBRIC) for other in written[:1]]
        if _arm(judge) not in ("none", "named"):
            alike: dict[str, str] = {}
            for other, one in same.items():
                if (one["prompt"], _mode(one)) == (judge["prompt"], _mode(judge)):
                    alike.setdefault(_arm(one), other)
            simpler = takewhile(partial(ne, _arm(judge)), BASELINE_ARMS)
            found += [Comparison(name, alike[arm], arm) for arm in simpler if arm in alike]
    return found


def _mode(judge: Mapping[str, Any]) -> str:
    return str(judge["score_mode"])


def _arm(judge: Mapping[str, Any]) -> str:
    """The source of the judge's examples: the retrieval strategy (`arm`), "none", or "named" in the configuration."""
    return str(judge["icl"]["arm"]) if "icl" in judge else "named" if judge.get("examples") else "none"


def score_columns(row: Mapping[str, Any]) -> list[str]:
    """The judges' names, then the panel."""
    return [name.removesuffix(".score") for name in row if name.endswith(".score")]


def _measure_slice(
    key: tuple[str, str, str], rows: list[dict[str, Any]], pairs: Sequence[Comparison], settings: Mapping[str, Any]
) -> Slice:
    names = score_columns(rows[0])
    columns = {name: columns_of(rows, [row[f"{name}.score"] for row in rows]) for name in names}
    length = [float(row["candidate_chars"]) for row in rows]
    columns[LENGTH] = columns_of(rows, length)
    panel = columns[PANEL].score
    return Slice(
        *key,
        num_rows=len(rows),
        num_groups=len({row["group"] for row in rows}),
        num_systems=len({row["system"] for row in rows if row["system"]}),
        scale=(rows[0]["scale_low"], rows[0]["scale_high"]),
        estimates={
            # A length is not a score on the scale: distances to it mean nothing.
            name: {key: one for key, one in agreement(column, **settings).items() if name != LENGTH or is_of_order(key)}
            for name, column in columns.items()
        },
        against_length={
            name: {key: one for key, one in compare(columns[name], length, **settings).items() if is_of_order(key)}
            for name in names
        },
        against_panel={
            name: {key: one.negative() for key, one in compare(columns[name], panel, **settings).items()}
            for name in names
            if name != PANEL
        },
        against_baseline={
            pair: compare(columns[pair.judge], columns[pair.baseline].score, **settings) for pair in pairs
        },
        ceiling=human_ceiling(columns[PANEL], **settings),
        unscored={name: reasons_of(rows, name) for name in names},
        modes={name: rows[0][f"{name}.mode"] for name in names if name != PANEL},
        rows=rows,
    )


def columns_of(rows: Sequence[Mapping[str, Any]], score: Sequence[float | None]) -> Columns:
    """Rows of a scores file as columns for the statistics, with `score` as the score; systems if any row has one."""
    ratings = [json.loads(row["ratings"]) or None for row in rows]
    systems = [row["system"] or None for row in rows]
    return Columns(
        group=[row["group"] for row in rows],
        human=[row["label"] for row in rows],
        score=score,
        system=systems if any(systems) else None,
        ratings=ratings if any(ratings) else None,
    )


def reasons_of(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    """Number of unscored rows of the column, by reason."""
    reasons = [row[f"{name}.unscored"] for row in rows if row[f"{name}.unscored"]]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def worst(part: Slice, name: str, number: int) -> list[Mapping[str, Any]]:
    """The scored rows with the largest absolute difference of score and label, largest first.

    Args:
        part: the slice.
        name: a judge's name, or `panel`.
        number: how many rows.
    """
    scored = [row for row in part.rows if row[f"{name}.score"] is not None]
    return sorted(scored, key=lambda row: (-abs(row[f"{name}.score"] - row["label"]), row["id"]))[:number]
