"""What all tests share: how many examples hypothesis tries, one Ray cluster and one engine run a session, groups."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from cluster import runtime
from cluster.config import RayConfig
from tests.engine_run import EngineRun, evaluated

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


@pytest.fixture(scope="session")
def engine_run(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> EngineRun:
    """A finished `evaluate` of the real vLLM; tests only read it."""
    return evaluated(tmp_path_factory.mktemp("engine"))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist, the tests of a module on Ray run in one worker, and those of the engine run in one as well."""
    for item in items:
        if "engine_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("engine_run"))
        elif item.get_closest_marker("ray") or item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
