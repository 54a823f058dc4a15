"""What the job `evaluate` is asked to do: its configuration, checked, and what decides its result.

Knows no engines and writes nothing: the work is batch.py's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from cluster import runtime
from cluster.artifacts import JobDir, differences, file_hash, read_json
from cluster.config import RunConfig, Strict, section
from cluster.identity import input_hashes, model_identity, spec_identity, spec_of
from evaluation.judges.aggregation import Ballot, VoteConfig, ballot_of, panel_identity
from evaluation.judges.integrator import IntegratorConfig
from evaluation.judges.judge_config import JudgeConfig
from evaluation.judges.prompt_sources import Prompts, find_prompts
from judging.data_config import DataConfig
from judging.datasets import read_pool
from judging.errors import InputError
from judging.readers import RowError
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import is_task_file, load_task, unknown_aspect
from retrieval.pool import finished
from retrieval.retriever import INDEXED

JUDGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RULES = ("mean", "median", "best", "learned", "integrated")
TAKEN_NAMES = {
    "panel": "the vote",
    "length": "the baseline by the candidate's length",
    **dict.fromkeys(RULES, "a rule of the vote"),
}


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

    @property
    def model_names(self) -> list[str]:
        """The models that are asked, by their names under `models`."""
        return [judge.model for judge in self.judges.values()] + ([self.integrator.model] if self.integrator else [])

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

    def check(self, record: Record) -> RowError | str | None:
        """Why the record cannot be judged, or None."""
        if is_task_file(record.task) and record.task != self.data.task:
            return f"task: a task file ({record.task}) is named in the configuration (data.task), not in a row"
        try:
            known = load_task(record.task).aspects
        except InputError as error:
            return f"task: {error}"
        missing = [aspect for aspect in self.config.aspects or () if aspect not in known]
        if missing:
            return f"task {record.task!r} has no aspect {missing[0]!r}: it has {', '.join(known)}"
        return unknown_aspect(record)


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
    asked = {name: model_identity(run.models[name]) for name in config.model_names}
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
    with job.opened(fingerprint(found.evaluation, found.asked)):
        return found, done


def earlier_evaluation(run: RunConfig) -> tuple[JobDir, dict[str, Any]]:
    """The folder of a run's finished evaluation and its manifest, for what reads the scores alone: the data and the
    models need not be here.

    Raises InputError where it is not finished, or where it is that of another configuration.
    """
    job = JobDir(run.run, "evaluate")
    done = job.manifest()
    if done is None or not (job.path / "scores.parquet").exists():
        raise InputError(f"{job.path} holds no finished evaluation: run `inverdict evaluate` first")
    earlier = {key: done["fingerprint"].get(key) for key in ("data", "evaluate", "models", "seed")}
    if getattr(run, "evaluate", None) is None or getattr(run, "data", None) is None:
        return job, done  # a configuration that names the run folder alone
    config, data = _sections(run)
    now = {**_asked_for(config, data), "seed": run.seed}
    now["models"] = {name: spec_identity(run.models[name]) for name in config.model_names if name in run.models}
    for spec in (earlier["models"] or {}).values():
        spec.pop("weights", None)
    if changed := differences(earlier, json.loads(json.dumps(now))):
        raise InputError(
            f"{job.path} holds the evaluation of another {changed[0]}: give the configuration that it was made with, "
            "or evaluate with this one in another run directory (--set run=...)"
        )
    return job, done


def _sections(run: RunConfig) -> tuple[Config, DataConfig]:
    return section(run, "evaluate", Config), section(run, "data", DataConfig)


def _index_identity(run: RunConfig, config: Config, data: DataConfig) -> Any:
    """What the indexes that a judge searches are; None where none does. InputError where they are missing or other."""
    if not any(judge.icl and judge.icl.arm in INDEXED for judge in config.judges.values()):
        return None
    job = JobDir(run.run, "index")
    finished(job, data)
    return read_json(job.path / "fingerprint.json")


def _asked_for(config: Config, data: DataConfig) -> dict[str, Any]:
    """The sections of the configuration that decide the scores, as plain values."""
    return {
        "data": json.loads(data.model_dump_json()),
        "evaluate": json.loads(config.model_dump_json(exclude={"max_unscored_share", "block_rows"})),
    }


def fingerprint(evaluation: Evaluation, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides the scores. `asked`: identities of the models, by name."""
    run, config, data = evaluation.run, evaluation.config, evaluation.data
    return {
        **_asked_for(config, data),
        "models": dict(asked),
        "files": input_hashes(sorted({*data.records, *data.pool, *data.dev, *data.task_files})),
        "prompts": {name: file_hash(one.path) for name, one in evaluation.prompts.items() if one.path},
        "index": _index_identity(run, config, data),
        "panel": panel_identity(run.run, config.vote),
        "tasks": file_hash(TASK_FOLDER),
        "seed": run.seed,
        "versions": runtime.versions(),
    }
