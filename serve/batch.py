"""Job `evaluate`: records x judges -> verdicts -> vote -> `scores.parquet`. The batch path over Ray Data.

Below `{run}/evaluate`: `records/` (the checked input), `verdicts/{judge}/part-*.parquet` (one row a record and aspect),
`scores.parquet` (one row a record and aspect; columns of every judge and of the panel, in points of the human scale),
`manifest.json`. A killed run goes on from the verdicts that are there. Records whose human scores a judge's prompt
has seen are left out, for all judges alike.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from cluster import demands, runtime
from cluster.artifacts import JobDir, file_hash, read_json
from cluster.config import HttpSpec, ModelSpec, RunConfig, Strict, VllmSpec
from cluster.engine import api_key
from cluster.identity import input_hashes, model_identity, spec_of
from cluster.parts import parts_of
from cluster.tokens import labels_problem, special_tokens_of
from judging.datasets import DataConfig, dev_groups, read_pool
from judging.errors import InputError
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import is_task_file, load_task
from judging.template import LABEL_PREFIX
from retrieval.pool import finished
from retrieval.retriever import INDEXED, Retriever
from serve.asking import ask_all
from serve.examples import Chooser, choose_examples, say_what_is_missing
from serve.examples import summary as examples_summary
from serve.fingerprints import code_fingerprint
from serve.ingest import Ingested, ingest, ingested, iter_rows
from serve.integrating import integrate_all, integrated
from serve.integrator import IntegratorConfig
from serve.judge import Judge, JudgeConfig, build_judge
from serve.prompts import Prompts, find_prompts, warnings
from serve.scores import write_scores
from serve.through import served_models
from serve.verdicts import ON_PURPOSE, aspects_of, aspects_of_row, forget_unscored
from serve.voting import Ballot, VoteConfig, ballot_of, panel_identity

EXIT_UNSCORED = 3
JUDGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
TOLD = {"model", "prompt", "score_mode", "examples"}  # of a judge's configuration, in the summary
TAKEN_NAMES = {"panel": "the vote", "length": "the baseline by the candidate's length"}


class Config(Strict):
    """The configuration's `evaluate` section."""

    judges: dict[str, JudgeConfig] = Field(min_length=1)
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: every aspect that people rated")
    vote: VoteConfig = VoteConfig()
    integrator: IntegratorConfig | None = Field(None, description="a model that reads scores and reasons, then decides")
    max_unscored_share: float = Field(0.05, ge=0, le=1, description="of any judge or the panel; above it: exit 3")
    block_rows: int = Field(64, ge=1, description="rows that are done, saved and lost together")

    @model_validator(mode="after")
    def _vote_fits(self) -> Config:
        for name in self.judges:
            if name in TAKEN_NAMES:
                raise ValueError(f"judges: the name `{name}` stands for {TAKEN_NAMES[name]}; call the judge otherwise")
            if not JUDGE_NAME.fullmatch(name):
                raise ValueError(f"judges: {name!r} names a folder and columns: use letters, digits, `_`, `-` and `.`")
        if len(set(self.aspects or ())) != len(self.aspects or ()):
            raise ValueError("aspects: one stands twice")
        if self.vote.min_votes > len(self.judges):
            raise ValueError(
                f"vote.min_votes: {self.vote.min_votes} votes of {len(self.judges)} judges are not possible"
            )
        self._check_cascade()
        weighted = self.vote.rule == "weighted"
        if weighted and set(self.vote.weights) != set(self.judges):
            raise ValueError(f"vote.weights: one weight for each judge is needed: {', '.join(self.judges)}")
        if not weighted and self.vote.weights:
            raise ValueError("vote.weights has no effect with this rule: set vote.rule to weighted")
        if weighted and (min(self.vote.weights.values()) < 0 or sum(self.vote.weights.values()) <= 0):
            raise ValueError("vote.weights: none may be negative, and one must be positive")
        return self

    def _check_cascade(self) -> None:
        cascade = self.vote.cascade
        if cascade is None:
            return
        if cascade.first not in self.judges or len(self.judges) < 2:
            raise ValueError(f"vote.cascade.first: {cascade.first!r} must be one of two or more judges")
        if self.judges[cascade.first].score_mode != "expected":
            raise ValueError(
                f"vote.cascade.first: {cascade.first!r} tells no probabilities: set score_mode to expected"
            )
        if self.vote.min_votes > 1:
            raise ValueError("vote.min_votes: with a cascade one vote must be enough where the first judge is sure")
        if self.vote.rule in ("best", "majority"):
            raise ValueError(f"vote.cascade: with the rule {self.vote.rule} a part of the judges cannot decide")

    def told_judges(self) -> dict[str, dict[str, Any]]:
        """Each judge's configuration as plain values."""
        return {name: json.loads(judge.model_dump_json()) for name, judge in self.judges.items()}


