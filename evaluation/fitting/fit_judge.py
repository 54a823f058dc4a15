"""Job `fit-judge`: a judge whose score is a regression on its model's hidden state, learned from people's labels.

Below `{run}/fit_judge/JUDGE`: `states/part-*.parquet` (hidden states of the labelled texts, kept for resuming),
`TASK.ASPECT.safetensors` and `TASK.ASPECT.json` (the regression, how well it agrees with people, what taught it),
`held_out.parquet` (each label with the held-out scores of the judge and its baselines), `manifest.json`. Below
`{run}/fit_judge/models`: the model cut to the layers that are read. The texts come from `data.pool` (or its
`data.pool_share`) or from the dev part; their groups are never judged by this run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster import feasibility as demands
from cluster import models, runtime
from cluster.artifacts import JobDir, Outcome, read_json
from cluster.config import RunConfig, section
from cluster.model_layers import num_layers
from cluster.model_specs import ModelSpec, ScriptedSpec, VllmSpec
from cluster.precision import settled
from cluster.tables import aligned
from cluster.terminal import say
from cluster.tokens import special_tokens_of
from evaluation.batch.config import Config as EvaluateConfig
from evaluation.fitting.config import Config
from evaluation.fitting.labels import Labels, read_labels
from evaluation.fitting.learning import (
    POOLED,
    STATISTIC,
    Key,
    learn,
    merged_groups,
    of_source,
    usable,
)
from evaluation.fitting.states import State, read_all
from evaluation.fitting.writing import write_cut_model, write_held_out, write_regression
from evaluation.judges.fitted_judges import JOB, has_its_model, judge_identity
from evaluation.judges.judge_config import FITTED, JudgeConfig, build_judge, judge_chooser
from evaluation.judges.prompt_sources import find_prompts
from evaluation.measure.formatting import with_interval
from judging.errors import InputError
from judging.records import Record
from judging.tasks import load_task
from retrieval.encode import encode
from retrieval.retriever import LEARNED

HELD_OUT = "held_out.parquet"
ENCODED_TOKENS = 256  # of a text, for the baseline of embeddings


def main(run: RunConfig) -> Outcome:
    """Fit the configured judges; completed ones are skipped, a killed one resumes.

    Raises InputError or UserError where configuration or labels are invalid; nothing has been written.
    """
    config, evaluate = section(run, "fit_judge", Config), section(run, "evaluate", EvaluateConfig)
    names = _names(config, evaluate)
    labels = read_labels(run, config.labels)
    _check_labels(run, config, evaluate, names)
    for name in names:  # before a model is fetched
        _check_numbers(name, _teaching(run, name, evaluate.judges[name], labels), config)
    for name in names:
        _depths(config, run, evaluate.judges[name].model, name)
    summaries = {}
    for name in names:
        judge = evaluate.judges[name]
        job = JobDir(run.run, f"{JOB}/{name}")
        fingerprint = {
            "fit_judge": json.loads(config.model_dump_json(exclude={"judges", "block_rows"})),
            "judge": judge_identity(run, name, judge),
            "labels": labels.identity,
            "seed": run.seed,
            "versions": runtime.versions(),
        }

        def work(name: str = name, judge: JudgeConfig = judge, job: JobDir = job) -> dict[str, Any]:
            return _fit(run, config, name, judge, job, labels)

        def lost(job: JobDir = job) -> bool:
            return (done := job.manifest()) is not None and not has_its_model(run.run, done)

        summaries[name] = job.complete(fingerprint, work, what=f"fit-judge: {name}", reopens=lost)
    return Outcome(0, {"judges": summaries})


def _names(config: Config, evaluate: EvaluateConfig) -> list[str]:
    """The judges to fit. Raises InputError where one is no fitted judge."""
    fitted = [name for name, judge in evaluate.judges.items() if judge.score_mode == FITTED]
    for name in config.judges or ():
        if name not in fitted:
            raise InputError(
                f"`fit_judge.judges`: {name!r} is not a judge of `evaluate` with score_mode: fitted; those are "
                f"{', '.join(fitted) or 'none'}.",
                code="unknown_judge",
                key="fit_judge.judges",
            )
    if not fitted:
        raise InputError(
            "`evaluate.judges` has no judge with score_mode: fitted. Add one, or remove the section `fit_judge`.",
            code="unknown_judge",
            key="evaluate.judges",
        )
    return list(config.judges or fitted)


def _check_labels(run: RunConfig, config: Config, evaluate: EvaluateConfig, names: Sequence[str]) -> None:
    """Raises InputError where the labels have another use that excludes this one."""
    if config.labels == "dev" and getattr(run, "panel", None) is not None:
        raise InputError(
            "`fit_judge.labels: dev` leaves `panel` no text, because a judge may not be selected on what taught it. "
            "Set fit_judge.labels to pool.",
            code="conflict",
            key="fit_judge.labels",
        )
    for name in names:
        icl = evaluate.judges[name].icl
        if config.labels == "pool" and icl and icl.arm in LEARNED:
            raise InputError(
                f"`evaluate.judges.{name}.icl.arm`: {icl.arm} was trained on the labels of data.pool, which would "
                "flatter the fitted judge. Set fit_judge.labels to dev, or another arm.",
                code="conflict",
                key=f"evaluate.judges.{name}.icl.arm",
            )


def _depths(config: Config, run: RunConfig, spec_name: str, name: str) -> list[int]:
    """The numbers of layers to read. Raises InputError or UserError where the model has no readable hidden states."""
    key, spec = f"evaluate.judges.{name}.model", run.models[spec_name]
    if isinstance(spec, ScriptedSpec):
        return [1]
    if not isinstance(spec, VllmSpec):
        raise InputError(
            f"`{key}`: a fitted judge reads hidden states, so its model must run on this cluster (`source`).",
            code="unsupported",
            key=key,
        )
    if spec.adapter:
        raise InputError(
            f"`{key}`: models.{spec_name} is a LoRA adapter, and a fitted judge reads the layers of a whole model. Use "
            "the merged folder (`source`).",
            code="unsupported",
            key=key,
        )
    if changing := sorted({"quantization", "hf_overrides"} & set(spec.engine)):
        raise InputError(
            f"`models.{spec_name}.engine.{changing[0]}`: a fitted judge is learned without it. Remove it.",
            code="unsupported",
            key=f"models.{spec_name}.engine.{changing[0]}",
        )
    layers = num_layers(models.resolve(spec.source, revision=spec.revision).path)
    return sorted({max(1, round(share * layers)) for share in config.depths})


def _fit(run: RunConfig, config: Config, name: str, chosen: JudgeConfig, job: JobDir, labels: Labels) -> dict[str, Any]:
    spec, pool = run.models[chosen.model], labels.pool
    assert isinstance(spec, VllmSpec | ScriptedSpec)
    prompts = find_prompts(run.run, name, chosen.model, chosen.prompt)
    records = _teaching(run, name, chosen, labels)
    wanted = _wanted(records, config)
    judge = build_judge(name, chosen, wanted, pool, special_tokens_of(spec), prompts)
    depths = _depths(config, run, chosen.model, name)
    pairs = [(record, aspect) for task, aspect in wanted for record in _rated(records, task, aspect)]
    groups = merged_groups(records.values())
    job.claim()
    runtime.start(run.ray)
    demands.check(run, [chosen.model])
    settled_spec = _with_own_dtype(settled(run, spec))
    chooser = judge_chooser(chosen, spec, judge, pool, run) if chosen.icl else None
    states = read_all(job.path / "states", judge, pairs, settled_spec, depths, chooser, config.block_rows)
    examples = {
        key: usable(name, key, template.scale, _rated(records, *key), states, groups, config.labels)
        for key, template in judge.templates.items()
    }
    say(f"fit-judge: {name}: fitting {len(pairs)} labels")
    learned = learn(examples, _embeddings(config, pairs), config, run.seed)
    depth = depths[next(iter(learned.values())).choice.depth]
    made = write_cut_model(run, chosen.model, spec, depth) if isinstance(spec, VllmSpec) else None
    fits = {}
    for (task, aspect), one in learned.items():
        fits[f"{task}/{aspect}"] = write_regression(job.path, (task, aspect), one, examples[task, aspect], depth)
    write_held_out(job.path / HELD_OUT, examples, learned)
    dtype = settled_spec.dtype if isinstance(settled_spec, VllmSpec) else None
    return {
        "depth": depth,
        "depths": depths,
        "cut_model": made,
        "dtype": dtype,
        "fits": fits,
        "folder": str(job.path),
    }


def _with_own_dtype(spec: ModelSpec) -> VllmSpec | ScriptedSpec:
    """The model with its own dtype instead of `auto`, which transformers and vLLM decide differently."""
    if isinstance(spec, VllmSpec) and spec.dtype == "auto":
        config = read_json(models.resolve(spec.source, revision=spec.revision).path / "config.json") or {}
        return spec.model_copy(update={"dtype": config.get("dtype") or config.get("torch_dtype") or "float32"})
    assert isinstance(spec, VllmSpec | ScriptedSpec)
    return spec


def _wanted(labelled: Mapping[str, Record], config: Config) -> list[Key]:
    """(task, aspect) pairs to fit. Raises InputError where no text is rated on an aspect of the configuration."""
    rated = dict.fromkeys(
        (record.task, aspect)
        for record in labelled.values()
        for aspect in load_task(record.task).aspects
        if aspect in record.scores
    )
    for aspect in config.aspects or ():
        if not any(aspect == known for _, known in rated):
            raise InputError(
                f"`fit_judge.aspects`: no text of {of_source(config.labels)} is rated on {aspect!r}.",
                code="no_scores",
                key="fit_judge.aspects",
            )
    found = sorted(key for key in rated if config.aspects is None or key[1] in config.aspects)
    if not found:
        raise InputError(
            f"No text of {of_source(config.labels)} has a human score on an aspect of its task. Check data.aspects, or "
            "add rated texts.",
            code="no_scores",
            key=f"data.{config.labels}",
        )
    return found


def _rated(labelled: Mapping[str, Record], task: str, aspect: str) -> list[Record]:
    return [record for record in labelled.values() if record.task == task and aspect in record.scores]


def _teaching(run: RunConfig, name: str, judge: JudgeConfig, labels: Labels) -> dict[str, Record]:
    """The labelled texts without the groups that the judge's prompt was learned or selected on.

    Those would flatter the agreement that is stated.
    """
    seen = find_prompts(run.run, name, judge.model, judge.prompt).seen_groups()
    return {id: record for id, record in labels.records.items() if record.group_key not in seen}


def _check_numbers(name: str, labelled: Mapping[str, Record], config: Config) -> None:
    """Check the labels before a model is fetched or started; hidden states are all taken to be there."""
    there, groups = State((), (), ""), merged_groups(labelled.values())
    for task, aspect in _wanted(labelled, config):
        records = _rated(labelled, task, aspect)
        states = {(record.id, aspect): there for record in records}
        usable(name, (task, aspect), load_task(task).scale_of(aspect), records, states, groups, config.labels)


def _embeddings(config: Config, pairs: Sequence[tuple[Record, str]]) -> dict[str, np.ndarray]:
    if config.baseline_encoder is None:
        return {}
    records = {record.id: record for record, _ in pairs}
    texts = [f"{record.source}\n\n{record.candidate}" for record in records.values()]
    return dict(zip(records, encode(config.baseline_encoder, texts, ENCODED_TOKENS), strict=True))


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal: held-out agreement with people, and that of the baselines."""
    lines = []
    for name, found in summary["judges"].items():
        lines.append(f"{name}: {found['depth']} layers, {found['folder']}")
        table = [["", "n", "groups", STATISTIC, POOLED]]
        for key, one in found["fits"].items():
            table.append([key, f"{one['n']}", f"{one['num_groups']}", "", ""])
            for column, known in one["agreement"].items():
                table.append([f"  {column}", "", "", with_interval(known[STATISTIC]), with_interval(known[POOLED])])
        lines.append(aligned(table))
    return "\n".join(lines)
