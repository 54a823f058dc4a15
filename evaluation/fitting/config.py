"""The configuration's `fit_judge` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cluster.strict import Strict
from evaluation.fitting.labels import Source

MIN_GROUPS, MIN_ROWS = 12, 60


class Config(Strict):
    """The configuration's `fit_judge` section."""

    judges: tuple[str, ...] | None = Field(
        None, min_length=1, description="judges of `evaluate` with score_mode fitted; unset: all of them"
    )
    labels: Source = Field(
        "pool", description="the labelled texts: data.pool, or the dev part (data.dev or data.dev_share)"
    )
    aspects: tuple[str, ...] | None = Field(
        None, min_length=1, description="aspects to fit; unset: every aspect that the labelled texts are rated on"
    )
    depths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1 / 3, 1 / 2, 2 / 3),
        min_length=1,
        description="shares of the model's layers; cross-validation chooses one of them",
    )
    level: float = Field(0.9, gt=0, lt=1, description="probability that people's score lies in a score's interval")
    max_novelty: float | None = Field(
        1.0,
        gt=0,
        le=1,
        description="texts that are farther from the middle than this share of the training texts are unscored "
        "`unlike_training`; null: all are scored",
    )
    baseline_encoder: str | None = Field(
        "embedded:all-minilm-l6-v2",
        description="sentence-transformers model whose embeddings are fitted for comparison; null: none",
    )
    block_rows: int = Field(32, ge=1, description="texts per block, the unit of work that is saved and resumed")
