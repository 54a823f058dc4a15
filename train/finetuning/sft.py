"""Job `sft`: distilled responses (black box) or those of the instruction set (white box) -> inversion models.

Below `{run}/sft/{model}/{direction}` (direction: `inverse`; in the white box also `forward`): `pairs/` (token ids and
counts), `checkpoints/`, `adapter/`, `merged/`, `training.json`, `manifest.json`. worker.py is what each worker runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cluster import models, runtime
from cluster.artifacts import JobDir, Outcome, file_hash, read_json
from cluster.config import RunConfig, section
from cluster.identity import input_hashes, model_identity, spec_of
from cluster.model_specs import VllmSpec
from cluster.parts import parts_of, sound_rows
from cluster.precision import kept_dtype
from cluster.strict import Strict
from cluster.terminal import say
from cluster.tokens import encoder_of
from cluster.training import TrainingConfig, train
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.parse import UNFINISHED
from train.finetuning.pairs import Answered, Direction
from train.finetuning.prepare import Plan, prepare, prepared
from train.finetuning.worker_args import Settings
from train.instructions import InstructionConfig, read_instructions

ONLY_SPEED = {"num_workers", "use_gpu", "cpus_per_worker", "accelerator_type", "max_failures", "gradient_checkpointing"}
ADDED = ("parallel", "padding_free", "dtype")  # left out at their defaults: results of before they existed stay valid


class ModelConfig(Strict):
    """How the inversion model of one judge is trained."""

    base: str = Field(description="a name under `models`: the model whose weights the training starts from")
    mode: Literal["black_box", "white_box"] = Field(
        "black_box",
        description="black_box: an inverse model, trained on the judge's responses (distill); "
        "white_box: a forward and an inverse model, trained on the responses in the instruction set",
    )

    @property
    def directions(self) -> tuple[Direction, ...]:
        return ("inverse",) if self.mode == "black_box" else ("forward", "inverse")


class Config(TrainingConfig):
    """The configuration's `sft` section."""

    models: dict[str, ModelConfig] = Field(min_length=1, description="by the name of the judge's model under `models`")
    method: Literal["lora", "full"] = "lora"
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="ddp: a copy of the model on each worker; fsdp: weights, gradients and optimizer state sharded "
        "over all workers, for a model that one GPU cannot hold",
    )
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int | None = Field(None, ge=1, description="none: twice the rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_share: float = Field(
        0.05, ge=0, lt=1, description="share of the steps; afterwards the learning rate decays as a cosine"
    )
    epochs: float = Field(3, gt=0)
    effective_batch: int = Field(16, ge=1, description="rows per step: num_workers x per_device_batch x accumulation")
    per_device_batch: int = Field(4, ge=1, description="rows that a worker computes at once")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="what CPUs compute in, with weights and sums in float32; auto: bfloat16 where the processor "
        "computes it (AVX512-BF16, AMX), else float32. GPUs compute in bfloat16",
    )
    padding_free: bool = Field(
        False,
        description="batches without padding tokens, on GPUs whose image has the package flash-attn",
    )
    cutoff: int = Field(
        1024, ge=64, description="maximum tokens of a pair; a longer prompt is truncated at its beginning"
    )
    dev_share: float = Field(
        0.1, ge=0, lt=1, description="share of the instructions that is held out, selected by hash"
    )
    checkpoint_steps: int = Field(50, ge=1)
    gradient_checkpointing: bool = Field(False, description="saves memory for a third more computation")

    @model_validator(mode="after")
    def _batch_divides(self) -> Config:
        at_once = self.num_workers * self.per_device_batch
        if self.effective_batch % at_once:
            raise InputError(
                f"effective_batch of {self.effective_batch} must be a multiple of num_workers x per_device_batch = "
                f"{self.num_workers} x {self.per_device_batch} = {at_once}.",
                code="conflict",
            )
        if self.padding_free and self.use_gpu is False:
            raise InputError(
                "`padding_free: true` needs the kernels of flash-attn, which run on GPUs, and `use_gpu` is false. "
                "Remove one of the two.",
                code="conflict",
                key="padding_free",
            )
        if self.parallel == "fsdp" and self.num_workers == 1:
            raise InputError(
                "`parallel: fsdp` shards the model over the workers, and num_workers is 1. Raise it, or choose ddp.",
                code="conflict",
                key="parallel",
            )
        return self

    @property
    def accumulation(self) -> int:
        return self.effective_batch // (self.num_workers * self.per_device_batch)

    @property
    def batch_in_words(self) -> str:
        return (
            f"{self.num_workers} workers x {self.per_device_batch} rows x {self.accumulation} accumulated = "
            f"{self.effective_batch} rows a step"
        )


