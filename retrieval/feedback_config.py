"""The configuration's `feedback` section."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from cluster.strict import Strict
from judging.errors import InputError


class Config(Strict):
    """The configuration's `feedback` section."""

    model: str = Field(
        description="the judge that gives the feedback: a name under `models`; its prompt is the task's rubric"
    )
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: every rated aspect")
    queries: int = Field(200, ge=1, description="maximum number of texts of each task that are judged")
    random: int = Field(4, ge=0, description="examples scored for each text, sampled at random")
    bm25: int = Field(4, ge=0, description="examples scored for each text, by BM25 (shared words)")
    semantic: int = Field(4, ge=0, description="examples scored for each text, by embedding similarity")
    trained: int = Field(0, ge=0, description="examples scored for each text, by the towers of an earlier round")
    towers: Path | None = Field(None, description="run directory of the earlier round, with the same data.pool")
    encoder: str = Field("embedded:all-minilm-l6-v2", description="sentence encoder for `semantic`")
    max_length: int = Field(256, ge=8, description="tokens read of a text by the encoder")
    min_label_mass: float = Field(
        0.01, ge=0, lt=1, description="with less probability mass on the labels the pair is unscored"
    )
    block_rows: int = Field(256, ge=1, description="pairs a part file; an interrupted part is scored again")

    @model_validator(mode="after")
    def _tries_something(self) -> Config:
        if self.random + self.bm25 + self.semantic + self.trained < 2:
            raise InputError(
                "random, bm25, semantic and trained must add up to at least 2: with fewer than 2 examples for a text "
                "there is nothing to rank.",
                code="invalid_value",
            )
        if bool(self.trained) != (self.towers is not None):
            raise InputError(
                "trained and towers go together: set both (a number, and the run directory of an earlier round) or "
                "neither.",
                code="conflict",
            )
        return self
