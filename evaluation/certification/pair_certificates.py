"""Certificates of comparisons: the finished pairs of a run -> accuracy against people, criteria and seal.

They ask no model: `evaluate.pairs` has compared the texts in both orders. Reads `{run}/evaluate/pairs` only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from evaluation.batch.config import Prepared
from evaluation.batch.fingerprints import Known, known_of_pairs
from evaluation.batch.pairs import FOLDER, has_pairs
from evaluation.batch.pairs_table import TABLE
from evaluation.batch.verdicts import ON_PURPOSE
from evaluation.certification.issue import Context
from evaluation.judges.aggregation import PANEL
from evaluation.measure.pair_comparison import OUTCOMES
from evaluation.measure.slices import reasons_of
from judging.certificates.assess import pair_holding
from judging.certificates.certificate import Figure, Groups, Holding, PairCertificate, ProbeResult, Split, ids_hash
from judging.stats.bias import KINDS, first_preference, is_biased, order_flip_share
from judging.stats.estimate import Estimate
from judging.stats.pairs import preference_accuracy

Row = Mapping[str, Any]
Key = tuple[str, str, str]  # task, data set, aspect


def pair_certificates(
    prepared: Prepared, wanted: Sequence[Key], subjects: Sequence[str], context: Context
) -> list[PairCertificate]:
    """The sealed certificates of all that compared, on the rated pairs; none where the run has no pairs.

    Args:
        prepared: the finished evaluation.
        wanted: the slices to certify.
        subjects: judges, and `panel`.
        context: what all certificates of the run share.
    """
    evaluation = prepared.evaluation
    section = evaluation.config.pairs
    if section is None or not has_pairs(evaluation.run):
        return []
    compared = list(section.comparing(evaluation.config.judges, evaluation.config.vote))
    slices: dict[Key, list[Row]] = {}
    for row in pq.read_table(evaluation.folder / FOLDER / TABLE).to_pylist():
        if row["first_label"] is not None and row["first_label"] != row["second_label"]:
            slices.setdefault((row["task"], row["dataset"], row["aspect"]), []).append(row)
    keys = [(task, aspect) for task, _, aspect in slices]
    known = known_of_pairs(evaluation.run, evaluation.config, compared, keys, with_tie=section.tie.label)
    return [
        _certificate(key, measured, subject, compared, known, context, section.tie.margin)
        for key, rows in slices.items()
        if key in wanted
        for subject in subjects
        if subject in compared or (subject == PANEL and len(compared) > 1)
        # A judge that skips every pair by configuration has no certificate of pairs.
        if (measured := [row for row in rows if row[f"{subject}.unscored"] not in ON_PURPOSE])
    ]


def _certificate(
    key: Key,
    rows: Sequence[Row],
    subject: str,
    compared: Sequence[str],
    known: Known,
    context: Context,
    tie_margin: float,
) -> PairCertificate:
    task, dataset, aspect = key
    outcome = [OUTCOMES[row[f"{subject}.winner"]] for row in rows]
    group = [row["group"] for row in rows]
    human = [row["first_label"] - row["second_label"] for row in rows]
    longer = [row["first_chars"] - row["second_chars"] for row in rows]
    # In the place of single scores: the length as the score.
    found = preference_accuracy(outcome, human, longer, group)
    draft = PairCertificate(
        subject=subject,
        judges=tuple(compared) if subject == PANEL else (subject,),
        task=task,
        dataset=dataset,
        aspect=aspect,
        labels=context.labels,
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        num_pairs=len(rows),
        num_groups=len(set(group)),
        num_systems=len({row[f"{end}_system"] for row in rows for end in ("first", "second")}),
        coverage=sum(map(math.isfinite, outcome)) / len(rows),
        unscored=reasons_of(rows, subject),
        accuracy=_figure(found.get("pairs")),
        length=_figure(found.get("points")),
        minus_length=_figure(found.get("pairs_minus_points")),
        position=_position(rows, subject, context),
        tie_margin=tie_margin,
        split=Split(
            taught={source.name: Groups.of(source.groups) for source in context.used},
            measured=Groups.of(f"{task}/{dataset}/{name}" for name in group),
            measured_ids_sha256=ids_hash([row["id"] for row in rows]),
        ),
        fingerprints=known.of(subject, task, aspect),
        versions=dict(context.versions),
        criteria=context.criteria,
        verdict=Holding(holds=False, met=(), failed=()),
    )
    return draft.model_copy(update={"verdict": pair_holding(draft)}).sealed()


def _position(rows: Sequence[Row], subject: str, context: Context) -> ProbeResult:
    """The judge's preference for the text shown first, over all pairs."""
    limit = context.criteria.max_effect.position
    about: dict[str, Any] = {"name": "position", "unit": KINDS["position"].unit, "limit": limit}
    if subject == PANEL:
        return ProbeResult(**about, skipped="see its judges: the vote is over the means of both orders")
    # Scores of the position, from 1 (the text shown first) to 2.
    given = [None if (first := row[f"{subject}.given"]) is None else 2 - first for row in rows]
    turned = [None if (first := row[f"{subject}.turned"]) is None else 1 + first for row in rows]
    group, settings = [row["group"] for row in rows], {"resamples": context.resamples, "seed": context.seed}
    effect = first_preference(given, turned, group, **settings)
    return ProbeResult(
        **about,
        effect=Figure.of(effect),
        biased=is_biased(effect, limit, one_sided=KINDS["position"].one_sided),
        num_groups=len(set(group)),
        further={"flip_share": Figure.of(order_flip_share(given, turned, group, **settings))},
    )


def _figure(found: Estimate | None) -> Figure:
    return Figure.of(found or Estimate(math.nan, math.nan, math.nan, 0, 0.0))
