"""Job `certify`: writes a certificate for each judge and the panel, by task, data set and aspect.

Reads `{run}/evaluate`. Writes below `{run}/certify`: `probes/` (perturbed texts and the verdicts on them),
`certificates/NAME/*.json`, where the run has pairs `pair_certificates/NAME/*.json`, their schemas and `manifest.json`.
An interrupted run resumes from the verdicts on disk. Refuses to certify on data used for training or selection.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster import runtime
from cluster.artifacts import JobDir, Outcome, file_hash
from cluster.config import RunConfig, section_or_default
from cluster.parts import parts_of
from cluster.precision import all_settled
from cluster.strict import Strict
from cluster.terminal import say
from evaluation.batch.config import Prepared, finished_evaluation
from evaluation.batch.fingerprints import Known, code_fingerprint, short
from evaluation.batch.ingest import iter_rows
from evaluation.batch.pairs import FOLDER
from evaluation.batch.pairs_table import TABLE
from evaluation.certification.certificate_files import render, summary_of, write_certificates
from evaluation.certification.contamination import check_contamination, used_data
from evaluation.certification.issue import Context, certificate, slice_baselines
from evaluation.certification.pair_certificates import pair_certificates
from evaluation.certification.probe_results import Probed, Slice
from evaluation.certification.probe_runs import ProbesConfig, judge_probes
from evaluation.certification.store import load_certificates, load_pair_certificates
from evaluation.judges.aggregation import PANEL
from evaluation.measure.slices import labelled_slices
from judging.certificates.certificate import Certificate
from judging.certificates.criteria import Criteria
from judging.errors import InputError
from judging.records import Record

__all__ = ["Config", "main", "render"]


class Config(Strict):
    """The configuration's `certify` section."""

    judges: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="judges to certify, and `panel`; null: all judges, and the panel if it has several judges",
    )
    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="tasks to certify; null: all evaluated tasks")
    aspects: tuple[str, ...] | None = Field(
        None, min_length=1, description="aspects to certify; null: all aspects with human scores"
    )
    probes: ProbesConfig = ProbesConfig()
    criteria: Criteria = Criteria()
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of groups")
    seed: int = Field(0, ge=0, description="seed of the sample of texts to probe")


def main(run: RunConfig) -> Outcome:
    """Run the probes, measure the agreement and write the certificates.

    Raises InputError where there is nothing to certify, or where a measured record was used for training or selection.
    """
    config = section_or_default(run, "certify", Config)
    prepared, done = finished_evaluation(run)
    evaluation = prepared.evaluation
    scores = evaluation.folder / "scores.parquet"
    _check_untouched(done, scores)
    judges = list(evaluation.config.judges)
    subjects = _subjects(config, judges)
    queried = judges if PANEL in subjects else subjects
    parts = _slices(config, prepared, scores)
    _check_measurable(parts, subjects)
    measured = list({record.id: record for part in parts for record in part.records}.values())
    used = used_data(run, evaluation.data, prepared.pool, measured, evaluation.fitted)
    check_contamination(measured, used)
    job = JobDir(run.run, "certify")
    with job.opened(_fingerprint(config, done)):
        earlier = job.manifest()
        # Of the certificates alone, not of the probes.
        asked = {"config": json.loads(config.model_dump_json()), "pairs": _pairs_hash(evaluation.folder)}
        if earlier and all(earlier["summary"].get(name) == value for name, value in asked.items()):
            known, of_pairs = load_certificates(run.run), load_pair_certificates(run.run)
            # A deleted certificate is measured again.
            if len(known) + len(of_pairs) == len(earlier["summary"]["certificates"]):
                say(f"certify: done before, {job.path} is up to date")
                return Outcome(0, {**asked, **summary_of(job.path, known, of_pairs)})
        job.claim()
        job.reopen()
        if _has_inference(config.probes):
            runtime.start(run.ray)
            # Only to query: a certificate is of the configured models, by which a server finds it.
            with_dtypes = all_settled(evaluation.run, evaluation.config.model_names)
            querying = prepared._replace(evaluation=dataclasses.replace(evaluation, run=with_dtypes))
            judge_probes(querying, config.probes, measured, job.path / "probes", config.seed, judges=queried)
        versions = done["fingerprint"]["versions"]
        context = Context(judges, evaluation.data.labels, config.criteria, used, versions, config.resamples, run.seed)
        found = _certificates(prepared, config, parts, subjects, context=context, folder=job.path, queried=queried)
        compared = pair_certificates(
            prepared, [(one.task, one.dataset, one.aspect) for one in parts], subjects, context
        )
        write_certificates(job.path, found, compared)
        summary = {**asked, **summary_of(job.path, found, compared)}
        job.finish(summary)
    return Outcome(0, summary)


def _pairs_hash(folder: Path) -> str | None:
    """Of the finished pairs, which are certified too; None: there are none."""
    table = folder / FOLDER / TABLE
    return file_hash(table) if table.exists() else None


def _check_untouched(done: Mapping[str, Any], scores: Path) -> None:
    """The scores must be those that `evaluate` wrote, with the code that is installed now."""
    if done["files"].get(scores.name) != file_hash(scores):
        raise InputError(
            f"{scores} was changed after the evaluation. Delete {scores.parent} and run `inverdict evaluate` again.",
            code="damaged_artifact",
        )
    if done["summary"].get("code") != code_fingerprint():
        raise InputError(
            f"{scores.parent} was written by another version of Inverdict. Run `inverdict evaluate` again in a new run "
            "folder.",
            code="other_configuration",
        )


