"""What all tests share: hypothesis profiles, one Ray cluster and one engine run per session, the order of modules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from cluster import runtime
from cluster.config import RayConfig
from tests.engine_run import EngineRun, evaluated

# Several processes share the cores: OpenMP threads that wait for each other must sleep, not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: tests of one engine run, then modules on Ray, then everything else."""
    items.sort(key=lambda item: rank(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ModulesOnRay(config, log)


class ModulesOnRay(LoadScopeScheduling):
    """With pytest-xdist, a module on Ray runs in one worker, and so do all tests of the engine run.

    The mark `xdist_group` would say so too, but pytest-xdist 3.8 loses it under pytest 9.2.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # keep the order of `pytest_collection_modifyitems`
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return {0: "engine run", 1: file, 2: nodeid}[rank(self.config.rootpath / file)]


@cache
def rank(module: Path) -> int:
    """0: reads the engine run, 1: needs Ray or an engine, 2: neither."""
    text = module.read_text(encoding="utf-8")
    if "engine_run: EngineRun" in text:
        return 0
    return 1 if "mark.ray" in text or "mark.engine" in text else 2
