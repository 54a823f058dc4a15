"""Job `evaluate`: records x judges -> verdicts -> aggregation -> `scores.parquet`. The batch path over Ray Data.

Below `{run}/evaluate`: `records/` (the validated input), `verdicts/{judge}/part-*.parquet` (one row per record and
aspect), `scores.parquet` (one row per record and aspect; columns of every judge and of the panel, in points of the
human scale), `manifest.json`, and with `evaluate.pairs` the folder `pairs/` (see pairs.py). A killed run resumes from
its verdicts. Records whose human scores were used to make a judge's prompt are excluded, for all judges alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cluster import feasibility as demands
from cluster import runtime
from cluster.artifacts import JobDir, Outcome
from cluster.config import RunConfig
from cluster.model_specs import ModelSpec, ServedSpec, VllmSpec
from cluster.precision import all_settled
from cluster.terminal import say, shown
from cluster.tokens import special_tokens_of
from evaluation.batch.config import Config, Evaluation, Prepared, fingerprint, prepared
from evaluation.batch.fingerprints import code_fingerprint
from evaluation.batch.inference import ask_all
from evaluation.batch.ingest import Ingested, ingest, ingested, kinds_of
from evaluation.batch.integration import integrate_all, integrated
from evaluation.batch.pairs import Engines, check_pairs, compare_pairs
from evaluation.batch.scores import write_scores
from evaluation.batch.served_models import served_models
from evaluation.batch.verdicts import (
    ON_PURPOSE,
    Cascade,
    aspects_of,
    aspects_of_row,
    forget_unscored,
    most_frequent_details,
    sure_of,
)
from evaluation.judges.feature_judges import feature_of
from evaluation.judges.few_shot import choose_examples, say_what_is_missing
from evaluation.judges.few_shot import summary as examples_summary
from evaluation.judges.judge_config import FEATURE, check_indexes, judge_chooser, unaskable
from evaluation.judges.prompt_sources import warnings
from judging.datasets import dev_groups
from judging.errors import InputError
from judging.judge import Judge
from judging.records import Record

EXIT_UNSCORED = 3
SHOWN = {"model", "prompt", "score_mode", "examples"}  # keys of a judge's configuration in the summary
SHOWN_OF_FEATURES = {"model", "score_mode"}


def main(
    run: RunConfig, *, retry_failed: bool = False, through_serve: bool = False, within: Path | None = None
) -> Outcome:
    """Judge the configured records; completed steps are skipped, a killed run is resumed.

    Args:
        run: the configuration.
        retry_failed: query again what has no score.
        through_serve: use the evaluators of a running `inverdict serve`.
        within: the folder below which `evaluate/` is written; None: the run folder.

    Raises:
        InputError, UserError: configuration or data are invalid; nothing has been written.
    """
    found = prepared(run, within)
    evaluation, pool, asked = found
    config, job = evaluation.config, JobDir(within or run.run, "evaluate")
    identity = fingerprint(evaluation, asked)
    engines = partial(_engines, evaluation.run, through_serve)
    with job.opened(identity):
        asks_again = retry_failed and forget_unscored(job)
        done = job.manifest()
        if done and not asks_again and (job.path / "scores.parquet").exists():
            say(f"evaluate: done before, {job.path} is up to date")
            summary = dict(done["summary"])
        else:
            summary = _scored(found, job, engines)
            job.finish(summary)
        if config.pairs:
            summary["pairs"] = compare_pairs(evaluation, pool, identity, engines, retry_failed=retry_failed)
    return Outcome(_exit_code(summary, config), summary)


def _scored(found: Prepared, job: JobDir, engines: Engines) -> dict[str, Any]:
    """Rate the single texts with every judge, and return the summary of their scores."""
    evaluation, pool, asked = found
    run, config = evaluation.run, evaluation.config
    counts, wanted = _take_in(evaluation, job, pool)
    judges = {name: evaluation.judge(name, wanted, pool) for name in config.judges}
    _say_what_to_know(counts, job.path, judges)
    _check_models(run, config, judges)
    check_indexes(run, config.judges, pool, wanted)
    evaluation.ballot.check(wanted)
    if config.pairs:
        check_pairs(evaluation)
    job.claim()
    for name, judge in judges.items():
        if judge.mode != FEATURE:  # which has no prompt
            evaluation.prompts[name].save(judge.templates, job.path / "templates" / name)
    specs = engines(asked)
    scored, examples = judge_all(evaluation, judges, pool, specs)
    return {**_summary(evaluation, counts, scored, examples), "dtypes": _dtypes(config, specs)}


def _engines(run: RunConfig, through_serve: bool, names: Iterable[str]) -> Mapping[str, ModelSpec]:
    """Start Ray, and return the models of these names."""
    wanted = list(names)
    runtime.start(run.ray)
    if through_serve:
        return served_models(run, wanted)
    demands.check(run, wanted)
    return all_settled(run, wanted).models


def judge_all(
    evaluation: Evaluation, judges: Mapping[str, Judge], pool: Mapping[str, Record], specs: Mapping[str, ModelSpec]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Judge the records in `evaluation.folder` with every judge and aggregate the scores.

    Args:
        evaluation: the run of the job.
        judges: by name.
        pool: the rated texts by id.
        specs: the models by name; those of running evaluators with `--through-serve`.

    Returns:
        The summary of `scores.parquet`, and by judge the summary of its retrieved examples.
    """
    config, folder, cascade = evaluation.config, evaluation.folder, evaluation.config.vote.cascade
    is_served = any(isinstance(spec, ServedSpec) for spec in specs.values())
    found = _find_examples(evaluation, folder, judges, pool, is_served)
    ask_all(
        folder,
        judges,
        config.judges,
        specs,
        aspects=config.aspects,
        seed=evaluation.run.seed,
        cascade=Cascade(cascade.first, partial(sure_of, folder, cascade)) if cascade else None,
    )
    if config.integrator:
        _integrate(evaluation, folder, judges, specs[config.integrator.model])
    return write_scores(folder, judges, evaluation.ballot, integrated(folder) if config.integrator else None), found


