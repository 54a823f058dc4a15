"""The Trainer's callback: reports steps and checkpoints, keeps losses and the dev loss across restarts."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import ray.train
import torch
from transformers import TrainerCallback

from cluster.artifacts import write_text
from cluster.training import Steps
from train.finetuning.loss import CompletionLoss, Rows, collate
from train.finetuning.worker_args import Settings

STATE = "watch.json"  # in a checkpoint, beside the Trainer's own state


class Watch(TrainerCallback):
    """Reports checkpoints and steps, keeps the losses, and measures the dev loss; its state is in the checkpoints."""

    def __init__(
        self, settings: Settings, loss: CompletionLoss, model: Any, dev: Rows, num_tokens: int, checkpoint: str | None
    ) -> None:
        self._settings = settings
        self._loss = loss
        self._model = model
        self._dev = dev
        self._num_tokens = num_tokens
        self._is_first = ray.train.get_context().get_world_rank() == 0
        self._state: dict[str, Any] = {"dev_losses": [], "seconds": 0.0}
        if checkpoint:
            self._state = json.loads((Path(checkpoint) / STATE).read_text())
        self._began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._is_first and state.global_step == 0:
            self._measure(0)
        self._began = time.monotonic()
        self._write(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._write(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._is_first and state.global_step < state.max_steps:
            before = time.monotonic()
            self._measure(state.global_step)
            self._began += time.monotonic() - before

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        checkpoint = None
        if self._is_first:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_text(folder / STATE, json.dumps({**self._state, "seconds": self._seconds()}))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"step": state.global_step}, checkpoint=checkpoint)

    def finish(self, state: Any) -> None:
        self._state["seconds"] = self._seconds()
        self._measure(state.global_step)

    def facts(self, num_train: int, state: Any) -> dict[str, Any]:
        """The contents of `training.json`."""
        losses = [{"step": log["step"], "loss": log["loss"]} for log in state.log_history if "loss" in log]
        dev = self._state["dev_losses"]
        return {
            **self._settings.about,
            "num_train": num_train,
            "num_dev": len(self._dev),
            "losses": losses,
            "dev_losses": dev,
            "loss_before": dev[0]["loss"] if dev else None,
            "loss_after": dev[-1]["loss"] if dev else None,
            "tokens_per_s": self._num_tokens * self._settings.epochs / max(self._state["seconds"], 1e-9),
            "seconds": self._state["seconds"],
            "peak_memory_bytes": peak_memory(),
        }

    def _seconds(self) -> float:
        return float(self._state["seconds"] + time.monotonic() - self._began)

    def _write(self, state: Any) -> None:
        if self._is_first:
            Steps(Path(self._settings.steps)).write(state.global_step, state.max_steps)

    def _measure(self, step: int) -> None:
        if len(self._dev):
            self._state["dev_losses"].append({"step": step, "loss": self._dev_loss()})

    @torch.no_grad()
    def _dev_loss(self) -> float:
        """Nats per completion token over the whole dev part, measured by this worker alone."""
        self._model.eval()
        total, num_tokens = 0.0, 0
        step = self._settings.per_device_batch
        order = sorted(range(len(self._dev)), key=lambda place: self._dev.lengths[place])
        for start in range(0, len(order), step):
            batch = collate([self._dev[place] for place in order[start : start + step]], 0)
            placed = {name: tensor.to(self._model.device) for name, tensor in batch.items()}
            loss, found = self._loss.sum(self._model, placed)
            total, num_tokens = total + float(loss), num_tokens + found
        self._model.train()
        return total / num_tokens


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
