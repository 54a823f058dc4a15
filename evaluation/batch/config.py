"""The job `evaluate`: its configuration, validated, and the fingerprint of everything that determines its scores.

No engines here, and nothing is written: see evaluate.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from cluster import runtime
from cluster.artifacts import JobDir, differences, file_hash
from cluster.config import RunConfig, section
from cluster.identity import OF_FILES, input_hashes, model_identity, spec_identity, spec_of
from cluster.strict import Strict
from cluster.tokens import special_tokens_of
from evaluation.batch.pairs_config import PairsConfig
from evaluation.judges.aggregation import Ballot, VoteConfig, ballot_of, panel_identity
from evaluation.judges.fitted_judges import FittedJudge, check_covers, uncut, with_fitted
from evaluation.judges.integrator import IntegratorConfig
from evaluation.judges.judge_config import FEATURE, JudgeConfig, build_judge
from evaluation.judges.prompt_sources import Prompts, find_prompts
from judging.data_config import DataConfig
from judging.datasets import read_pool
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.judge import Judge
from judging.readers import RowError
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import is_task_file, load_task, unknown_aspect
from retrieval.pool import index_identity
from retrieval.retriever import INDEXED

JUDGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RULES = ("mean", "median", "best", "learned", "integrated")
TAKEN_NAMES = {
    "panel": "the panel's score",
    "length": "the length baseline",
    "people": "the labels",
    **dict.fromkeys(RULES, "an aggregation rule"),
}


class Config(Strict):
    """The configuration's `evaluate` section."""

    judges: dict[str, JudgeConfig] = Field(min_length=1)
    aspects: tuple[str, ...] | None = Field(
        None, min_length=1, description="aspects to judge; unset: every aspect with human scores"
    )
    vote: VoteConfig = VoteConfig()
    integrator: IntegratorConfig | None = Field(
        None, description="a model that reads all scores and reasons and gives the final score"
    )
    pairs: PairsConfig | None = Field(None, description="compare candidates of a group with each other as well")
    max_unscored_share: float = Field(
        0.05, ge=0, le=1, description="accepted share without a score, of any judge or the panel; above it: exit 3"
    )
    block_rows: int = Field(64, ge=1, description="minimum rows per block, the unit of work that is saved and resumed")

    @model_validator(mode="after")
    def _vote_fits(self) -> Config:
        for name in self.judges:
            if name in TAKEN_NAMES:
                raise InputError(
                    f"the name `{name}` is reserved for {TAKEN_NAMES[name]}. Rename the judge.",
                    code="invalid_value",
                    key="judges",
                )
            if not JUDGE_NAME.fullmatch(name):
                raise InputError(
                    f"{name!r} cannot name a folder and columns. Use letters, digits, `_`, `-` and `.`, and begin "
                    "with a letter or digit.",
                    code="invalid_value",
                    key="judges",
                )
        if len(set(self.aspects or ())) != len(self.aspects or ()):
            raise InputError("contains a duplicate. Remove it.", code="invalid_value", key="aspects")
        if self.vote.min_votes > len(self.judges):
            raise InputError(
                f"{self.vote.min_votes} votes are not possible with {len(self.judges)} judge(s). Lower it.",
                code="infeasible",
                key="vote.min_votes",
            )
        if self.pairs:
            self.pairs.check(list(self.judges))
        self._check_cascade()
        self._check_weights()
        return self

    def _check_weights(self) -> None:
        if self.vote.rule != "weighted":
            if self.vote.weights:
                raise InputError(
                    f"has no effect with the rule {self.vote.rule}. Set vote.rule to weighted.",
                    code="conflict",
                    key="vote.weights",
                )
            return
        if set(self.vote.weights) != set(self.judges):
            raise InputError(
                f"must have exactly one weight per judge: {', '.join(self.judges)}.",
                code="invalid_value",
                key="vote.weights",
            )
        if min(self.vote.weights.values()) < 0 or sum(self.vote.weights.values()) <= 0:
            raise InputError(
                "no weight may be negative, and at least one must be positive.",
                code="invalid_value",
                key="vote.weights",
            )

    def _check_cascade(self) -> None:
        cascade = self.vote.cascade
        if cascade is None:
            return
        if cascade.first not in self.judges or len(self.judges) < 2:
            raise InputError(
                f"{cascade.first!r} must be one of at least two judges: {', '.join(self.judges)}.",
                code="unknown_judge",
                key="vote.cascade.first",
            )
        if self.judges[cascade.first].score_mode != "expected":
            raise InputError(
                f"{cascade.first!r} has no label probabilities. Set its score_mode to expected.",
                code="conflict",
                key="vote.cascade.first",
            )
        if self.vote.min_votes > 1:
            raise InputError(
                "a cascade needs 1: where the first judge is sure, the others are not queried.",
                code="conflict",
                key="vote.min_votes",
            )
        if self.vote.rule in ("best", "majority"):
            raise InputError(
                f"the rule {self.vote.rule} cannot aggregate the scores of only some judges. Choose another vote.rule.",
                code="conflict",
                key="vote.cascade",
            )

    @property
    def model_names(self) -> list[str]:
        """The models to query, by their names under `models`."""
        return [judge.model for judge in self.judges.values()] + ([self.integrator.model] if self.integrator else [])

    def with_judges(self, judges: Mapping[str, JudgeConfig]) -> Config:
        """The section with these judges, as `with_fitted` resolves them.

        Raises InputError where the cascade's first judge is a text feature, which only its model tells.
        """
        cascade = self.vote.cascade
        if cascade and judges[cascade.first].score_mode == FEATURE:
            raise InputError(
                f"`evaluate.vote.cascade.first`: {cascade.first!r} is a text feature, which has no label "
                "probabilities. Name another judge.",
                code="conflict",
                key="evaluate.vote.cascade.first",
            )
        return self.model_copy(update={"judges": dict(judges)})

    def told_judges(self) -> dict[str, dict[str, Any]]:
        """Each judge's configuration as plain values."""
        return {name: json.loads(judge.model_dump_json()) for name, judge in self.judges.items()}


