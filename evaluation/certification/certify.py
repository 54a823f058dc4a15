"""Job `certify`: can this judge be trusted on this data? A certificate a judge and the panel, task and aspect.

Reads `{run}/evaluate`; below `{run}/certify`: `probes/` (changed texts and what the judges said of them),
`certificates/NAME/*.json`, `certificate.schema.json`, `manifest.json`. A killed run goes on from the verdicts that are
there. Refuses to measure what has taught.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster import runtime
from cluster.artifacts import JobDir, Outcome, file_hash, whole_folder, write_text
from cluster.config import RunConfig, Strict, section_or_default
from cluster.parts import parts_of
from cluster.tables import aligned
from cluster.terminal import say
from evaluation.batch.config import Prepared, finished_evaluation
from evaluation.batch.fingerprints import Known, code_fingerprint, short
from evaluation.batch.ingest import iter_rows
from evaluation.certification.contamination import check_leaks, taught
from evaluation.certification.issue import Context, certificate, slice_baselines
from evaluation.certification.probe_results import Probed, Slice
from evaluation.certification.probe_runs import ProbesConfig, judge_probes
from evaluation.certification.store import CERTIFICATES, load_certificates
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import shown, with_interval
from evaluation.measure.slices import labelled_slices
from judging.certificates.certificate import Certificate
from judging.certificates.criteria import Criteria
from judging.errors import InputError
from judging.records import Record, content_id
from judging.template_io import file_name

SCHEMA = "certificate.schema.json"


class Config(Strict):
    """The configuration's `certify` section."""

    judges: tuple[str, ...] | None = Field(
        None, min_length=1, description="judges, and `panel`; none: all, and the panel where it has several judges"
    )
    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="none: all that were evaluated")
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: all that people rated")
    probes: ProbesConfig = ProbesConfig()
    criteria: Criteria = Criteria()
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of groups")
    seed: int = Field(0, ge=0, description="which texts are probed")


def main(run: RunConfig) -> Outcome:
    """Probe, measure, write the certificates.

    Raises InputError where there is nothing to certify, or where what was measured has taught.
    """
    config = section_or_default(run, "certify", Config)
    prepared, done = finished_evaluation(run)
    scores = prepared.evaluation.folder / "scores.parquet"
    _check_untouched(done, scores)
    judges = list(prepared.evaluation.config.judges)
    subjects = _subjects(config, judges)
    asked = judges if PANEL in subjects else subjects
    parts = _slices(config, prepared, scores)
    _check_measurable(parts, subjects)
    measured = list({record.id: record for part in parts for record in part.records}.values())
    places = taught(run, prepared.evaluation.data, prepared.pool, measured)
    check_leaks(measured, places)
    job = JobDir(run.run, "certify")
    with job.opened(_fingerprint(config, done)):
        earlier = job.manifest()
        if earlier and earlier["summary"]["config"] == json.loads(config.model_dump_json()):
            known = load_certificates(run.run)
            # One that was deleted is measured anew.
            if len(known) == len(earlier["summary"]["certificates"]):
                say(f"certify: done before, {job.path} is up to date")
                return Outcome(0, _summary(config, job.path, known))
        job.claim()
        job.reopen()
        if _asks(config.probes):
            runtime.start(run.ray)
            judge_probes(prepared, config.probes, measured, job.path / "probes", config.seed, judges=asked)
        context = Context(
            list(prepared.evaluation.config.judges),
            prepared.evaluation.data.labels,
            config.criteria,
            places,
            done["fingerprint"]["versions"],
            config.resamples,
            run.seed,
        )
        found = _certificates(prepared, config, parts, subjects, asked, context, job.path)
        _write(job.path, found)
        summary = _summary(config, job.path, found)
        job.finish(summary)
    return Outcome(0, summary)


def _check_untouched(done: Mapping[str, Any], scores: Path) -> None:
    """What is certified must be what the job `evaluate` wrote, and what runs now."""
    if done["files"].get(scores.name) != file_hash(scores):
        raise InputError(f"{scores} was changed after the evaluation: delete {scores.parent} and evaluate again")
    if done["summary"].get("code") != code_fingerprint():
        raise InputError(
            f"{scores.parent} was judged by another version of this program: evaluate again in a new run directory"
        )


def _subjects(config: Config, judges: Sequence[str]) -> list[str]:
    unknown = [name for name in config.probes.own_family if name not in judges]
    if unknown:
        raise InputError(f"certify.probes.own_family: {unknown[0]!r} is none of evaluate.judges: {', '.join(judges)}")
    if config.judges is None:
        return [*judges, PANEL] if len(judges) > 1 else list(judges)
    for name in config.judges:
        if name == PANEL and len(judges) == 1:
            raise InputError(f"certify.judges: a panel of one judge is that judge: name `{judges[0]}`")
        if name not in (*judges, PANEL):
            raise InputError(f"certify.judges: {name!r} is none of {', '.join((*judges, PANEL))}")
    return list(dict.fromkeys(config.judges))


