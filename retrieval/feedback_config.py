"""The configuration's `feedback` section."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from cluster.config import Strict


class Config(Strict):
    """The configuration's `feedback` section."""

    model: str = Field(description="the judge that is asked: a name under `models`; its prompt is the task's rubric")
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: every aspect that people rated")
    queries: int = Field(200, ge=1, description="texts of each task that are judged, at most")
    random: int = Field(4, ge=0, description="examples tried for each text: so many at random,")
    bm25: int = Field(4, ge=0, description="so many by shared words,")
    semantic: int = Field(4, ge=0, description="and so many by meaning")
    trained: int = Field(0, ge=0, description="from the second round: so many by the towers of an earlier one")
    towers: Path | None = Field(None, description="run directory of that round, of the same data.pool")
    encoder: str = Field("embedded:all-minilm-l6-v2", description="sentence encoder for `semantic`")
    max_length: int = Field(256, ge=8, description="tokens of a text that the encoder reads")
    min_label_mass: float = Field(0.01, ge=0, lt=1, description="less probability on the labels: no score")
    block_rows: int = Field(256, ge=1, description="pairs that are saved and lost together")

    @model_validator(mode="after")
    def _tries_something(self) -> Config:
        if self.random + self.bm25 + self.semantic + self.trained < 2:
            raise ValueError("random, bm25, semantic, trained: with fewer than 2 examples for a text nothing is ranked")
        if bool(self.trained) != (self.towers is not None):
            raise ValueError("trained and towers go together: how many, and the run directory of an earlier round")
        return self