@dataclass(frozen=True)
class Evaluation:
    """One run of the job: its data, judges and folder."""

    run: RunConfig
    config: Config
    data: DataConfig
    folder: Path
    prompts: Mapping[str, Prompts]
    ballot: Ballot
    fitted: Mapping[str, FittedJudge] = field(default_factory=dict)

    def judge(self, name: str, wanted: Iterable[tuple[str, str]], pool: Mapping[str, Record]) -> Judge:
        """The judge of that name for (task, aspect) pairs.

        Args:
            name: a key of `config.judges`.
            wanted: what it is to judge.
            pool: the rated texts by id.

        Raises:
            InputError: a prompt or an example does not fit, or a fitted judge was not fitted for one of them.
        """
        spec, keys, fitted = self.config.judges[name], list(wanted), self.fitted.get(name)
        if fitted:
            check_covers(name, fitted, keys)
        tokens = special_tokens_of(self.run.models[spec.model])
        regressions = fitted.regressions if fitted else None
        return build_judge(name, spec, keys, pool, tokens, self.prompts[name], regressions)

    def check(self, record: Record) -> RowError | None:
        """Why the record cannot be judged, or None."""
        if is_task_file(record.task) and record.task != self.data.task:
            return RowError(
                f"task: a task file ({record.task}) must be set as data.task in the configuration, not in a row",
                code="unsupported",
                key="task",
            )
        try:
            known = load_task(record.task).aspects
        except InputError as error:
            return RowError(f"task: {error}", code=error.code, key="task")
        missing = [aspect for aspect in self.config.aspects or () if aspect not in known]
        if missing:
            return RowError(
                f"the task {record.task!r} has no aspect {missing[0]!r} of evaluate.aspects; it has {', '.join(known)}",
                code="unknown_aspect",
                key="evaluate.aspects",
            )
        return unknown_aspect(record)


class Prepared(NamedTuple):
    """The configuration resolved before any work. `asked`: the identities of the models to query, by name."""

    evaluation: Evaluation
    pool: Mapping[str, Record]
    asked: Mapping[str, Any]


def prepared(run: RunConfig, within: Path | None = None) -> Prepared:
    """Resolve the configuration: prompts, pool, models, aggregation. `within`: as for `evaluate.main`.

    Raises InputError or UserError where the configuration is invalid.
    """
    config, data = _sections(run)
    if config.integrator:
        spec_of(run, config.integrator.model, "evaluate.integrator.model")
    for name, spec in config.judges.items():
        if spec.model not in run.models:
            raise InputError(
                f"evaluate.judges.{name}.model: unknown model {spec.model!r}; `models` has "
                f"{', '.join(run.models) or 'none'}.",
                code="unknown_model",
                key=f"evaluate.judges.{name}.model",
            )
    run, judges, fitted = with_fitted(run, config.judges)
    config = config.with_judges(judges)
    prompts = {name: find_prompts(run.run, name, uncut(run, one.model), one.prompt) for name, one in judges.items()}
    pool = read_pool(data)
    asked = {name: model_identity(run.models[name]) for name in config.model_names}
    ballot = ballot_of(run.run, config.vote, config.told_judges(), {name: one.files for name, one in fitted.items()})
    evaluation = Evaluation(run, config, data, (within or run.run) / "evaluate", prompts, ballot, fitted)
    return Prepared(evaluation, pool, asked)


