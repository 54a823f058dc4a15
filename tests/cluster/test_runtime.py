"""Which cluster a run connects to, before Ray is asked."""

from __future__ import annotations

import sys

import pytest

from cluster import feasibility as demands
from cluster import runtime
from cluster.config import RayConfig
from cluster.errors import UserError
from cluster.feasibility import UNLIMITED, NodeType


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

    def fails(**_: object) -> None:
        raise ConnectionError("nobody there\nmore")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(UserError, match=r"'10\.0\.0\.9:1'.*: nobody there$") as caught:
        runtime.start(RayConfig(address="10.0.0.9:1"))
    assert (caught.value.code, caught.value.key) == ("no_cluster", "ray.address")


@pytest.mark.ray
def test_other_versions_than_the_clusters_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def fails(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.11.9")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(UserError, match=r"Version mismatch: .*; Ray: 2\.59\.0; Python: 3\.11\.9$") as caught:
        runtime.start(RayConfig(address="10.0.0.9:1"))
    assert (caught.value.code, caught.value.key) == ("version_mismatch", "ray.address")


@pytest.mark.ray
@pytest.mark.parametrize(
    ("types", "number"),
    [
        (None, 2),  # an autoscaler that tells nothing: those that live
        ([NodeType("cpu", {"CPU": 8.0}, UNLIMITED)], 2),
        ([NodeType("gpu", {"GPU": 4.0}, 2), NodeType("more", {"GPU": 1.0}, 3)], 11),  # 4 x 2 + 1 x 3
        ([NodeType("gpu", {"GPU": 1.0}, UNLIMITED)], sys.maxsize),
    ],
)
def test_gpus_that_may_still_be_started_count(
    monkeypatch: pytest.MonkeyPatch, types: list[NodeType] | None, number: int
) -> None:
    import ray

    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 6.0, "GPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
        {"Alive": True, "Resources": {}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    monkeypatch.setattr(demands, "node_types", lambda: types)
    assert runtime.num_gpus() == number
    assert runtime.most_cpus() == 6  # a dead machine gives none
