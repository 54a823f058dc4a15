"""The Trainer's callback: reports steps and checkpoints, keeps losses and the dev loss across restarts."""

from __future__ import annotations

import json
import math
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch
from ray.train.torch import get_device
from transformers import TrainerCallback

from cluster.artifacts import write_text
from cluster.training import Steps, on_gpu
from train.finetuning.loss import CompletionLoss, CompletionTrainer
from train.finetuning.rows import Rows, padded, padding_free
from train.finetuning.throughput import Weights, peak_flops
from train.finetuning.worker_args import Settings

STATE = "watch.json"  # in a checkpoint, beside the Trainer's own state


class Watch(TrainerCallback):
    """Reports checkpoints and steps, keeps the losses, and measures the dev loss; its state is in the checkpoints."""

    def __init__(
        self, settings: Settings, loss: CompletionLoss, trainer: CompletionTrainer, dev: Rows, checkpoint: str | None
    ) -> None:
        self._settings = settings
        self._loss = loss
        self._trainer = trainer
        self._dev = dev
        context = ray.train.get_context()
        self._rank, self._world = context.get_world_rank(), context.get_world_size()
        self._state: dict[str, Any] = {"dev_losses": [], "seconds": 0.0}
        if checkpoint:
            self._state = json.loads((Path(checkpoint) / STATE).read_text())
        self._began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 0:
            self._measure(0)
        self._began = time.monotonic()
        self._write(state)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        # accelerate does not tell the sampler its epoch where several workers resume in the middle of one.
        self._trainer.order.set_epoch(int(state.epoch))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._write(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step < state.max_steps:
            before = time.monotonic()
            self._measure(state.global_step)
            self._began += time.monotonic() - before

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        # Every worker adds its own files: the state of its random numbers, and under FSDP its shards.
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._rank == 0:
            write_text(folder / STATE, json.dumps({**self._state, "seconds": self._seconds()}))
        ray.train.report({"step": state.global_step}, checkpoint=ray.train.Checkpoint.from_directory(folder))
        shutil.rmtree(folder)

    def finish(self, state: Any) -> None:
        self._state["seconds"] = self._seconds()
        self._measure(state.global_step)

    def facts(self, rows: Rows, weights: Weights, state: Any) -> dict[str, Any]:
        """The contents of `training.json`.

        Args:
            rows: of the training.
            weights: of the model.
            state: the Trainer's.
        """
        passes = self._settings.epochs / max(self._state["seconds"], 1e-9)  # a second
        flops = weights.flops(rows.num_tokens, rows.num_loss_tokens) * passes
        peak = peak_flops(torch.cuda.get_device_name()) if on_gpu() else None
        losses = [{"step": log["step"], "loss": log["loss"]} for log in state.log_history if "loss" in log]
        dev = self._state["dev_losses"]
        return {
            **self._settings.about,
            "parallel": self._settings.parallel,
            "num_train": len(rows),
            "num_dev": len(self._dev),
            "losses": losses,
            "dev_losses": dev,
            "loss_before": dev[0]["loss"] if dev else None,
            "loss_after": dev[-1]["loss"] if dev else None,
            "tokens_per_s": rows.num_tokens * passes,
            "mfu": flops / (peak * self._world) if peak else None,
            "seconds": self._state["seconds"],
            "peak_memory_bytes": peak_memory(on_gpu()),
        }

    def _seconds(self) -> float:
        return float(self._state["seconds"] + time.monotonic() - self._began)

    def _write(self, state: Any) -> None:
        if self._rank == 0:
            Steps(Path(self._settings.steps)).write(state.global_step, state.max_steps)

    def _measure(self, step: int) -> None:
        if len(self._dev):
            self._state["dev_losses"].append({"step": step, "loss": self._dev_loss()})

    @torch.no_grad()
    def _dev_loss(self) -> float:
        """Nats per completion token over the whole dev part, whose batches all workers share."""
        model: Any = self._trainer.model
        model.eval()
        device = get_device()
        found = torch.zeros(2, dtype=torch.float64, device=device)  # nats, tokens
        step = self._settings.per_device_batch
        order = np.argsort(self._dev.lengths, kind="stable")
        num_batches = math.ceil(len(order) / step)
        collate = padding_free if self._settings.padding_free else padded
        for number in range(self._rank, math.ceil(num_batches / self._world) * self._world, self._world):
            # Under FSDP all workers must go on together: one that has no batch left repeats the last, uncounted.
            start = min(number, num_batches - 1) * step
            batch = collate([self._dev[place] for place in order[start : start + step]])
            loss, num_tokens = self._loss.sum(model, {name: tensor.to(device) for name, tensor in batch.items()})
            if number < num_batches:
                found += torch.tensor([float(loss), num_tokens], dtype=torch.float64, device=device)
        if self._world > 1:
            torch.distributed.all_reduce(found)
        model.train()
        return float(found[0] / found[1])


def peak_memory(gpu: bool) -> int:
    """Bytes: of the worker's GPU where it has one, else of its process."""
    if gpu:
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