def _say_what_to_know(counts: Ingested, folder: Path, judges: Mapping[str, Judge]) -> None:
    if counts.num_rejected:
        say(f"evaluate: {counts.num_rejected} invalid rows were skipped, see {folder / 'records' / 'rejected.jsonl'}")
    if counts.num_left_out:
        say(
            f"evaluate: {counts.num_left_out} records are excluded for all judges: human scores of their groups were "
            "used for a judge's prompt or examples, or for selection"
        )
    for name, judge in judges.items():
        for warning in warnings(name, judge.templates):
            say(f"evaluate: WARNING: {warning}")


def _find_examples(
    evaluation: Evaluation, folder: Path, judges: Mapping[str, Judge], pool: Mapping[str, Record], is_served: bool
) -> dict[str, dict[str, Any]]:
    """Retrieve the examples of every judge that has a retriever, and return their summaries."""
    run, summaries = evaluation.run, {}
    for name, judge in judges.items():
        config = evaluation.config.judges[name]
        if config.icl is None:
            continue
        chooser = judge_chooser(config, run.models[config.model], judge, pool, run)
        aspects_of = partial(aspects_of_row, aspects=evaluation.config.aspects)
        choose_examples(folder, name, chooser, aspects_of, is_served=is_served)
        summaries[name] = examples_summary(folder, name, config.icl)
        say_what_is_missing(name, summaries[name])
    return summaries


def _integrate(evaluation: Evaluation, folder: Path, judges: Mapping[str, Judge], spec: ModelSpec) -> None:
    run, config = evaluation.run, evaluation.config.integrator
    assert config is not None
    special_tokens = special_tokens_of(run.models[config.model])
    integrate_all(
        folder,
        judges,
        config,
        spec,
        special_tokens,
        evaluation.ballot,
        aspects=evaluation.config.aspects,
        seed=run.seed,
    )


