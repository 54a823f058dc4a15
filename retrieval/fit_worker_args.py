"""The settings of a `fit` worker as plain values, so that Ray can serialise them. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Weight = Literal["true_rank", "pred_rank"]


@dataclass(frozen=True)
class Settings:
    """`start`: folder of the model that the towers start from; `pairs`, `out`: folders, absolute.

    `num_threads` and `steps` are filled in by cluster.training.
    """

    start: str
    source: str
    pairs: str
    out: str
    seed: int
    shared: bool
    max_length: int
    scale: float
    weight: Weight
    lambda_rank: float
    learning_rate: float
    weight_decay: float
    epochs: int
    patience: int
    batch_queries: int
    task_power: float
    num_threads: int = 1
    steps: str = ""
