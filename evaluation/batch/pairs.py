"""Candidates of a group compared in both orders, within the job `evaluate`: pairs -> verdicts -> `pairs.parquet`.

Below `{run}/evaluate/pairs`: `records/` (each pair in both orders), `verdicts/{judge}/part-*.parquet` (as for single
texts) and `pairs.parquet`, with a manifest of their own: pairs can be added to a finished evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cluster.artifacts import JobDir, differences
from cluster.config import RunConfig
from cluster.model_specs import ModelSpec
from cluster.terminal import say
from evaluation.batch.config import Config, Evaluation
from evaluation.batch.inference import ask_all
from evaluation.batch.pair_records import (
    Found,
    compared_aspects,
    find_pairs,
    leave_out_own_family,
    pairs_section,
    write_pair_records,
)
from evaluation.batch.pairs_config import KEY
from evaluation.batch.pairs_table import TABLE, sure_pairs, write_pairs
from evaluation.batch.verdicts import Cascade, forget_unscored
from evaluation.judges.judge_config import JudgeConfig, unaskable
from judging.comparison import pairwise
from judging.errors import InputError
from judging.judge import Judge
from judging.records import Record
from judging.request_templates import pair_template
from judging.tasks import load_task

FOLDER, WHAT = "pairs", "evaluate: pairs"
Engines = Callable[[Iterable[str]], Mapping[str, ModelSpec]]


def compare_pairs(
    evaluation: Evaluation,
    pool: Mapping[str, Record],
    identity: Mapping[str, Any],
    engines: Engines,
    *,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Compare the candidates as `evaluate.pairs` says; completed steps are skipped, a killed run is resumed.

    Args:
        evaluation: the run of the job; its records are on disk.
        pool: the rated texts by id.
        identity: the fingerprint of the evaluation.
        engines: starts Ray and returns the models of these names.
        retry_failed: query again what has no score.

    Returns:
        The summary of `pairs.parquet`.

    Raises:
        InputError, UserError: configuration or data are invalid; nothing has been written.
    """
    config, job = pairs_section(evaluation), JobDir(evaluation.folder, FOLDER)
    chosen = config.comparing(evaluation.config.judges, evaluation.config.vote)

    def work() -> dict[str, Any]:
        found = find_pairs(evaluation)
        plain = {name: evaluation.judge(name, (), pool) for name in chosen}
        judges = {name: pairwise(judge, found.keys, with_tie=config.tie.label) for name, judge in plain.items()}
        _check_models(evaluation, judges)
        _say_what_to_know(evaluation, found, judges)
        job.claim()
        write_pair_records(evaluation, job.path / "records")
        leave_out_own_family(evaluation, judges, job.path / "verdicts")
        specs = engines([one.model for one in chosen.values()])
        _ask(evaluation, judges, chosen, specs, job.path)
        return {**write_pairs(evaluation, judges, job.path), "num_alone": found.num_alone}

    told = {
        "evaluate": identity,
        "pairs": json.loads(config.model_dump_json()),
        "judges": list(chosen),
        # The words around every task's question are in the code; the questions are in the evaluation's identity.
        "prompt": pair_template(load_task("qa"), "overall", with_tie=config.tie.label).fingerprint[:16],
    }
    return job.complete(told, work, what=WHAT, reopens=lambda: retry_failed and forget_unscored(job))


def _ask(
    evaluation: Evaluation,
    judges: Mapping[str, Judge],
    configs: Mapping[str, JudgeConfig],
    specs: Mapping[str, ModelSpec],
    folder: Path,
) -> None:
    """Query the judges for their missing verdicts; with a cascade the first one about every pair."""
    cascade = evaluation.config.vote.cascade
    ask_all(
        folder,
        judges,
        configs,
        specs,
        aspects=compared_aspects(evaluation),
        seed=evaluation.run.seed,
        cascade=Cascade(cascade.first, partial(sure_pairs, evaluation, cascade, folder)) if cascade else None,
        what=WHAT,
    )


def check_pairs(evaluation: Evaluation) -> None:
    """Raises InputError where the judges, or the records on disk, cannot be compared as configured."""
    pairs_section(evaluation).comparing(evaluation.config.judges, evaluation.config.vote)
    find_pairs(evaluation)


def has_pairs(run: RunConfig) -> bool:
    """Whether the run has finished pairs, for commands that only read them.

    Raises InputError where the configuration has pairs, and those on disk are not finished or are others.
    """
    job = JobDir(run.run / "evaluate", FOLDER)
    done = job.manifest()
    config: Config | None = getattr(run, "evaluate", None)
    if config is not None and config.pairs is not None:
        earlier = done["fingerprint"]["pairs"] if done else None
        if done is None or differences(earlier, json.loads(config.pairs.model_dump_json())):
            raise InputError(
                f"`{KEY}`: no finished pairs of this configuration found in {job.path}. Run `inverdict evaluate` "
                "first.",
                code="missing_job",
                key=KEY,
            )
    return done is not None and (job.path / TABLE).exists()


def _check_models(evaluation: Evaluation, judges: Mapping[str, Judge]) -> None:
    """Raises InputError or UserError where a model cannot be queried about pairs."""
    for name, judge in judges.items():
        config = evaluation.config.judges[name]
        for problem in unaskable(judge, config, evaluation.run.models[config.model]).values():
            raise InputError(f"`{KEY}`: {name}: {problem}", code="unsupported", key=f"{KEY}.judges")


def _say_what_to_know(evaluation: Evaluation, found: Found, judges: Mapping[str, Judge]) -> None:
    left = [name for name in evaluation.config.judges if name not in judges]
    if left and not pairs_section(evaluation).judges:
        say(
            f"evaluate: pairs: without {', '.join(left)}: fitted judges and text features rate single texts, and judges"
            " that differ only in prompt or examples would give the same answers"
        )
    if found.num_nameless:
        say(f"evaluate: pairs: {found.num_nameless} records without a system are in no pair")
    if found.num_alone:
        say(f"evaluate: pairs: {found.num_alone} groups have no pair to compare")