@dataclass(frozen=True)
class Evaluation:
    """One run of the job: what it reads, who judges, where it writes."""

    run: RunConfig
    config: Config
    data: DataConfig
    folder: Path
    prompts: Mapping[str, Prompts]
    ballot: Ballot

    def check(self, record: Record) -> str | None:
        """Why the record cannot be judged, or None."""
        if is_task_file(record.task) and record.task != self.data.task:
            return f"task: a task file ({record.task}) is named in the configuration (data.task), not in a row"
        try:
            known = load_task(record.task).aspects
        except InputError as error:
            return f"task: {error}"
        missing = [aspect for aspect in self.config.aspects or () if aspect not in known]
        return f"task {record.task!r} has no aspect {missing[0]!r}: it has {', '.join(known)}" if missing else None


class Judged(NamedTuple):
    """What the job leaves behind: exit code and the summary of `scores.parquet`."""

    exit_code: int
    summary: dict[str, Any]


def main(
    run: RunConfig, *, retry_failed: bool = False, through_serve: bool = False, within: Path | None = None
) -> Judged:
    """Judge the configured records; resume what a killed run left. `through_serve`: by the evaluators that run already.
    `within`: the folder below which `evaluate/` is written; none: the run's.

    Raises InputError or UserError before anything is written where configuration or data do not fit.
    """
    evaluation, pool, asked = prepared(run, within)
    config, job = evaluation.config, JobDir(within or run.run, "evaluate")
    with job.opened(_fingerprint(evaluation, asked)):
        asks_again = retry_failed and forget_unscored(job)
        done = job.manifest()
        if done and not asks_again and (job.path / "scores.parquet").exists():
            runtime.say(f"evaluate: done before, {job.path} is up to date")
            return Judged(_exit_code(done["summary"], config), done["summary"])
        counts, wanted = _take_in(evaluation, job, pool)
        judges = {
            name: build_judge(
                name, spec, wanted, pool, special_tokens_of(run.models[spec.model]), evaluation.prompts[name]
            )
            for name, spec in config.judges.items()
        }
        _say_what_to_know(counts, job.path, judges)
        _check_askable(run, config, judges)
        _check_indexes(run, config, pool, wanted)
        evaluation.ballot.check(wanted)
        job.claim()
        for name, judge in judges.items():
            evaluation.prompts[name].save(judge.templates, job.path / "templates" / name)
        runtime.start(run.ray)
        if not through_serve:
            demands.check(run, list(asked))
        specs = served_models(run, list(asked)) if through_serve else run.models
        scored, found = judge_all(evaluation, judges, pool, specs)
        summary = _summary(config, counts, scored, found)
        job.finish(summary)
    return Judged(_exit_code(summary, config), summary)


class Prepared(NamedTuple):
    """What the configuration means before any work: `asked` are the identities of the models, by name."""

    evaluation: Evaluation
    pool: Mapping[str, Record]
    asked: Mapping[str, Any]


def prepared(run: RunConfig, within: Path | None = None) -> Prepared:
    """`within`: as for `main`. Raises InputError or UserError where the configuration does not fit."""
    config, data = _sections(run)
    if config.integrator:
        spec_of(run, config.integrator.model, "evaluate.integrator.model")
    for name, spec in config.judges.items():
        if spec.model not in run.models:
            raise InputError(
                f"evaluate.judges.{name}.model: {spec.model!r} is none of models: {', '.join(run.models) or '(none)'}"
            )
    prompts = {name: find_prompts(run.run, name, spec.model, spec.prompt) for name, spec in config.judges.items()}
    pool = read_pool(data)
    names = [judge.model for judge in config.judges.values()] + ([config.integrator.model] if config.integrator else [])
    asked = {name: model_identity(run.models[name]) for name in names}
    ballot = ballot_of(run.run, config.vote, config.told_judges())
    return Prepared(Evaluation(run, config, data, (within or run.run) / "evaluate", prompts, ballot), pool, asked)


