"""What `inverdict fit-judge` made for a judge, as batch and online use it: its regressions and its cut model.

`with_fitted` replaces the model of each fitted judge by that model cut to the layers that its regressions read, so that
everything behind it, engines and fingerprints, knows models only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cluster import models
from cluster.artifacts import JobDir, file_hash
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.identity import input_hashes, model_identity
from cluster.model_layers import CutSpec
from cluster.model_specs import VllmSpec
from evaluation.judges.feature_judges import as_feature
from evaluation.judges.judge_config import FITTED, JudgeConfig
from evaluation.judges.prompt_sources import find_prompts
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.fitted.regression import Regression, read_files
from judging.tasks import FOLDER as TASK_FOLDER
from retrieval.pool import index_identity, pool_identity, rated_data
from retrieval.retriever import INDEXED

JOB = "fit_judge"
# Of a judge's identity, in words.
PARTS = {
    "model": "another model",
    "prompts": "other prompts",
    "judge": "another prompt or examples",
    "tasks": "another rubric of a task",
    "examples": "another data.pool, index or seed, from which its examples come",
}


@dataclass(frozen=True)
class FittedJudge:
    """`regressions` by (task, aspect); `groups`: the group keys whose human scores they learned from, and `texts`: the
    hashes of those texts (`Record.text_hash`). `depth`: layers of the model that are run, and `cut_model`: the folder
    with these layers, computed in `dtype`; None for a scripted model. `files`: name -> sha256.
    """

    regressions: Mapping[tuple[str, str], Regression]
    groups: frozenset[str]
    texts: frozenset[str]
    depth: int
    cut_model: Path | None
    dtype: str | None
    files: Mapping[str, str]


def folder_of(run: Path, judge: str) -> Path:
    """The folder of the judge's regressions."""
    return run / JOB / judge


def cut_model(run: Path, model: str, fingerprint: str, depth: int) -> Path:
    """The folder of a model cut to `depth` layers; judges of one model and depth share it.

    Args:
        run: the run folder.
        model: a key of `models`.
        fingerprint: of the whole model's content, so that another model of that name has its own folder.
        depth: number of layers.
    """
    return run / JOB / "models" / f"{model}-{depth}-{fingerprint[:8]}"


def judge_identity(run: RunConfig, name: str, config: JudgeConfig) -> dict[str, Any]:
    """What decides a fitted judge's hidden states: its model, its prompts and its examples.

    Raises InputError or UserError where one of them is missing.
    """
    spec = run.models[config.model]
    prompts = find_prompts(run.run, name, config.model, config.prompt)
    data: DataConfig | None = getattr(run, "data", None)
    return {
        "judge": json.loads(config.model_dump_json(include={"model", "prompt", "examples", "icl"})),
        "model": model_identity(spec),
        "prompts": file_hash(prompts.path) if prompts.path else None,
        "tasks": [file_hash(TASK_FOLDER), input_hashes(data.task_files if data else ())],
        "examples": _examples_identity(run, config),
    }


def _examples_identity(run: RunConfig, config: JudgeConfig) -> Any:
    """What decides which examples are shown and their texts; None where there are none."""
    if not (config.examples or config.icl):
        return None
    data = rated_data(run)
    return {
        "pool": pool_identity(data),
        "index": index_identity(run.run, data) if config.icl and config.icl.arm in INDEXED else None,
        "seed": run.seed if config.icl else None,
    }


def _manifest(run: RunConfig, name: str) -> dict[str, Any]:
    job = JobDir(run.run, f"{JOB}/{name}")
    if (done := job.manifest()) is None:
        raise InputError(
            f"`evaluate.judges.{name}`: no finished `fit-judge` found in {job.path}. Run `inverdict fit-judge` first.",
            code="missing_job",
            key=f"evaluate.judges.{name}",
        )
    return done


def load_fitted(run: RunConfig, name: str, config: JudgeConfig) -> FittedJudge:
    """The regressions of a judge of the configuration.

    Raises InputError where `fit-judge` has not finished, was run with another model or prompt, or is damaged.
    """
    key, done, job = f"evaluate.judges.{name}", _manifest(run, name), JobDir(run.run, f"{JOB}/{name}")
    now = json.loads(json.dumps(judge_identity(run, name, config)))
    for part, what in PARTS.items():
        if done["fingerprint"]["judge"].get(part) != now[part]:
            raise InputError(
                f"`{key}`: {job.path} was fitted with {what}. Delete it and run `inverdict fit-judge` again.",
                code="other_configuration",
                key=key,
            )
    regressions: dict[tuple[str, str], Regression] = {}
    groups: set[str] = set()
    texts: set[str] = set()
    for file, digest in done["files"].items():
        if not (job.path / file).is_file() or file_hash(job.path / file) != digest:
            raise _damaged(job.path / file, key)
        if not file.endswith(".safetensors"):
            continue
        one, about = read_files(job.path / file)
        regressions[about["task"], about["aspect"]] = one
        groups |= set(about["taught"]["groups"])
        texts |= set(about["taught"]["texts"])
    if not has_its_model(run.run, done):
        raise _damaged(run.run / done["summary"]["cut_model"]["folder"], key)
    return FittedJudge(regressions, frozenset(groups), frozenset(texts), *_model_of(run.run, done), done["files"])