def finished_evaluation(run: RunConfig) -> tuple[Prepared, dict[str, Any]]:
    """The evaluation of this configuration and its manifest.

    Raises InputError where it is not finished, UserError where the folder has that of another configuration.
    """
    job, done = _finished_job(run)
    found = prepared(run)
    with job.opened(fingerprint(found.evaluation, found.asked)):
        return found, done


def earlier_evaluation(run: RunConfig) -> tuple[JobDir, dict[str, Any]]:
    """The folder of a run's finished evaluation and its manifest, for commands that read the scores only: data and
    models may be missing.

    Raises InputError where it is not finished, or where it is that of another configuration.
    """
    job, done = _finished_job(run)
    earlier = {key: done["fingerprint"].get(key) for key in ("data", "evaluate", "models", "seed")}
    if getattr(run, "evaluate", None) is None or getattr(run, "data", None) is None:
        return job, done  # a configuration with the run folder only
    config, data = _sections(run)
    run, judges, _ = with_fitted(run, config.judges, load=False)
    config = config.with_judges(judges)
    now = {**_asked_for(config, data), "seed": run.seed}
    now["models"] = {name: spec_identity(run.models[name]) for name in config.model_names if name in run.models}
    for spec in (earlier["models"] or {}).values():
        for key in OF_FILES:
            spec.pop(key, None)
    if changed := differences(earlier, json.loads(json.dumps(now))):
        raise InputError(
            f"{job.path} was made with another {changed[0]}. Use the configuration that it was made with, or evaluate "
            "this one in another run folder (--set run=...).",
            code="other_configuration",
            key=changed[0].split(" ")[0],
        )
    return job, done


def _finished_job(run: RunConfig) -> tuple[JobDir, dict[str, Any]]:
    """The folder and the manifest of the run's evaluation. Raises InputError where it is not finished."""
    job = JobDir(run.run, "evaluate")
    done = job.manifest()
    if done is None or not (job.path / "scores.parquet").exists():
        raise InputError(
            f"No finished evaluation found in {job.path}. Run `inverdict evaluate` first.", code="missing_job"
        )
    return job, done


def _sections(run: RunConfig) -> tuple[Config, DataConfig]:
    return section(run, "evaluate", Config), section(run, "data", DataConfig)


def _index_identity(run: RunConfig, config: Config, data: DataConfig) -> Any:
    """The identity of the indexes, or None where no judge uses one. Raises InputError where they do not fit."""
    if not any(judge.icl and judge.icl.arm in INDEXED for judge in config.judges.values()):
        return None
    return index_identity(run.run, data)


def _asked_for(config: Config, data: DataConfig) -> dict[str, Any]:
    """The sections of the configuration that determine the scores, as plain values."""
    return {
        "data": data.identity(),
        "evaluate": json.loads(config.model_dump_json(exclude={"max_unscored_share", "block_rows", "pairs"})),
    }


def fingerprint(evaluation: Evaluation, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that determines the scores. `asked`: identities of the models, by name."""
    run, config, data = evaluation.run, evaluation.config, evaluation.data
    files = sorted({*data.records, *data.pool, *data.dev, *data.task_files})
    asking = (*config.judges.values(), config.integrator)
    return {
        **_asked_for(config, data),
        "models": dict(asked),
        "files": input_hashes(files, hub_hashes(files)),
        "prompts": {name: file_hash(one.path) for name, one in evaluation.prompts.items() if one.path},
        "index": _index_identity(run, config, data),
        "fitted": {name: dict(one.files) for name, one in evaluation.fitted.items()},
        "panel": panel_identity(run.run, config.vote),
        "tasks": file_hash(TASK_FOLDER),
        "seed": run.seed,
        # How the seeds are made decides the sampled replies, and one run must not mix two ways.
        **({"seeds": "by prompt"} if any(one and one.is_sampled for one in asking) else {}),
        "versions": runtime.versions(),
    }