def main(run: RunConfig) -> Outcome:
    """Train every configured model; resume an interrupted run."""
    config = section(run, "sft", Config)
    for name, chosen in config.models.items():
        spec_of(run, name, "sft.models")
        base = spec_of(run, chosen.base, f"sft.models.{name}.base")
        if not isinstance(base, VllmSpec) or base.adapter:
            what = "a LoRA adapter" if isinstance(base, VllmSpec) else "not a vLLM model"
            raise InputError(
                f"`sft.models.{name}.base`: {chosen.base!r} is {what}, so it has no weights to train.",
                code="unsupported",
                key=f"sft.models.{name}.base",
            )
    if config.dtype == "float32" and config.on_gpus():
        say("sft: WARNING: sft.dtype has no effect here: it is for CPUs, and GPUs compute in bfloat16")
    found = {
        f"{name}/{direction}": _train_one(run, config, name, direction)
        for name, chosen in config.models.items()
        for direction in chosen.directions
    }
    return Outcome(0, {"trainings": found})


def folder_of(run: RunConfig, name: str, direction: Direction) -> Path:
    """The output folder of a training.

    Args:
        run: the configuration.
        name: of the judge's model.
        direction: `inverse` or `forward`.

    Returns:
        `{run}/sft/{name}/{direction}`.
    """
    return run.run / "sft" / name / direction


