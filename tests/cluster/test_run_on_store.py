"""A run directory on an object store: three nodes without a shared folder, the driver killed, resumed elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cluster.heads import Head, can_hide, head, node
from tests.cluster.s3_server import ENVIRONMENT, Store, s3_server
from tests.evaluation.batch.test_evaluate import configuration
from tests.evaluation.making import jsonl, row
from tests.retrieval.making import configuration as rated_configuration
from tests.retrieval.making import pool_of
from tests.train.test_distill import numbered

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
NODES = ("second", "third")
SLOW: dict[str, Any] = {"backend": "scripted", "delay_s": 0.5, "num_engines": 2}
PATIENCE_S = 300


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the caches of the driver's machines, which the other nodes do not see."""
    place = tmp_path_factory.mktemp("drivers")
    if not can_hide(place):
        pytest.skip("this user may not hide a folder from a process")
    return place


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The caches of the other nodes, by name."""
    place = tmp_path_factory.mktemp("nodes")
    return {name: place / name for name in NODES}


@pytest.fixture(scope="module")
def cluster(drivers: Path, caches: dict[str, Path]) -> Iterator[Head]:
    """A head without CPUs, where the driver runs, and two nodes with caches of their own and no keys of the store."""
    with ExitStack() as stack:
        first = stack.enter_context(head(num_cpus=0))
        for name in NODES:
            env = {"INVERDICT_CACHE": str(caches[name])}
            stack.enter_context(node(first, name, num_cpus=2, hides=drivers, env=env))
        yield first


def started(job: str, config: str, cluster: Head, run: str, cache: Path) -> subprocess.Popen[str]:
    """The command on the driver's machine."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cluster",
            job,
            config,
            "--set",
            f"ray.address={cluster.address}",
            "--set",
            f"run={run}",
        ],
        cwd=ROOT,
        env={**cluster.environment(), **ENVIRONMENT, "INVERDICT_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def verdicts(store: Store) -> dict[str, float]:
    """The parts of verdicts in the store, with the time of the last change of each."""
    found = [name for name in store.names("bucket/run") if name.startswith("evaluate/verdicts/m/part-")]
    return {name: store.objects[f"bucket/run/{name}"].changed for name in found}


def test_a_run_on_a_store_is_killed_and_resumed_on_another_machine(
    cluster: Head, drivers: Path, caches: dict[str, Path], tmp_path: Path
) -> None:
    config = configuration(tmp_path, [row(f"r{n:03d}", f"g{n}") for n in range(60)], {"m": SLOW}, block_rows=2)
    with s3_server() as store:
        address = store.address("bucket/run")
        process = started("evaluate", config, cluster, address, drivers / "first")
        deadline = time.monotonic() + PATIENCE_S
        while len(verdicts(store)) < 6:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        before = verdicts(store)
        assert "evaluate/manifest.json" not in store.names("bucket/run")
        assert 6 <= len(before) < 30

        process = started("evaluate", config, cluster, address, drivers / "second")
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 0, said
        after = verdicts(store)
        assert len(after) == 30
        assert {name: after[name] for name in before} == before  # nothing was computed again
        assert "evaluate/manifest.json" in store.names("bucket/run")
        again = started("evaluate", config, cluster, address, drivers / "third")
        assert "done before" in again.communicate(timeout=PATIENCE_S)[0]

    # The same in a folder that all nodes share.
    process = started("evaluate", config, cluster, str(tmp_path / "shared"), tmp_path / "cache")
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said
    [mirror] = (drivers / "second" / "runs").iterdir()
    table = pq.read_table(mirror / "evaluate" / "scores.parquet")
    assert table.num_rows == 60
    assert table.equals(pq.read_table(tmp_path / "shared" / "evaluate" / "scores.parquet"))
    # No other node has made anything of the run.
    assert not [cache for cache in caches.values() if (cache / "runs").exists()]


def test_the_jobs_of_a_chain_work_on_a_store(
    cluster: Head, drivers: Path, caches: dict[str, Path], tmp_path: Path
) -> None:
    config = chain(tmp_path)
    with s3_server() as store:
        process = started("run", config, cluster, store.address("bucket/chain"), drivers / "chain")
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 0, said
        sent = store.names("bucket/chain")
    [mirror] = (drivers / "chain" / "runs").iterdir()
    jobs = {"distill/m", "feedback", "index", "fit_judge/fitted", "evaluate"}
    assert {f"{job}/manifest.json" for job in jobs} <= sent
    assert sent == {str(path.relative_to(mirror)) for path in mirror.rglob("*") if is_sent(path.relative_to(mirror))}
    process = started("run", config, cluster, str(tmp_path / "shared"), tmp_path / "cache")
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said
    scores = [pq.read_table(run / "evaluate" / "scores.parquet") for run in (mirror, tmp_path / "shared")]
    assert scores[0].equals(scores[1])
    # The encoder of `feedback` and `index` ran where it was fetched to.
    assert [cache for cache in caches.values() if (cache / "models" / "all-minilm-l6-v2").is_dir()]


def is_sent(path: Path) -> bool:
    return path.suffix != "" and not any(part.startswith(".") for part in path.parts)


def chain(folder: Path) -> str:
    """A configuration with a section of every kind of job whose tasks read or write the run."""
    return rated_configuration(
        folder,
        pool_of(160).values(),
        data={"pool_share": 0.5, "dev_share": 0.3},
        instructions={"files": [jsonl(folder / "in.jsonl", numbered(8))]},
        distill={"models": ["m"], "block_rows": 4},
        feedback={"model": "m", "queries": 6, "random": 2, "bm25": 2, "semantic": 2, "block_rows": 8},
        index={},
        fit_judge={},
        evaluate={
            "block_rows": 8,
            "max_unscored_share": 1,
            "judges": {
                "shown": {"model": "m", "icl": {"arm": "semantic", "k": 2}},
                "parsed": {"model": "m", "score_mode": "parsed"},
                "fitted": {"model": "m", "score_mode": "fitted"},
            },
        },
        report={},
    )