def finished_evaluation(run: RunConfig) -> tuple[Prepared, dict[str, Any]]:
    """The evaluation of this configuration and its manifest.

    Raises InputError where it is not finished, UserError where the folder holds that of another configuration.
    """
    job = JobDir(run.run, "evaluate")
    done = job.manifest()
    if done is None or not (job.path / "scores.parquet").exists():
        raise InputError(f"{job.path} holds no finished evaluation: run `inverdict evaluate` first")
    found = prepared(run)
    with job.opened(_fingerprint(found.evaluation, found.asked)):
        return found, done


def judge_all(
    evaluation: Evaluation, judges: Mapping[str, Judge], pool: Mapping[str, Record], specs: Mapping[str, ModelSpec]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Judge the records in `evaluation.folder` with every judge and vote.

    Returns the summary of its `scores.parquet`, and by judge what there is to say of the examples that were found.
    """
    config, folder = evaluation.config, evaluation.folder
    found = _find_examples(evaluation, folder, judges, pool)
    ask_all(
        folder,
        judges,
        config.judges,
        specs,
        aspects=config.aspects,
        seed=evaluation.run.seed,
        cascade=config.vote.cascade,
    )
    if config.integrator:
        _integrate(evaluation, folder, judges, specs[config.integrator.model])
    return write_scores(folder, judges, evaluation.ballot, integrated(folder) if config.integrator else None), found


def _say_what_to_know(counts: Ingested, folder: Path, judges: Mapping[str, Judge]) -> None:
    if counts.num_rejected:
        runtime.say(f"evaluate: {counts.num_rejected} rows did not fit, see {folder / 'records' / 'rejected.jsonl'}")
    if counts.num_left_out:
        runtime.say(
            f"evaluate: {counts.num_left_out} records are left out for all judges: "
            "a judge's prompt has seen human scores of their groups"
        )
    for name, judge in judges.items():
        for warning in warnings(name, judge.templates):
            runtime.say(f"evaluate: WARNING: {warning}")


def _find_examples(
    evaluation: Evaluation, folder: Path, judges: Mapping[str, Judge], pool: Mapping[str, Record]
) -> dict[str, dict[str, Any]]:
    """The examples of every judge that has a retriever, and what there is to say of them."""
    run, told = evaluation.run, {}
    for name, judge in judges.items():
        config = evaluation.config.judges[name]
        if config.icl is None:
            continue
        chooser = judge_chooser(config, run.models[config.model], judge, pool, run)
        aspects_of = partial(aspects_of_row, aspects=evaluation.config.aspects)
        choose_examples(folder, name, chooser, aspects_of)
        told[name] = examples_summary(folder, name, config.icl)
        say_what_is_missing(name, told[name])
    return told


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


def judge_chooser(
    config: JudgeConfig, spec: ModelSpec, judge: Judge, pool: Mapping[str, Record], run: RunConfig
) -> Chooser:
    """How that judge's examples are found, in batch and online alike."""
    assert config.icl is not None
    return Chooser(
        config.icl,
        spec,
        judge.templates,
        pool,
        judge.special_tokens,
        config.score_mode,
        1 if config.score_mode == "expected" else config.max_tokens,
        (run.run / "index").resolve(),
        run.seed,
    )


def _summary(
    config: Config, counts: Ingested, scored: Mapping[str, Any], examples: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The summary of `scores.parquet`, with what each judge is and how many records were left out."""
    judges = {
        name: {
            **found,
            **(config.judges[name].model_dump(include=TOLD) if name in config.judges else {}),
            **({"icl": dict(examples[name])} if name in examples else {}),
        }
        for name, found in scored["judges"].items()
    }
    return {**scored, "judges": judges, "num_left_out": counts.num_left_out, "code": code_fingerprint()}


def _check_askable(run: RunConfig, config: Config, judges: Mapping[str, Judge]) -> None:
    """What the engines would find out only inside the workers, before anything is started or written."""
    for name, judge in judges.items():
        spec = run.models[config.judges[name].model]
        for task, aspect in judge.templates if config.judges[name].examples else ():
            if not judge.examples[task, aspect]:
                runtime.say(f"evaluate: none of {name}'s examples is rated on {aspect} for the task {task}")
        if isinstance(spec, HttpSpec):
            api_key(spec)
        for template in judge.templates.values() if judge.mode == "expected" else ():
            if problem := labels_problem(spec, LABEL_PREFIX, template.scale.labels()):
                raise InputError(f"evaluate.judges.{name}: {problem}")
        no_room = isinstance(spec, VllmSpec) and config.judges[name].max_tokens >= spec.max_model_len
        if judge.mode == "parsed" and no_room:
            raise InputError(f"evaluate.judges.{name}.max_tokens leaves no room in max_model_len for a prompt")


def _check_indexes(
    run: RunConfig, config: Config, pool: Mapping[str, Record], wanted: Sequence[tuple[str, str]]
) -> None:
    """A broken index or one of other towers is found here, not in a worker."""
    arms = {judge.icl.arm for judge in config.judges.values() if judge.icl and judge.icl.arm in INDEXED}
    if arms:
        retriever = Retriever(pool, folder=run.run / "index")
        for arm in sorted(arms):
            retriever.open(wanted, arm)


def _sections(run: RunConfig) -> tuple[Config, DataConfig]:
    config, data = getattr(run, "evaluate", None), getattr(run, "data", None)
    if config is None or data is None:
        raise InputError(f"the configuration has no `{'evaluate' if config is None else 'data'}` section")
    return config, data


def _index_identity(run: RunConfig, config: Config, data: DataConfig) -> Any:
    """What the indexes that a judge searches are; None where none does. InputError where they are missing or other."""
    if not any(judge.icl and judge.icl.arm in INDEXED for judge in config.judges.values()):
        return None
    job = JobDir(run.run, "index")
    finished(job, data)
    return read_json(job.path / "fingerprint.json")


def _fingerprint(evaluation: Evaluation, asked: Mapping[str, Any]) -> dict[str, Any]:
    run, config, data = evaluation.run, evaluation.config, evaluation.data
    own_task = {data.task} if data.task is not None and is_task_file(data.task) else set()
    return {
        "data": json.loads(data.model_dump_json()),
        "evaluate": json.loads(config.model_dump_json(exclude={"max_unscored_share", "block_rows"})),
        "models": dict(asked),
        "files": input_hashes(sorted({*data.records, *data.pool, *data.dev, *own_task})),
        "prompts": {name: file_hash(one.path) for name, one in evaluation.prompts.items() if one.path},
        "index": _index_identity(run, config, data),
        "panel": panel_identity(run.run, config.vote),
        "tasks": file_hash(TASK_FOLDER),
        "seed": run.seed,
        "versions": runtime.versions(),
    }


def _shown_groups(config: Config, pool: Mapping[str, Record]) -> frozenset[str]:
    """Groups whose human scores a retriever may show or has learned from: they cannot test it."""
    retrieves = any(judge.icl and judge.icl.arm != "none" for judge in config.judges.values())
    return frozenset(record.group_key for record in pool.values()) if retrieves else frozenset()


def _take_in(evaluation: Evaluation, job: JobDir, pool: Mapping[str, Record]) -> tuple[Ingested, list[tuple[str, str]]]:
    """The checked records in `records/`, and every (task, aspect) among them."""
    folder = evaluation.folder / "records"
    if not job.is_claimed():
        # Left by a process that was killed before it claimed the folder: nobody knows of which input.
        shutil.rmtree(folder, ignore_errors=True)
    counts = ingested(folder) or ingest(
        evaluation.data,
        folder,
        block_rows=evaluation.config.block_rows,
        check=evaluation.check,
        without=frozenset().union(
            *(prompts.seen_groups() for prompts in evaluation.prompts.values()),
            _shown_groups(evaluation.config, pool),
            dev_groups(evaluation.data) if evaluation.data.part == "test" else (),
        ),
    )
    wanted = {
        (row["task"], aspect): None
        for row in iter_rows(parts_of(folder), ("task", "scores"))
        for aspect in aspects_of(row["task"], row["scores"], evaluation.config.aspects)
    }
    return counts, list(wanted)


def _exit_code(summary: Mapping[str, Any], config: Config) -> int:
    worst = min(
        judge["coverage"] + sum(judge["unscored"].get(reason, 0) for reason in ON_PURPOSE) / summary["num_scores"]
        for judge in summary["judges"].values()
    )
    # 1 - 0.95 is a little more than 0.05.
    return EXIT_UNSCORED if 1 - worst > config.max_unscored_share + 1e-9 else 0


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    left_out = f", {summary['num_left_out']} left out" if summary["num_left_out"] else ""
    lines = [f"{summary['num_scores']} scores of {summary['num_records']} records{left_out}"]
    for name, judge in summary["judges"].items():
        why = ", ".join(f"{number} {reason}" for reason, number in judge["unscored"].items())
        lines.append(f"  {name:<16} coverage {judge['coverage']:.3f}" + (f"  unscored: {why}" if why else ""))
    lines.append(f"  {summary['file']}")
    return "\n".join(lines)