def _train_one(run: RunConfig, config: Config, name: str, direction: Direction) -> dict[str, Any]:
    chosen = config.models[name]
    base = run.models[chosen.base]
    assert isinstance(base, VllmSpec)
    what = f"sft: {name}/{direction}"
    job = JobDir(run.run / "sft" / name, direction)
    fingerprint = {
        "data": _data_identity(run, name, chosen),
        "sft": {
            **json.loads(config.model_dump_json(exclude={"models", "checkpoint_steps", *ADDED, *ONLY_SPEED})),
            **config.model_dump(include=set(ADDED), exclude_defaults=True),
        },
        "mode": chosen.mode,
        "base": model_identity(base),
        "seed": run.seed,
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        counts = prepared(job.path / "pairs") or _prepare(run, config, name, direction, job)
        say(f"{what}: {counts['num_train']} pairs, {config.batch_in_words}")
        if not (job.path / "training.json").exists():
            runtime.start(run.ray)
            settings = _settings(run, config, name, direction, job.path)
            from train.finetuning.worker import finetune

            train(finetune, asdict(settings), config, folder=job.path, what=what)
        facts = read_json(job.path / "training.json") or {}
        return {**counts, **{key: facts.get(key) for key in SHOWN}, "folder": str(job.path)}

    return job.complete(fingerprint, work, what=what)


SHOWN = ("loss_before", "loss_after", "tokens_per_s", "mfu", "peak_memory_bytes", "seconds", "effective_batch")


def _prepare(run: RunConfig, config: Config, name: str, direction: Direction, job: JobDir) -> dict[str, Any]:
    """Write the pairs; their counts. Raises InputError where no training pair is left, and then leaves nothing."""
    chosen = config.models[name]
    base = run.models[chosen.base]
    assert isinstance(base, VllmSpec)
    reference = models.resolve(base.source, revision=base.revision, weights=False).reference
    plan = Plan(base, direction, encoder_of(base).is_chat, config.dev_share, config.cutoff, reference)
    rows, total = _answers(run, name, chosen)
    runtime.start(run.ray)
    if not job.is_claimed():
        # Parts of a preparation whose configuration is not known.
        shutil.rmtree(job.path / "pairs", ignore_errors=True)
    job.claim()
    counts = prepare(rows, total, plan, job.path / "pairs", what=f"sft: {name}/{direction}")
    if counts["num_train"]:
        return counts
    (job.path / "fingerprint.json").unlink()
    left_out = counts["left_out"]
    why = ", ".join(f"{number} {reason}" for reason, number in left_out.items()) or "all of them are held out"
    key = "sft.cutoff" if left_out.get("too_long") else "sft.dev_share" if counts["num_dev"] else ""
    hint = {"sft.cutoff": f" Raise sft.cutoff ({config.cutoff} tokens).", "sft.dev_share": " Lower sft.dev_share."}
    raise InputError(
        f"sft: {name}/{direction}: no training pair is left ({why}).{hint.get(key, '')}",
        code="too_long" if key == "sft.cutoff" else "no_records",
        key=key,
    )


def _answers(run: RunConfig, name: str, chosen: ModelConfig) -> tuple[Iterator[Answered], int]:
    """The instructions with their responses, read as they are needed, and their number."""
    if chosen.mode == "white_box":
        found = read_instructions(_instructions(run, name)).instructions
        return (Answered(one.id, one.text, one.output) for one in found), len(found)
    job = _distilled(run, name)
    return _responses(job.path), int((job.manifest() or {})["summary"]["num_instructions"])


def _responses(folder: Path) -> Iterator[Answered]:
    for row in sound_rows(folder, ["id", "instruction", "response", "finish_reason", "error"]):
        flaw = "error" if row["error"] else UNFINISHED.get(row["finish_reason"], "")
        yield Answered(row["id"], row["instruction"], row["response"], flaw)


def _data_identity(run: RunConfig, name: str, chosen: ModelConfig) -> dict[str, Any]:
    if chosen.mode == "white_box":
        instructions = _instructions(run, name)
        return {"limit": instructions.limit, "files": input_hashes(instructions.files, hub_hashes(instructions.files))}
    return {"distilled": [f"{part.name}={file_hash(part)}" for part in parts_of(_distilled(run, name).path)]}


def _instructions(run: RunConfig, name: str) -> InstructionConfig:
    instructions: InstructionConfig | None = getattr(run, "instructions", None)
    if instructions is None:
        raise InputError(
            f"`sft.models.{name}.mode`: white_box trains on the `instructions` section, which is missing.",
            code="missing_section",
            key="instructions",
        )
    return instructions


def _distilled(run: RunConfig, name: str) -> JobDir:
    job = JobDir(run.run, f"distill/{name}")
    if job.manifest() is None:
        raise InputError(
            f"No finished responses found in {job.path}. Run `inverdict distill` first, or train in mode white_box.",
            code="missing_job",
        )
    return job


def _settings(run: RunConfig, config: Config, name: str, direction: Direction, folder: Path) -> Settings:
    chosen = config.models[name]
    base = run.models[chosen.base]
    assert isinstance(base, VllmSpec)
    place = folder.resolve()
    dtype = "bfloat16" if config.on_gpus() else _dtype(run, config)
    about = {
        "dtype": dtype,
        "model": name,
        "mode": chosen.mode,
        "direction": direction,
        "base": base.source,
        "effective_batch": config.batch_in_words,
    }
    kept = config.model_dump(include={field.name for field in fields(Settings)})
    kept["lora_alpha"] = config.lora_alpha or 2 * config.lora_rank
    return Settings(
        base=models.resolve(base.source, revision=base.revision, weights=runtime.is_one_machine()).reference,
        pairs=str(place / "pairs"),
        out=str(place),
        seed=run.seed,
        accumulation=config.accumulation,
        bfloat16=dtype == "bfloat16",
        about=about,
        **kept,
    )


def _dtype(run: RunConfig, config: Config) -> str:
    return kept_dtype(run.run) if config.dtype == "auto" else config.dtype


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    lines = []
    for name, found in summary["trainings"].items():
        out = ", ".join(f"{number} {reason}" for reason, number in found["left_out"].items())
        losses = (
            f"dev loss {found['loss_before']:.3f} to {found['loss_after']:.3f} ({found['num_dev']} pairs)"
            if found["loss_before"] is not None
            else "no held-out pairs"
        )
        mfu = f", MFU {found['mfu']:.0%}" if found.get("mfu") else ""
        lines.append(
            f"{name}: {found['num_train']} pairs{f' (left out: {out})' if out else ''}, {losses}, "
            f"{found['tokens_per_s']:.0f} tokens/s{mfu}, {found['peak_memory_bytes'] / 1e9:.1f} GB\n  {found['folder']}"
        )
    return "\n".join(lines)
