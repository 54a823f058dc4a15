"""Makes a certificate: one slice of an evaluation and the results of its probes -> agreement, criteria and seal.

A slice is one task, data set and aspect. All its certificates share the length baseline and the human ceiling. Pure:
reads no files and runs no inference.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evaluation.batch.verdicts import ON_PURPOSE
from evaluation.certification.contamination import UsedData
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
    """What all judges of a slice share: the agreement of the length baseline, and the human ceiling."""

    length: Estimates
    ceiling: Estimates | None


class Statistics(NamedTuple):
    """Agreement of one score column with its chance baseline, and its paired difference to the length baseline."""

    agreement: Estimates
    minus_length: Estimates


def baselines(columns: Columns, length: Floats | Sequence[float], *, resamples: int, seed: int) -> Baselines:
    """The length baseline and the human ceiling of one slice.

    Args:
        columns: the groups, labels, systems and ratings of the slice; its scores are not read.
        length: the candidates' number of characters.
        resamples: bootstrap resamples of groups.
        seed: of the bootstrap.
    """
    alone = Columns(columns.group, columns.human, length, columns.system)
    found = agreement(alone, resamples=resamples, seed=seed, shuffles=0)
    return Baselines(_without_distances(found), human_ceiling(columns, resamples=resamples, seed=seed))


def statistics(columns: Columns, length: Floats | Sequence[float], *, resamples: int, seed: int) -> Statistics:
    """The agreement of one score column, and its paired difference to the length baseline.

    Args:
        columns: the slice with the column as its score.
        length: the candidates' number of characters.
        resamples: bootstrap resamples of groups.
        seed: of the bootstrap.
    """
    return Statistics(
        agreement(columns, resamples=resamples, seed=seed),
        _without_distances(compare(columns, length, resamples=resamples, seed=seed)),
    )


def _without_distances(found: Estimates) -> dict[str, Estimate]:
    """Statistics of order only: a length is not a score on the scale, so distances to it mean nothing."""
    return {name: one for name, one in found.items() if is_of_order(name)}


@dataclass(frozen=True)
class Context:
    """What all certificates of a run share. `judges`: all of the evaluation, which are the members of the panel."""

    judges: Sequence[str]
    labels: str
    criteria: Criteria
    used: Sequence[UsedData]
    versions: Mapping[str, str]
    resamples: int
    seed: int


def slice_baselines(part: Slice, context: Context) -> Baselines:
    """The baselines of one slice, for `certificate`."""
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
    """The sealed certificate of one judge or of the panel on one slice.

    Rows that the judge skips by configuration, such as texts of its own model family, are not measured.

    Args:
        part: the slice with all its labelled rows.
        column: the judge's name, or `panel`.
        known: the slice's baselines, see `slice_baselines`.
        fingerprints: of what was tested.
        probes: the results of all probes.
        context: what all certificates of the run share.

    Raises:
        InputError: the judge skips every row of the slice.
    """
    rows = _measured_rows(part, column)
    part = dataclasses.replace(part, rows=rows)
    scores = [row[f"{column}.score"] for row in rows]
    found = statistics(columns_of(rows, scores), _length(part), resamples=context.resamples, seed=context.seed)
    ids = {row["id"] for row in rows}
    measured = [record.group_key for record in part.records if record.id in ids]
    content: dict[str, Any] = {
        **_description(part, column, context),
        "num_rows": len(rows),
        "num_groups": len(set(measured)),
        "num_systems": len({row["system"] for row in rows if row["system"]}),
        "coverage": sum(score is not None for score in scores) / len(rows),
        "unscored": reasons_of(rows, column),
        **_estimates(found, known),
        "split": Split(
            taught={source.name: Groups.of(source.groups) for source in context.used},
            measured=Groups.of(measured),
            measured_ids_sha256=ids_hash(sorted(ids)),
        ),
        "fingerprints": fingerprints,
        "probes": probes,
    }
    draft = Certificate(**content, verdict=Holding(holds=False, met=(), failed=()))
    return draft.model_copy(update={"verdict": holding(draft)}).sealed()


def _measured_rows(part: Slice, column: str) -> list[Mapping[str, Any]]:
    rows = [row for row in part.rows if row[f"{column}.unscored"] not in ON_PURPOSE]
    if not rows:
        raise InputError(
            f"`{column}` skips every text of {part.task} / {part.aspect}. Leave it out of `certify.judges`.",
            code="no_records",
            key="certify.judges",
        )
    return rows


def _estimates(found: Statistics, known: Baselines) -> dict[str, Any]:
    """The fields with agreement and baselines."""
    return {
        "agreement": figures(found.agreement),
        "chance": floor_figures(found.agreement),
        "length": figures(known.length),
        "minus_length": figures(found.minus_length),
        "human_ceiling": figures(known.ceiling) if known.ceiling else None,
    }


def _description(part: Slice, column: str, context: Context) -> dict[str, Any]:
    """The fields that do not depend on the scores: who is certified, on what, when, and by which criteria."""
    members = list(context.judges) if column == PANEL else [column]
    return {
        "subject": column,
        "kind": "panel" if column == PANEL else "judge",
        "judges": tuple(members),
        "task": part.task,
        "dataset": part.dataset,
        "aspect": part.aspect,
        "scale": (part.scale.low, part.scale.high),
        "score_modes": {name: part.rows[0][f"{name}.mode"] for name in members},
        "labels": context.labels,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": dict(context.versions),
        "criteria": context.criteria,
    }


def _length(part: Slice) -> list[float]:
    return [float(row["candidate_chars"]) for row in part.rows]
