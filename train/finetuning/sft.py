"""Job `sft`: distilled responses (black box) or those of the instruction set (white box) -> inversion models.

Below `{run}/sft/{model}/{direction}` (direction: `inverse`; in the white box also `forward`): `pairs/` (token ids and
counts), `checkpoints/`, `adapter/`, `merged/`, `training.json`, `manifest.json`. worker.py is what each worker runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from cluster import models, runtime
from cluster.artifacts import JobDir, Outcome, file_hash, read_json, write_text
from cluster.config import RunConfig, section
from cluster.identity import input_hashes, model_identity, spec_of
from cluster.model_specs import VllmSpec
from cluster.parts import parts_of, sound_rows
from cluster.strict import Strict
from cluster.terminal import say
from cluster.tokens import Encoder, encoder
from cluster.training import TrainingConfig, train
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.parse import UNFINISHED
from train.finetuning.pairs import Answered, Direction, Encoded, encode, make_pairs
from train.finetuning.worker_args import Settings
from train.instructions import InstructionConfig, read_instructions

PAIR_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("num_prompt", pa.int32())])
ONLY_SPEED = {"num_workers", "use_gpu", "cpus_per_worker", "accelerator_type", "max_failures", "gradient_checkpointing"}


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
        if not isinstance(spec_of(run, chosen.base, f"sft.models.{name}.base"), VllmSpec):
            raise InputError(
                f"`sft.models.{name}.base`: {chosen.base!r} is not a vLLM model, so it has no weights to train.",
                code="unsupported",
                key=f"sft.models.{name}.base",
            )
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
        "sft": json.loads(config.model_dump_json(exclude={"models", "checkpoint_steps", *ONLY_SPEED})),
        "mode": chosen.mode,
        "base": model_identity(base),
        "seed": run.seed,
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        known = encoder(models.resolve(base.source, revision=base.revision, weights=False).reference, base.prompt_style)
        pairs = _prepare(run, config, name, direction, known)
        job.claim()
        counts = _write_pairs(pairs, job.path / "pairs")
        say(f"{what}: {counts['num_train']} pairs, {config.batch_in_words}")
        if not (job.path / "training.json").exists():
            runtime.start(run.ray)
            settings = _settings(run, config, name, direction, job.path)
            from train.finetuning.worker import finetune

            train(finetune, asdict(settings), config, folder=job.path, what=what)
        facts = read_json(job.path / "training.json") or {}
        return {**counts, **{key: facts[key] for key in SHOWN}, "folder": str(job.path)}

    return job.complete(fingerprint, work, what=what)


SHOWN = ("loss_before", "loss_after", "tokens_per_s", "peak_memory_bytes", "seconds", "effective_batch")


class Prepared(NamedTuple):
    train: list[Encoded]
    dev: list[Encoded]
    left_out: dict[str, int]


def _prepare(run: RunConfig, config: Config, name: str, direction: Direction, known: Encoder) -> Prepared:
    """The pairs as token ids. Raises InputError where no training pair is left."""
    rows = _answers(run, name, config.models[name])
    split = make_pairs(rows, direction=direction, chat=known.is_chat, dev_share=config.dev_share)
    train_ids, num_long = encode(split.train, known, config.cutoff)
    dev_ids, num_long_dev = encode(split.dev, known, config.cutoff)
    left_out = {**split.left_out, **({"too_long": num_long + num_long_dev} if num_long + num_long_dev else {})}
    if not train_ids:
        why = ", ".join(f"{number} {reason}" for reason, number in left_out.items()) or "all of them are held out"
        key = "sft.cutoff" if left_out.get("too_long") else "sft.dev_share" if split.dev else ""
        hint = {"sft.cutoff": f" Raise sft.cutoff ({config.cutoff} tokens).", "sft.dev_share": " Lower sft.dev_share."}
        raise InputError(
            f"sft: {name}/{direction}: no training pair is left ({why}).{hint.get(key, '')}",
            code="too_long" if key == "sft.cutoff" else "no_records",
            key=key,
        )
    return Prepared(train_ids, dev_ids, left_out)


def _answers(run: RunConfig, name: str, chosen: ModelConfig) -> Iterator[Answered]:
    if chosen.mode == "white_box":
        for one in read_instructions(_instructions(run, name)).instructions:
            yield Answered(one.id, one.text, one.output)
        return
    folder = _distilled(run, name)
    for row in sound_rows(folder, ["id", "instruction", "response", "finish_reason", "error"]):
        flaw = "error" if row["error"] else UNFINISHED.get(row["finish_reason"], "")
        yield Answered(row["id"], row["instruction"], row["response"], flaw)


def _data_identity(run: RunConfig, name: str, chosen: ModelConfig) -> dict[str, Any]:
    if chosen.mode == "white_box":
        instructions = _instructions(run, name)
        return {"limit": instructions.limit, "files": input_hashes(instructions.files, hub_hashes(instructions.files))}
    return {"distilled": [f"{part.name}={file_hash(part)}" for part in parts_of(_distilled(run, name))]}


def _instructions(run: RunConfig, name: str) -> InstructionConfig:
    instructions: InstructionConfig | None = getattr(run, "instructions", None)
    if instructions is None:
        raise InputError(
            f"`sft.models.{name}.mode`: white_box trains on the `instructions` section, which is missing.",
            code="missing_section",
            key="instructions",
        )
    return instructions


def _distilled(run: RunConfig, name: str) -> Path:
    job = JobDir(run.run, f"distill/{name}")
    if job.manifest() is None:
        raise InputError(
            f"No finished responses found in {job.path}. Run `inverdict distill` first, or train in mode white_box.",
            code="missing_job",
        )
    return job.path


def _write_pairs(pairs: Prepared, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    for part in ("train", "dev"):
        rows = [one._asdict() for one in getattr(pairs, part)]
        pq.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA), folder / f"{part}.parquet")
    counts = {"num_train": len(pairs.train), "num_dev": len(pairs.dev), "left_out": pairs.left_out}
    write_text(folder / "counts.json", json.dumps(counts))
    return counts


def _settings(run: RunConfig, config: Config, name: str, direction: Direction, folder: Path) -> Settings:
    chosen = config.models[name]
    base = run.models[chosen.base]
    assert isinstance(base, VllmSpec)
    place = folder.resolve()
    about = {
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
        train=str(place / "pairs" / "train.parquet"),
        dev=str(place / "pairs" / "dev.parquet"),
        out=str(place),
        seed=run.seed,
        accumulation=config.accumulation,
        about=about,
        **kept,
    )


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
        lines.append(
            f"{name}: {found['num_train']} pairs{f' (left out: {out})' if out else ''}, {losses}, "
            f"{found['tokens_per_s']:.0f} tokens/s, {found['peak_memory_bytes'] / 1e9:.1f} GB\n  {found['folder']}"
        )
    return "\n".join(lines)
