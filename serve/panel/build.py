"""A configuration -> the panel that is served: the judges of `evaluate` with all tasks that they can judge.

An invalid configuration is refused by `online`, before a model is started.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster import runtime
from cluster.adapters import weights_of
from cluster.artifacts import JobDir
from cluster.config import RunConfig, section_or_default
from cluster.engine import Engine
from cluster.identity import spec_of
from cluster.model_specs import ModelSpec, ServedSpec, VllmSpec, engine_name
from cluster.tokens import special_tokens_of
from evaluation.batch.config import Config as EvaluateConfig
from evaluation.batch.fingerprints import code_fingerprint
from evaluation.judges.aggregation import Ballot, ballot_of
from evaluation.judges.feature_judges import feature_of
from evaluation.judges.fitted_judges import FittedJudge, uncut, with_fitted
from evaluation.judges.integrator import Integrator
from evaluation.judges.judge_config import (
    JudgeConfig,
    build_judge,
    check_indexes,
    indexed_arms,
    judge_chooser,
    unaskable,
)
from evaluation.judges.prompt_sources import find_prompts
from judging.data_config import DataConfig
from judging.datasets import read_pool
from judging.errors import InputError
from judging.judge import Judge
from judging.records import Record
from judging.tasks import FOLDER, load_task
from retrieval.pool import finished
from serve.panel.certification import Certified, certified, check_required
from serve.panel.config import Config
from serve.panel.panel import Asked, Panel


@dataclass(frozen=True)
class Online:
    """A configuration as it is served: its sections, and each judge with its templates by (task, aspect)."""

    run: RunConfig
    serve: Config
    evaluate: EvaluateConfig
    pool: Mapping[str, Record]
    judges: Mapping[str, Judge]
    ballot: Ballot
    certified: Certified = field(default_factory=Certified)

    @property
    def models(self) -> dict[str, ModelSpec]:
        """The models of the judges and of the integrator, by name."""
        names = [judge.model for judge in self.evaluate.judges.values()]
        names += [self.evaluate.integrator.model] if self.evaluate.integrator else []
        return {name: self.run.models[name] for name in dict.fromkeys(names)}

    @property
    def engines(self) -> dict[str, dict[str, ModelSpec]]:
        """The models by engine, by name: LoRA adapters share that of their base."""
        found: dict[str, dict[str, ModelSpec]] = {}
        for name, spec in self.models.items():
            found.setdefault(engine_name(name, spec), {})[name] = spec
        return found

    def tasks(self) -> dict[str, list[str]]:
        """By task the aspects that at least one judge can judge."""
        found: dict[str, list[str]] = {}
        for judge in self.judges.values():
            for task, aspect in judge.templates:
                if aspect not in found.setdefault(task, []):
                    found[task].append(aspect)
        return found


def online(run: RunConfig) -> Online:
    """The configuration as it is served. Raises InputError or UserError where it cannot be."""
    evaluate: EvaluateConfig | None = getattr(run, "evaluate", None)
    data: DataConfig | None = getattr(run, "data", None)
    if evaluate is None:
        message = "The configuration has no `evaluate` section. Its judges are those that are served."
        raise InputError(message, code="missing_section", key="evaluate")
    config = section_or_default(run, "serve", Config)
    for name in config.replicas:
        engine = engine_name(name, spec_of(run, name, "serve.replicas"))
        if engine != name:
            message = f"`serve.replicas.{name}`: {name} is a LoRA adapter. Set the replicas of its base, {engine}."
            raise InputError(message, code="conflict", key=f"serve.replicas.{name}")
    for name, judge in evaluate.judges.items():
        spec_of(run, judge.model, f"evaluate.judges.{name}.model")
    run, resolved, fitted = with_fitted(run, evaluate.judges)
    evaluate = evaluate.with_judges(resolved)
    pool = read_pool(data) if data is not None else {}
    tasks = _tasks(data)
    judges = {name: _judge(run, name, judge, tasks, pool, fitted.get(name)) for name, judge in evaluate.judges.items()}
    if evaluate.integrator:
        spec_of(run, evaluate.integrator.model, "evaluate.integrator.model")
    files = {name: one.files for name, one in fitted.items()}
    ballot = ballot_of(run.run, evaluate.vote, evaluate.told_judges(), files)
    found = Online(run, config, evaluate, pool, judges, ballot)
    _check_indexes(found, data)
    certificates = certified(run, evaluate, {name: judge.templates for name, judge in judges.items()}, pool)
    if config.require_certificate:
        check_required(certificates, run)
    return dataclasses.replace(found, certified=certificates)


def _tasks(data: DataConfig | None) -> list[str]:
    return [*sorted(file.stem for file in FOLDER.glob("*.yaml")), *(data.task_files if data else ())]


def _judge(
    run: RunConfig,
    name: str,
    config: JudgeConfig,
    tasks: Sequence[str],
    pool: Mapping[str, Record],
    fitted: FittedJudge | None,
) -> Judge:
    """The judge with every template that its prompt source offers and its model supports."""
    spec = spec_of(run, config.model, f"evaluate.judges.{name}.model")
    if isinstance(spec, ServedSpec):
        key = f"models.{config.model}"
        message = f"`{key}` has `backend: served`, a model that is already served. Set its `source` to serve it here."
        raise InputError(message, code="unsupported", key=key)
    prompts = find_prompts(run.run, name, uncut(run, config.model), config.prompt)
    wanted: list[tuple[str, str]] = []
    why: InputError | None = None
    for task in tasks:
        for aspect in load_task(task).aspects:
            if fitted and (task, aspect) not in fitted.regressions:
                continue
            try:
                prompts.template(task, aspect)
            except InputError as error:
                why = error
            else:
                wanted.append((task, aspect))
    if not wanted:
        key = f"evaluate.judges.{name}"
        raise why or InputError(f"`{key}` has no task that it can judge.", code="unknown_task", key=key)
    regressions = fitted.regressions if fitted else None
    judge = build_judge(name, config, wanted, pool, special_tokens_of(spec), prompts, regressions)
    return _only_askable(judge, config, spec)


def _only_askable(judge: Judge, config: JudgeConfig, spec: ModelSpec) -> Judge:
    """Without the templates whose labels are not single tokens for the model. Raises InputError where none is left."""
    problems = unaskable(judge, config, spec)
    kept = {key: template for key, template in judge.templates.items() if key not in problems}
    if not kept:
        key = f"evaluate.judges.{judge.name}"
        raise InputError(f"`{key}`: {next(iter(problems.values()))}", code="unsupported", key=key)
    return dataclasses.replace(judge, templates=kept)


def _check_indexes(found: Online, data: DataConfig | None) -> None:
    if indexed_arms(found.evaluate.judges):
        assert data is not None
        finished(JobDir(found.run.run, "index"), data)
        wanted = [(task, aspect) for task, aspects in found.tasks().items() for aspect in aspects]
        check_indexes(found.run, found.evaluate.judges, found.pool, wanted)


def build_panel(found: Online, engines: Mapping[str, Engine]) -> Panel:
    """The panel over its engines, by model."""
    asked = {}
    for name, config in found.evaluate.judges.items():
        spec = found.run.models[config.model]
        is_parsed = config.score_mode == "parsed"
        asked[name] = Asked(
            found.judges[name],
            engines[config.model],
            max_tokens=config.max_tokens if is_parsed else 1,
            temperature=config.temperature if is_parsed else 0.0,
            chooser=judge_chooser(config, spec, found.judges[name], found.pool, found.run) if config.icl else None,
        )
    wanted, ballot = found.evaluate.integrator, found.ballot
    if wanted is None:
        return Panel(asked, ballot=ballot)
    tokens = special_tokens_of(found.run.models[wanted.model])
    return Panel(asked, Integrator(wanted, engines[wanted.model], tokens), ballot)


class Versions(NamedTuple):
    """Fingerprints of what decides a judgement."""

    code: str
    packages: dict[str, str]
    models: dict[str, str]
    retriever: str | None


def versions(found: Online) -> Versions:
    """Short sha256 fingerprints of the code, the models' weights and the index."""
    weights = {
        name: weights_of(spec)[:16]
        if isinstance(spec, VllmSpec)
        else f"{spec.backend}:{getattr(spec, 'model', feature_of(spec) or name)}"
        for name, spec in found.models.items()
    }
    manifest = found.run.run / "index" / "manifest.json"
    index = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16] if manifest.exists() else None
    return Versions(code_fingerprint(), runtime.versions(), weights, index)


def describe(found: Online) -> list[dict[str, Any]]:
    """The judges for `GET /v1/judges`."""
    described = []
    for name, judge in found.judges.items():
        config = found.evaluate.judges[name]
        feature = feature_of(found.run.models[config.model])
        templates = [
            {
                "task": task,
                "aspect": aspect,
                "scale": [template.scale.low, template.scale.high],
                "origin": "feature" if feature else template.origin,
                "fingerprint": template.fingerprint[:16],
                "fields": [field.name for field in template.fields],
            }
            for (task, aspect), template in judge.templates.items()
        ]
        described.append(
            {
                "id": name,
                "object": "judge",
                "model": config.model,
                "score_mode": config.score_mode,
                "prompt": None if feature else config.prompt,
                "feature": feature,
                "examples": config.icl.arm if config.icl else ("named" if config.examples else "none"),
                "templates": templates,
            }
        )
    return described
