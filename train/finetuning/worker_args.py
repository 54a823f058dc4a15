"""The settings of a `sft` worker as plain values, so that Ray can serialise them. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One training. Paths are absolute and on storage that every node can read."""

    base: str
    pairs: str
    out: str
    seed: int
    method: str
    lora_rank: int
    lora_alpha: int
    lora_dropout: float
    learning_rate: float
    weight_decay: float
    warmup_share: float
    epochs: float
    per_device_batch: int
    accumulation: int
    checkpoint_steps: int
    gradient_checkpointing: bool
    about: dict[str, Any]
    bfloat16: bool = False  # what a CPU computes in; the weights stay float32
    parallel: str = "ddp"
    padding_free: bool = False
    num_threads: int = 1
    steps: str = ""
