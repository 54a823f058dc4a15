"""Which cluster a run connects to, before Ray is asked."""

from __future__ import annotations

import pytest

from cluster import runtime
from cluster.config import RayConfig
from cluster.errors import UserError


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("10.0.0.1:6379", "10.0.0.1:6379"),  # as Ray's job server sets it for a driver
        ("auto", "auto"),
        ("", None),
        (None, None),
        ("http://10.0.0.1:8265", None),  # a job server's, as `ray job` reads it: no cluster to connect to
        ("https://head", None),
    ],
)
def test_the_cluster_around_a_submitted_job_is_taken(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, address: str | None
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert runtime._surrounding_cluster() == address


@pytest.mark.ray
def test_a_cluster_that_does_not_answer_is_said_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refused(**_: object) -> None:
        raise ConnectionError("nobody there\nmore")

    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(UserError, match=r"no Ray cluster answers at '10\.0\.0\.9:1' \(ray\.address\): nobody there$"):
        runtime.start(RayConfig(address="10.0.0.9:1"))
