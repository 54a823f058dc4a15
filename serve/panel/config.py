"""The configuration's `serve` section: where the panel answers, and the bounds that protect it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, model_validator

from cluster.config import Strict


class Replicas(Strict):
    """How many copies of an evaluator run, and how many requests each takes."""

    min: int = Field(1, ge=1, description="replicas that always run")
    max: int = Field(1, ge=1, description="replicas under load")
    max_ongoing: int = Field(64, ge=1, description="requests that a replica works on at once")
    more_after_s: float = Field(30, ge=0, description="so long must the load last before replicas are added")
    fewer_after_s: float = Field(600, ge=0, description="so long must it be away before they are taken down")
    max_queued: int = Field(256, ge=1, description="requests that wait for a replica, at most; more are refused")

    @model_validator(mode="after")
    def _is_a_range(self) -> Replicas:
        if self.max < self.min:
            raise ValueError("max is below min")
        return self


class Config(Strict):
    """The configuration's `serve` section; judges, vote and examples are those of `evaluate` and `data`."""

    host: str = Field("127.0.0.1", description="address to bind; another than loopback needs keys")
    port: int = Field(8000, ge=1, le=65535)
    keys_file: Path | None = Field(None, description="API keys (`inverdict keys new`); read again on change")
    cors_origins: tuple[str, ...] = Field((), description="web origins that browsers may call from")
    public_page: bool = Field(False, description="serve the empty web page at / without a key; it holds no data")
    timeout_s: float = Field(60, gt=0, description="longest time for an answer; a request may ask for less")
    max_in_flight: int = Field(64, ge=1, description="requests under way at once; more get 429")
    max_body_bytes: int = Field(2_000_000, ge=1000)
    body_timeout_s: float = Field(10, gt=0, description="for the whole body to arrive")
    max_text_chars: int = Field(200_000, ge=1, description="of all texts of one item together")
    max_items: int = Field(64, ge=1, description="of a batch")
    require_certificate: bool = Field(
        False, description="refuse (403) judgements that no certificate of this run counts for (`inverdict certify`)"
    )
    replicas: dict[str, Replicas] = Field(default_factory=dict, description="by model; none: one replica")

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _is_protected(self) -> Config:
        if not self.is_loopback and self.keys_file is None:
            raise ValueError(
                f"host: {self.host} can be reached from outside: set serve.keys_file (`inverdict keys new`), "
                "or bind 127.0.0.1"
            )
        if "*" in self.cors_origins:
            raise ValueError("cors_origins: name the origins; `*` would let every web page use the judges")
        return self