def _slices(config: Config, prepared: Prepared, scores: Path) -> list[Slice]:
    """The slices that are wanted, each with the records of its task and data set, rated on wanted aspects alone."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for slice_key, rows in labelled_slices(scores).items():
        if found.setdefault(slice_key[:3], rows) is not rows:
            raise InputError(f"{' / '.join(slice_key[:3])} is rated on two scales: give each a `dataset` of its own")
    if not found:
        raise InputError(
            f"no record in {scores.parent} has a label: certificates need people's scores (`scores` in data.records)"
        )
    for key, wanted, place in (("tasks", config.tasks, 0), ("aspects", config.aspects, 2)):
        there = list(dict.fromkeys(one[place] for one in found))
        if unknown := [name for name in wanted or () if name not in there]:
            raise InputError(f"certify.{key}: {unknown[0]!r} was not evaluated with labels: {', '.join(there)} were")
    kept = {
        key: rows
        for key, rows in found.items()
        if key[0] in (config.tasks or (key[0],)) and key[2] in (config.aspects or (key[2],))
    }
    if not kept:
        raise InputError("certify.tasks and certify.aspects: no task among them has one of the aspects")
    records = _records(prepared.evaluation.folder / "records", kept)
    return [
        Slice(*key, rows=rows, records=[one for one in records if (one.task, one.dataset) == key[:2]])
        for key, rows in kept.items()
    ]


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
                f"{name}: every label is {min(labels):g}, so there is no order to agree with: "
                "leave it out (certify.tasks, certify.aspects), or give other records"
            )
        if all(row[f"{subject}.score"] is None for subject in subjects for row in part.rows):
            raise InputError(f"{name}: no judge gave a single score, see the reasons in the report: nothing to certify")


def _fingerprint(config: Config, done: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the probes. Criteria and resamples do not: certificates are measured anew where they change."""
    plain = json.loads(config.model_dump_json(exclude={"criteria", "resamples"}))
    return {
        "certify": plain,
        "evaluate": short(done["fingerprint"]),
        "scores": done["files"],
        "code": code_fingerprint(),
    }


def _asks(config: ProbesConfig) -> bool:
    return bool(config.num_texts or config.position)


def _certificates(
    prepared: Prepared,
    config: Config,
    parts: Sequence[Slice],
    subjects: Sequence[str],
    asked: Sequence[str],
    context: Context,
    folder: Path,
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
        asked,
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


def _write(folder: Path, found: Sequence[Certificate]) -> None:
    """All certificates or none."""
    with whole_folder(folder / CERTIFICATES.name) as beside:
        for one in found:
            (beside / one.subject).mkdir(exist_ok=True)
            write_text(beside / one.subject / _file(one), one.to_text())
    write_text(folder / SCHEMA, json.dumps(Certificate.model_json_schema(), indent=1))


def _file(one: Certificate) -> str:
    """The file's name: task and aspect, and where there are data sets a hash of the name, which may hold anything."""
    stem = file_name(one.task, one.aspect).removesuffix(".txt")
    return f"{stem}.{content_id(one.dataset)[:8]}.json" if one.dataset else f"{stem}.json"


def _summary(config: Config, folder: Path, found: Sequence[Certificate]) -> dict[str, Any]:
    return {
        "config": json.loads(config.model_dump_json()),
        "folder": str((folder / CERTIFICATES.name).resolve()),
        "certificates": [_told(one) for one in found],
    }


def _told(one: Certificate) -> dict[str, Any]:
    statistic = one.criteria.statistic
    figure = one.agreement.get(statistic)
    return {
        "subject": one.subject,
        "of": f"{one.task} / {one.dataset or 'records'} / {one.aspect}",
        "statistic": statistic,
        "figure": figure.model_dump() if figure else None,
        "coverage": one.coverage,
        "biased": [probe.name for probe in one.probes if probe.biased],
        "holds": one.verdict.holds,
        "failed": list(one.verdict.failed),
    }


def render(summary: Mapping[str, Any]) -> str:
    """One line a certificate, for the terminal."""
    rows = [["", "", "agreement", "coverage", "biased by", "certified"]]
    for one in summary["certificates"]:
        more = f" (and {len(one['failed']) - 1} more)" if len(one["failed"]) > 1 else ""
        rows.append(
            [
                one["subject"],
                one["of"],
                with_interval(one["figure"]),
                shown(one["coverage"], 3),
                ", ".join(one["biased"]) or "–",
                "yes" if one["holds"] else f"no: {one['failed'][0]}{more}",
            ]
        )
    table = aligned(rows, num_left=len(rows[0]))
    statistics = ", ".join(dict.fromkeys(one["statistic"] for one in summary["certificates"]))
    return f"{table}\n\nAgreement: {statistics} [95 % interval over groups].\n{summary['folder']}"