def has_its_model(run: Path, done: Mapping[str, Any]) -> bool:
    """Whether the cut model of a finished `fit-judge`, if there is one, is as it was made. `done`: the manifest."""
    made = done["summary"]["cut_model"]
    return made is None or is_model(run / made["folder"], made["fingerprint"])


def is_model(folder: Path, fingerprint: str, *, verify: bool = False) -> bool:
    """Whether a folder holds the model of that fingerprint. `verify`: now, not when this job first looked."""
    try:
        return folder.is_dir() and models.resolve(str(folder), verify=verify).fingerprint == fingerprint
    except UserError:  # files are missing
        return False


def _model_of(run: Path, done: Mapping[str, Any]) -> tuple[int, Path | None, str | None]:
    """Depth, folder and dtype of the cut model."""
    told = done["summary"]
    made = told["cut_model"]
    return int(told["depth"]), run / made["folder"] if made else None, told["dtype"]


def _damaged(path: Path, key: str) -> InputError:
    return InputError(
        f"`{key}`: {path} is missing or was changed after `fit-judge`. Delete it and run `inverdict fit-judge` again.",
        code="damaged_artifact",
        key=key,
    )


class Resolved(NamedTuple):
    """A configuration with the cut models of its fitted judges. `judges`: the fitted ones name those models.

    `fitted`: what each fitted judge learned, by name.
    """

    run: RunConfig
    judges: dict[str, JudgeConfig]
    fitted: dict[str, FittedJudge]


def with_fitted(run: RunConfig, judges: Mapping[str, JudgeConfig], *, load: bool = True) -> Resolved:
    """Look up the fitted judges of a configuration; one without them is returned as it is.

    Args:
        run: the configuration.
        judges: the judges of `evaluate`, by name, with known models.
        load: read and check what they learned; False: only name their cut models, without their files.

    Raises:
        InputError, UserError: see `load_fitted`.
    """
    specs, resolved = dict(run.models), {name: as_feature(run, name, one) for name, one in judges.items()}
    wanted = {name: one for name, one in resolved.items() if one.score_mode == FITTED}
    found = {name: load_fitted(run, name, one) if load else _named(run, name) for name, one in wanted.items()}
    for name, one in found.items():
        model = judges[name].model
        spec = specs[model]
        if isinstance(spec, VllmSpec):
            cut = f"{model}.layers{one.depth}"
            told = spec.model_dump(exclude={"source", "revision", "dtype"})
            specs[cut] = CutSpec(**told, source=str(one.cut_model), dtype=one.dtype, cut_from=model)
            resolved[name] = judges[name].model_copy(update={"model": cut})
    return Resolved(run.model_copy(update={"models": specs}) if found else run, resolved, found)


def _named(run: RunConfig, name: str) -> FittedJudge:
    """A fitted judge of which only the cut model's name is known."""
    done = _manifest(run, name)
    return FittedJudge({}, frozenset(), frozenset(), *_model_of(run.run, done), done["files"])


def uncut(run: RunConfig, model: str) -> str:
    """The name under `models` of the whole model of a cut one; any other name as it is."""
    spec = run.models.get(model)
    return spec.cut_from if isinstance(spec, CutSpec) else model


def check_covers(name: str, found: FittedJudge, wanted: Iterable[tuple[str, str]]) -> None:
    """Raises InputError where a (task, aspect) of `wanted` has no regression."""
    missing = [key for key in wanted if key not in found.regressions]
    if missing:
        known = ", ".join(f"{task}/{aspect}" for task, aspect in found.regressions)
        raise InputError(
            f"`evaluate.judges.{name}` was not fitted for {missing[0][0]}/{missing[0][1]}, only for {known}. Set "
            "evaluate.aspects, or label texts of it in data.pool and run `inverdict fit-judge` again.",
            code="unknown_aspect",
            key=f"evaluate.judges.{name}",
        )
