"""What all tests share: how many examples hypothesis tries, and one local Ray cluster a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from cluster import runtime
from cluster.config import RayConfig

# A loaded machine is slow now and then; that is no fault of the code under test.
settings.register_profile("ci", max_examples=25, deadline=None)
settings.register_profile("nightly", max_examples=400, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A private cluster of two CPUs; jobs that a test runs in this process find it up and use it."""
    runtime.start(RayConfig(num_cpus=2, object_store_gib=0.3))
    yield
    import ray

    ray.shutdown()
