"""`scores.parquet` -> which system is better by each judge, the panel and people, with or without labels.

A part is one task, data set, aspect and scale. Statistics: `judging.stats.systems` and `prediction_powered`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evaluation.judges.aggregation import PANEL
from evaluation.judges.judge_config import FEATURE
from evaluation.measure.few_labels import Powered, few_labels
from evaluation.measure.formatting import one_line, part_title, several_scales
from evaluation.measure.slices import FEW_GROUPS
from judging.stats.additive_model import MIN_GROUPS
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate
from judging.stats.systems import Ranking, rank_systems

PART = ("task", "dataset", "aspect", "scale_low", "scale_high")
PEOPLE = "people"  # the column of the labels
MOST_SYSTEMS = 200  # pairs grow with the square


@dataclass(frozen=True)
class SystemsPart:
    """The systems of one task, data set and aspect.

    `rankings`: by column, the panel first, then judges, then `PEOPLE` where two groups or more have labels; a column
    without a score is left out, and a text feature, which is no opinion. `powered`: by column, where some groups have
    labels and others have none. `notes`: what was left out or does not match, in sentences. `is_scale_named`: in the
    title, where there are parts that differ in the scale only.
    """

    task: str
    dataset: str
    aspect: str
    scale: tuple[float, float]
    num_rows: int
    num_groups: int
    num_labelled_groups: int
    systems: Sequence[str]
    rankings: Mapping[str, Ranking]
    powered: Mapping[str, Powered] = field(default_factory=dict)
    notes: Sequence[str] = ()
    is_scale_named: bool = False

    @property
    def title(self) -> str:
        return part_title(self.task, self.dataset, self.aspect, self.scale if self.is_scale_named else None)

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "dataset": self.dataset,
            "aspect": self.aspect,
            "scale": list(self.scale),
            "num_rows": self.num_rows,
            "num_groups": self.num_groups,
            "num_labelled_groups": self.num_labelled_groups,
            "systems": list(self.systems),
            "notes": list(self.notes),
            "rankings": {name: _ranking_json(one) for name, one in self.rankings.items()},
            "with_few_labels": {name: one.to_json() for name, one in self.powered.items()},
        }


def compare_systems(scores: Path, *, resamples: int, seed: int) -> list[SystemsPart]:
    """Compare the systems in every part of a scores file, in the order of their first row.

    Args:
        scores: `scores.parquet`.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    table = pq.read_table(scores)
    keys = table.select(list(PART)).group_by(list(PART), use_threads=False).aggregate([]).to_pylist()
    several = several_scales([tuple(key.values()) for key in keys])
    found = []
    for key in keys:
        chosen = reduce(pc.and_, [pc.equal(table[name], value) for name, value in key.items()])
        values = tuple(key[name] for name in PART)
        part = _part(values, table.filter(chosen), resamples, seed)
        found.append(replace(part, is_scale_named=values[:3] in several))
    return found


def _part(key: tuple[Any, ...], table: pa.Table, resamples: int, seed: int) -> SystemsPart:
    num_rows = len(table)
    table = table.filter(pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(table["system"])), 0), False))
    nameless = num_rows - len(table)
    groups, systems = table["group"].to_pylist(), table["system"].to_pylist()
    lengths = np.asarray(table["candidate_chars"], dtype=float)
    labels_N = _floats(table, "label")
    names = [name.removesuffix(".score") for name in table.column_names if name.endswith(".score")]
    names.sort(key=lambda name: name != PANEL)
    columns = {name: _floats(table, f"{name}.score") for name in names if not _is_feature(table, name)}
    labelled = {group for group, label in zip(groups, labels_N, strict=True) if not math.isnan(label)}
    if len(labelled) > 1:
        columns[PEOPLE] = labels_N
    rankings: dict[str, Ranking] = {}
    powered: dict[str, Powered] = {}
    if len(set(systems)) <= MOST_SYSTEMS:
        rankings = {
            name: rank_systems(groups, systems, score_N, lengths, resamples=resamples, seed=seed)
            for name, score_N in columns.items()
            if not np.isnan(score_N).all()
        }
        powered = {
            name: found
            for name, ranking in rankings.items()
            if name != PEOPLE and (found := few_labels(groups, systems, labels_N, columns[name], ranking))
        }
    task, dataset, aspect, *scale = key
    return SystemsPart(
        task,
        dataset,
        aspect,
        (scale[0], scale[1]),
        num_rows,
        len(set(groups)),
        len(labelled),
        sorted(set(systems)),
        rankings,
        powered,
        [*_notes_of_rows(num_rows, nameless, len(set(systems))), *_notes_of_rankings(rankings)],
    )


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(pc.fill_null(table[name].cast(pa.float64()), math.nan), dtype=float)