def _details(folder: Path, name: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The most frequent errors of a judge's rows without a score; empty where all have one, and for the panel."""
    verdicts = folder / "verdicts" / name
    return most_frequent_details(verdicts) if found["unscored"] and verdicts.is_dir() else []


def _summary(
    evaluation: Evaluation, counts: Ingested, scored: Mapping[str, Any], examples: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The summary of `scores.parquet`, with each judge's configuration and the number of excluded records."""
    judges = {
        name: {
            **found,
            **_told(evaluation, name),
            **({"icl": dict(examples[name])} if name in examples else {}),
            **({"details": details} if (details := _details(evaluation.folder, name, found)) else {}),
        }
        for name, found in scored["judges"].items()
    }
    return {**scored, "judges": judges, "num_left_out": counts.num_left_out, "code": code_fingerprint()}


def _told(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """A judge's configuration; of a text feature, which has no prompt, the `feature`. Empty for the panel."""
    judge = evaluation.config.judges.get(name)
    if judge is None:
        return {}
    feature = feature_of(evaluation.run.models[judge.model])
    if feature is None:
        return judge.model_dump(include=SHOWN)
    return {**judge.model_dump(include=SHOWN_OF_FEATURES), "feature": feature}


def _dtypes(config: Config, specs: Mapping[str, ModelSpec]) -> dict[str, str]:
    """The dtype of every model that an engine of this job ran; `auto`: the model's own."""
    found = {name: specs[name] for name in dict.fromkeys(config.model_names)}
    return {name: spec.dtype for name, spec in found.items() if isinstance(spec, VllmSpec)}


def _check_models(run: RunConfig, config: Config, judges: Mapping[str, Judge]) -> None:
    """Check before anything is started or written what would otherwise fail inside the workers."""
    for name, judge in judges.items():
        for task, aspect in judge.templates if config.judges[name].examples else ():
            if not judge.examples[task, aspect]:
                say(f"evaluate: {name}: no example is rated on {task}/{aspect}, so its prompt has none")
        for problem in unaskable(judge, config.judges[name], run.models[config.judges[name].model]).values():
            raise InputError(
                f"evaluate.judges.{name}.score_mode: {problem}",
                code="unsupported",
                key=f"evaluate.judges.{name}.score_mode",
            )


def _shown_groups(config: Config, pool: Mapping[str, Record]) -> frozenset[str]:
    """Groups that a retriever may show or was trained on, so that evaluating on them would be contamination."""
    retrieves = any(judge.icl and judge.icl.arm != "none" for judge in config.judges.values())
    return frozenset(record.group_key for record in pool.values()) if retrieves else frozenset()


def _take_in(evaluation: Evaluation, job: JobDir, pool: Mapping[str, Record]) -> tuple[Ingested, list[tuple[str, str]]]:
    """Write the validated records to `records/`; returns the counts and every (task, aspect) among them."""
    folder = evaluation.folder / "records"
    if not job.is_claimed():
        # Left by a process that was killed before it claimed the folder: its input is unknown.
        shutil.rmtree(folder, ignore_errors=True)
    counts = ingested(folder) or ingest(
        evaluation.data,
        folder,
        block_rows=evaluation.config.block_rows,
        check=evaluation.check,
        without=frozenset().union(
            *(prompts.seen_groups() for prompts in evaluation.prompts.values()),
            *(fitted.groups for fitted in evaluation.fitted.values()),
            _shown_groups(evaluation.config, pool),
            dev_groups(evaluation.data) if evaluation.data.part == "test" else (),
        ),
        without_texts=frozenset().union(*(fitted.texts for fitted in evaluation.fitted.values())),
    )
    wanted = {
        (task, aspect): None
        for task, scores in kinds_of(folder)
        for aspect in aspects_of(task, scores, evaluation.config.aspects)
    }
    return counts, list(wanted)


def _exit_code(summary: Mapping[str, Any], config: Config) -> int:
    worst = min(
        judge["coverage"] + sum(judge["unscored"].get(reason, 0) for reason in ON_PURPOSE) / part["num_scores"]
        for part in (summary, summary.get("pairs", summary))
        for judge in part["judges"].values()
    )
    # 1 - 0.95 is a little more than 0.05.
    return EXIT_UNSCORED if 1 - worst > config.max_unscored_share + 1e-9 else 0


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    left_out = f", {summary['num_left_out']} excluded" if summary["num_left_out"] else ""
    lines = [f"{summary['num_scores']} scores of {summary['num_records']} records{left_out}", *_told_judges(summary)]
    if pairs := summary.get("pairs"):
        lines += [f"{pairs['num_scores']} comparisons of {pairs['num_pairs']} pairs, in both orders"]
        lines += _told_judges(pairs)
    return "\n".join(lines)


def _told_judges(part: Mapping[str, Any]) -> list[str]:
    """Coverage and errors of each judge, and the file."""
    lines = []
    for name, judge in part["judges"].items():
        why = ", ".join(f"{number} {reason}" for reason, number in judge["unscored"].items())
        lines.append(f"  {name:<16} coverage {judge['coverage']:.3f}" + (f"  unscored: {why}" if why else ""))
        lines += [f"    {one['count']} x {one['unscored']}: {shown(one['detail'])}" for one in judge.get("details", ())]
    return [*lines, f"  {part['file']}"]
