"""The configuration's `serve` section: the server's address and the limits that protect it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from cluster.errors import UserError
from cluster.strict import Strict

AFTER_DEADLINE_S = 30.0


class Replicas(Strict):
    """How many replicas of an evaluator run, and how many requests each accepts."""

    min: int = Field(1, ge=1, description="least number of replicas")
    max: int = Field(1, ge=1, validate_default=True, description="largest number of replicas, under load")
    max_ongoing: int = Field(64, ge=1, description="concurrent requests of one replica")
    target_ongoing: int | None = Field(
        None,
        ge=1,
        description="running and waiting requests per replica that autoscaling aims at; none: half of `max_ongoing`",
    )
    more_after_s: float = Field(30, ge=0, description="seconds of high load before replicas are added")
    fewer_after_s: float = Field(600, ge=0, description="seconds of low load before replicas are removed")
    max_queued: int = Field(256, ge=1, description="requests that wait for a replica; further ones are rejected")

    @field_validator("max")
    @classmethod
    def _is_a_range(cls, most: int, others: ValidationInfo) -> int:
        if most < others.data.get("min", most):
            raise ValueError("must not be less than `min`.")
        return most

    @field_validator("target_ongoing")
    @classmethod
    def _is_reached(cls, target: int | None, others: ValidationInfo) -> int | None:
        if target is not None and target > others.data.get("max_ongoing", target):
            raise ValueError("must not be more than `max_ongoing`: requests would wait while no replica is added.")
        return target

    @property
    def target(self) -> int:
        return self.target_ongoing or max(1, self.max_ongoing // 2)


class PanelReplicas(Strict):
    """How many replicas of the panel and of the HTTP interface run, and on which nodes."""

    num_replicas: int = Field(1, ge=1, description="replicas of the panel, and as many of the HTTP interface")
    max_replicas_per_node: int | None = Field(
        None, ge=1, description="replicas of each of the two on one node; 1: the loss of a node is no outage; none: any"
    )
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="custom Ray resources of each, such as `panel: 0.001` to run on the CPU nodes of ray_cluster.yaml",
    )


class Config(Strict):
    """The configuration's `serve` section; judges, vote and examples are those of `evaluate` and `data`."""

    host: str = Field("127.0.0.1", description="address to bind; any other than loopback requires `keys_file`")
    port: int = Field(8000, ge=1, le=65535, description="port to bind")
    keys_file: Path | None = Field(
        None, validate_default=True, description="file of API keys (`inverdict keys new`); read again when it changes"
    )
    cors_origins: tuple[str, ...] = Field((), description="web origins from which browsers may send requests")
    public_page: bool = Field(False, description="serve the web page at / without a key; it holds no data")
    timeout_s: float = Field(60, gt=0, description="timeout of a request in seconds; a request may set a shorter one")
    max_in_flight: int = Field(
        64, ge=1, description="concurrent requests per replica of the HTTP interface; further ones get 429"
    )
    max_body_bytes: int = Field(2_000_000, ge=1000, description="largest request body in bytes; a larger one gets 413")
    body_timeout_s: float = Field(10, gt=0, description="time in seconds for the whole request body to arrive")
    max_text_chars: int = Field(200_000, ge=1, description="characters of all texts of one item in total")
    max_items: int = Field(64, ge=1, description="items per batch request")
    require_certificate: bool = Field(
        False, description="reject (403) requests that no valid certificate of this run covers (`inverdict certify`)"
    )
    replicas: dict[str, Replicas] = Field(default_factory=dict, description="by model; default: one replica")
    panel: PanelReplicas = Field(default_factory=PanelReplicas, description="replicas of panel and HTTP interface")

    @property
    def hard_timeout_s(self) -> float:
        """After the panel's own deadlines: ends only what those could not. A replica that is removed waits as long."""
        return self.timeout_s + AFTER_DEADLINE_S

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(self.host)

    @field_validator("keys_file")
    @classmethod
    def _is_protected(cls, file: Path | None, others: ValidationInfo) -> Path | None:
        host = others.data.get("host", "localhost")
        if file is None and not _is_loopback(host):
            raise UserError(
                f"must be set because host {host} can be reached from outside this machine. "
                "Create the file with `inverdict keys new`, or set `serve.host` to 127.0.0.1.",
                code="missing_key",
            )
        return file

    @field_validator("cors_origins")
    @classmethod
    def _names_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in origins:
            raise ValueError("must name the origins; with `*` any web page could send requests.")
        return origins


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
