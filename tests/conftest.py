"""What several folders of tests share: one local Ray cluster a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import runtime
from cluster.config import RayConfig


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A private cluster of two CPUs; jobs that a test runs in this process find it up and use it."""
    runtime.start(RayConfig(num_cpus=2, object_store_gib=0.3))
    yield
    import ray

    ray.shutdown()