def _subjects(config: Config, judges: Sequence[str]) -> list[str]:
    unknown = [name for name in config.probes.own_family if name not in judges]
    if unknown:
        raise InputError(
            f"Unknown judge {unknown[0]!r} in `certify.probes.own_family`. It must be one of {', '.join(judges)}.",
            code="unknown_judge",
            key="certify.probes.own_family",
        )
    if config.judges is None:
        return [*judges, PANEL] if len(judges) > 1 else list(judges)
    for name in config.judges:
        if name == PANEL and len(judges) == 1:
            raise InputError(
                "`certify.judges` names `panel`, but the evaluation has one judge only. "
                f"Name that judge instead: `{judges[0]}`.",
                code="conflict",
                key="certify.judges",
            )
        if name not in (*judges, PANEL):
            raise InputError(
                f"Unknown judge {name!r} in `certify.judges`. It must be one of {', '.join((*judges, PANEL))}.",
                code="unknown_judge",
                key="certify.judges",
            )
    return list(dict.fromkeys(config.judges))


def _slices(config: Config, prepared: Prepared, scores: Path) -> list[Slice]:
    """The selected slices, each with the records of its task and data set and the scores of selected aspects."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for slice_key, rows in labelled_slices(scores).items():
        if found.setdefault(slice_key[:3], rows) is not rows:
            raise InputError(
                f"The labels of {' / '.join(slice_key[:3])} have two different scales. Give the records of each scale "
                "their own `dataset`.",
                code="conflict",
                key="dataset",
            )
    if not found:
        raise InputError(
            f"No record in {scores.parent} has a label, but a certificate needs human scores. Add `scores` to the "
            "records of data.records and evaluate again.",
            code="no_scores",
        )
    _check_known(config, found)
    kept = {
        key: rows
        for key, rows in found.items()
        if key[0] in (config.tasks or (key[0],)) and key[2] in (config.aspects or (key[2],))
    }
    if not kept:
        raise InputError(
            "No task in `certify.tasks` has an aspect in `certify.aspects`. Change one of the two.",
            code="conflict",
            key="certify.aspects",
        )
    records = _records(prepared.evaluation.folder / "records", kept)
    return [
        Slice(*key, rows=rows, records=[one for one in records if (one.task, one.dataset) == key[:2]])
        for key, rows in kept.items()
    ]


def _check_known(config: Config, found: Iterable[tuple[str, str, str]]) -> None:
    """Selected tasks and aspects must have been evaluated on records with labels."""
    tasks, _, aspects = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    for key, code, wanted, known in (
        ("certify.tasks", "unknown_task", config.tasks, tasks),
        ("certify.aspects", "unknown_aspect", config.aspects, aspects),
    ):
        if unknown := [name for name in wanted or () if name not in known]:
            raise InputError(
                f"{unknown[0]!r} in `{key}` was not evaluated on labelled records. It must be one of "
                f"{', '.join(known)}.",
                code=code,
                key=key,
            )


def _records(folder: Path, slices: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]]) -> list[Record]:
    wanted: dict[str, set[str]] = {}
    for (_, _, aspect), rows in slices.items():
        for row in rows:
            wanted.setdefault(row["id"], set()).add(aspect)
    found = (Record.from_row(row) for row in iter_rows(parts_of(folder)) if row["id"] in wanted)
    return [
        dataclasses.replace(
            record,
            scores={aspect: score for aspect, score in record.scores.items() if aspect in wanted[record.id]},
        )
        for record in found
    ]


def _check_measurable(parts: Sequence[Slice], subjects: Sequence[str]) -> None:
    for part in parts:
        labels = {row["label"] for row in part.rows}
        name = f"{part.task} / {part.dataset or 'records'} / {part.aspect}"
        if len(labels) == 1:
            raise InputError(
                f"{name}: all labels equal {min(labels):g}, so the agreement is undefined. "
                "Leave it out (certify.tasks, certify.aspects), or evaluate other records.",
                code="infeasible",
            )
        if all(row[f"{subject}.score"] is None for subject in subjects for row in part.rows):
            raise InputError(
                f"{name}: no judge returned a score, so there is nothing to certify. "
                "Run `inverdict report` to see the reasons.",
                code="no_scores",
            )


def _fingerprint(config: Config, done: Mapping[str, Any]) -> dict[str, Any]:
    """What the probes depend on. Not on criteria and resamples: where these change, only the certificates do."""
    plain = json.loads(config.model_dump_json(exclude={"criteria", "resamples"}))
    return {
        "certify": plain,
        "evaluate": short(done["fingerprint"]),
        "scores": done["files"],
        "code": code_fingerprint(),
    }


def _has_inference(config: ProbesConfig) -> bool:
    return bool(config.num_texts or config.position)


def _certificates(
    prepared: Prepared,
    config: Config,
    parts: Sequence[Slice],
    subjects: Sequence[str],
    *,
    context: Context,
    folder: Path,
    queried: Sequence[str],
) -> list[Certificate]:
    evaluation = prepared.evaluation
    known = Known(
        evaluation.run,
        evaluation.config,
        {
            name: {(part.task, part.aspect): prompts.template(part.task, part.aspect) for part in parts}
            for name, prompts in evaluation.prompts.items()
        },
        prepared.pool,
    )
    probed = Probed(
        folder / "probes",
        config.probes,
        config.criteria.max_effect,
        queried,
        evaluation.config.vote,
        seed=config.seed,
        resamples=config.resamples,
    )
    found = []
    for part in parts:
        say(f"certify: {part.task} / {part.dataset or 'records'} / {part.aspect}: {len(part.rows)} rows")
        shared = slice_baselines(part, context)
        for subject in subjects:
            tested = known.of(subject, part.task, part.aspect)
            found.append(certificate(part, subject, shared, tested, probed.results(part, subject), context))
    return found