def _is_feature(table: pa.Table, name: str) -> bool:
    mode = f"{name}.mode"
    return len(table) > 0 and mode in table.column_names and table[mode][0].as_py() == FEATURE


def _notes_of_rows(num_rows: int, nameless: int, num_systems: int) -> Iterator[str]:
    if nameless:
        yield f"{nameless} of {num_rows} rows name no system and are left out here. Set `system` in the data."
    if num_systems > MOST_SYSTEMS:
        yield (
            f"{num_systems} systems are more than the {MOST_SYSTEMS} that are compared. Check that `system` names who "
            "wrote a text, not the text."
        )


def _notes_of_rankings(rankings: Mapping[str, Ranking]) -> Iterator[str]:
    """The notes of the first ranking, the panel's; of the others those that are not the same."""
    first = next(iter(rankings), "")
    known = list(ranking_notes(rankings[first])) if first else []
    yield from known
    for name, ranking in rankings.items():
        by = "the labels" if name == PEOPLE else one_line(name)
        yield from (f"In the ranking by {by}: {note}" for note in ranking_notes(ranking) if note not in known)


def ranking_notes(ranking: Ranking) -> Iterator[str]:
    """What a reader of the ranking has to know, in sentences."""
    if ranking.left_out:
        yield (
            f"Not compared: {', '.join(map(one_line, ranking.left_out))} (no score, or no group "
            "in common with the others)."
        )
    if not ranking.is_paired:
        yield (
            "No two systems answer the same group (source), so their means are compared without pairing: that holds "
            "only if their sources are samples of the same kind. Give all systems the same sources."
        )
    elif ranking.num_complete < ranking.num_groups and len(ranking.systems) > 1:
        lacking = [
            f"{one_line(one.system)} has {one.mean.n}" for one in ranking.systems if one.mean.n < ranking.num_groups
        ]
        yield (
            f"Not every system has a score in each of the {ranking.num_groups} groups ({', '.join(lacking)}). The "
            "ranking's means are adjusted for the groups that a system lacks (least squares over groups and systems)."
        )
    if ranking.num_groups < MIN_GROUPS:
        yield (
            f"Fewer than {MIN_GROUPS} groups (sources) are too few for an interval: {ranking.num_groups}. "
            "Judge texts on more sources."
        )
    elif ranking.num_groups < FEW_GROUPS:
        yield f"Fewer than {FEW_GROUPS} groups (sources): intervals are rough."


# ---------------------------------------------------------------------- JSON


def _ranking_json(ranking: Ranking) -> dict[str, Any]:
    return {
        "num_groups": ranking.num_groups,
        "num_complete_groups": ranking.num_complete,
        "is_paired": ranking.is_paired,
        "coverage": ranking.coverage,
        "left_out": list(ranking.left_out),
        "points_per_100_characters": _json(ranking.slope),
        "systems": [
            {
                "system": one.system,
                "mean": one.mean.to_json(),
                "length_controlled_mean": _json(one.controlled),
                "rank": one.rank,
                "rank_low": one.rank_low,
                "rank_high": one.rank_high,
                "share_of_groups_won": _number(one.won),
                "share_of_groups_tied": _number(one.tied),
            }
            for one in ranking.systems
        ],
        "differences": [
            {
                "first": one.first,
                "second": one.second,
                "difference": one.value.to_json(),
                "length_controlled": _json(one.controlled),
                "p_holm": one.p,
                "can_be_told_apart": one.is_told,
                "groups_won": one.won,
                "groups_tied": one.tied,
                "groups_lost": one.lost,
            }
            for one in ranking.differences
        ],
    }


def _json(one: Estimate | None) -> dict[str, Any] | None:
    return None if one is None else one.to_json()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
