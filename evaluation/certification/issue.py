"""One slice of the evaluation and its probes -> the certificates of judges and panel. Reads no files, asks nobody.

A slice is one task, data set and aspect; length of the text and human ceiling are the same for all its certificates.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evaluation.batch.verdicts import ON_PURPOSE
from evaluation.certification.contamination import Taught
from evaluation.certification.probe_results import Slice
from evaluation.judges.aggregation import PANEL
from evaluation.measure.slices import columns_of, reasons_of
from judging.certificates.assess import holding
from judging.certificates.certificate import (
    Certificate,
    Fingerprints,
    Groups,
    Holding,
    ProbeResult,
    Split,
    figures,
    floor_figures,
    ids_hash,
)
from judging.certificates.criteria import Criteria
from judging.errors import InputError
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate, is_of_order
from judging.stats.human_ceiling import human_ceiling
from judging.stats.rows import Columns

Estimates = Mapping[str, Estimate]


class Baselines(NamedTuple):
    """What a slice offers to every judge: the length of the text as a score, and how well people agree."""

    length: Estimates
    ceiling: Estimates | None


class Statistics(NamedTuple):
    """Agreement of one column of scores, its chance floor included, and its paired difference to the length."""

    agreement: Estimates
    minus_length: Estimates


def baselines(columns: Columns, length: Floats | Sequence[float], *, resamples: int, seed: int) -> Baselines:
    """`columns`: of any judge; `length`: the candidates' number of characters."""
    alone = Columns(columns.group, columns.human, length, columns.system)
    found = agreement(alone, resamples=resamples, seed=seed, shuffles=0)
    return Baselines(_free(found), human_ceiling(columns, resamples=resamples, seed=seed))


def statistics(columns: Columns, length: Floats | Sequence[float], *, resamples: int, seed: int) -> Statistics:
    """The same for one column of scores."""
    return Statistics(
        agreement(columns, resamples=resamples, seed=seed),
        _free(compare(columns, length, resamples=resamples, seed=seed)),
    )


def _free(found: Estimates) -> dict[str, Estimate]:
    """Without the distances: length is no score on the scale."""
    return {name: one for name, one in found.items() if is_of_order(name)}


@dataclass(frozen=True)
class Context:
    """What all certificates of a run share."""

    judges: Sequence[str]
    labels: str
    criteria: Criteria
    places: Sequence[Taught]
    versions: Mapping[str, str]
    resamples: int
    seed: int


def slice_baselines(part: Slice, context: Context) -> Baselines:
    columns = columns_of(part.rows, [None] * len(part.rows))
    return baselines(columns, _length(part), resamples=context.resamples, seed=context.seed)


def certificate(
    part: Slice,
    column: str,
    known: Baselines,
    fingerprints: Fingerprints,
    probes: tuple[ProbeResult, ...],
    context: Context,
) -> Certificate:
    """The sealed certificate of the judge `column`, or of the panel.

    Texts about which a judge is not asked on purpose, as those of its own family, are none that it is measured on.
    """
    rows = [row for row in part.rows if row[f"{column}.unscored"] not in ON_PURPOSE]
    if not rows:
        raise InputError(
            f"{column} judges none of the texts of {part.task} / {part.aspect}: leave it out of certify.judges"
        )
    part = dataclasses.replace(part, rows=rows)
    scores = [row[f"{column}.score"] for row in rows]
    found = statistics(columns_of(rows, scores), _length(part), resamples=context.resamples, seed=context.seed)
    members = list(context.judges) if column == PANEL else [column]
    ids = {row["id"] for row in rows}
    measured = [record.group_key for record in part.records if record.id in ids]
    content: dict[str, Any] = {
        "subject": column,
        "kind": "panel" if column == PANEL else "judge",
        "judges": tuple(members),
        "task": part.task,
        "dataset": part.dataset,
        "aspect": part.aspect,
        "scale": (part.scale.low, part.scale.high),
        "score_modes": {name: rows[0][f"{name}.mode"] for name in members},
        "labels": context.labels,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "num_rows": len(rows),
        "num_groups": len(set(measured)),
        "num_systems": len({row["system"] for row in rows if row["system"]}),
        "coverage": sum(score is not None for score in scores) / len(rows),
        "unscored": reasons_of(rows, column),
        "agreement": figures(found.agreement),
        "chance": floor_figures(found.agreement),
        "length": figures(known.length),
        "minus_length": figures(found.minus_length),
        "human_ceiling": figures(known.ceiling) if known.ceiling else None,
        "split": Split(
            taught={place.name: Groups.of(place.groups) for place in context.places},
            measured=Groups.of(measured),
            measured_ids_sha256=ids_hash(sorted(ids)),
        ),
        "fingerprints": fingerprints,
        "versions": dict(context.versions),
        "probes": probes,
        "criteria": context.criteria,
    }
    draft = Certificate(**content, verdict=Holding(holds=False, met=(), failed=()))
    return draft.model_copy(update={"verdict": holding(draft)}).sealed()


def _length(part: Slice) -> list[float]:
    return [float(row["candidate_chars"]) for row in part.rows]
