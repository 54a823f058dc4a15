"""Three nodes share a job's work; one is killed without grace in the middle, and every row is there once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow.parquet as pq
import pytest

from cluster.terminal import say
from judging.records import content_id
from tests.cluster.heads import Head, end, head, living, node
from tests.evaluation.batch.test_evaluate import configuration as evaluate_configuration
from tests.evaluation.making import row
from tests.retrieval.making import configuration as feedback_configuration
from tests.retrieval.making import pool_of
from tests.train.test_distill import configuration as distill_configuration
from tests.train.test_distill import numbered

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
NODES = ("first", "second", "third")
# Slow enough to be killed in the middle; an engine for each node, which has room for one and the steps around it.
SLOW: dict[str, Any] = {"backend": "scripted", "delay_s": 0.5, "num_engines": 3}
PATIENCE_S = 240


class Cluster(NamedTuple):
    head: Head
    nodes: dict[str, psutil.Process]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and three nodes of two CPUs each."""
    with ExitStack() as stack:
        first = stack.enter_context(head(num_cpus=0))
        nodes = {name: stack.enter_context(node(first, name, num_cpus=2)) for name in NODES}
        yield Cluster(first, nodes)


def _engines(head: Head) -> Counter[str]:
    """Blocks that engines have answered, by the name of the node that they ran on."""
    names = living(head)
    found = head.tell("/api/v0/tasks?limit=10000&detail=1")["data"]["result"]["result"]
    return Counter(
        names[one["node_id"]]
        for one in found
        if one["type"] == "ACTOR_TASK" and "submit" in one["name"] and one["node_id"] in names
    )


def killed_in_the_middle(
    cluster: Cluster, job: str, config: str, parts: Callable[[], list[Path]], *, at: int
) -> tuple[subprocess.Popen[str], str, Counter[str]]:
    """Run the job; once `at` parts are there, kill the node that has answered most. The job, the node's name, and the
    blocks that each node had answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster", job, config, "--set", f"ray.address={cluster.head.address}"],
        cwd=ROOT,
        env=cluster.head.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    while len(parts()) < at:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shares = _engines(cluster.head)
    victim = shares.most_common(1)[0][0]
    end(cluster.nodes[victim])
    return process, victim, shares


@pytest.mark.parametrize("job", ["evaluate", "distill", "feedback"])
def test_a_node_that_dies_costs_time_and_no_row(
    cluster: Cluster, tmp_path: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder, key, wanted = CASES[job](tmp_path)

    def parts() -> list[Path]:
        return list(folder.glob("part-*.parquet"))

    process, victim, before = killed_in_the_middle(cluster, job, config, parts, at=6)
    at_the_kill = len(parts())
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said
    found = Counter(one[key] for part in parts() for one in pq.read_table(part, columns=[key]).to_pylist())
    assert found == wanted
    assert at_the_kill < len(parts())
    shares = _engines(cluster.head)
    with capsys.disabled():
        say(
            f"\n{job}: {victim} killed at part {at_the_kill} of {len(parts())}; blocks by node until then, and by those"
        )
        say(f"that live in the end: {dict(before)}, {dict(shares)}")
    # All three had work, and both that live have gone on.
    assert set(before) == set(NODES)
    for name in set(NODES) - {victim}:
        assert shares[name] > before[name]


def _evaluate(folder: Path) -> tuple[str, Path, str, Counter[str]]:
    rows = [row(f"r{number:03d}", f"g{number}") for number in range(120)]
    config = evaluate_configuration(folder, rows, {"m": SLOW}, block_rows=2)
    return config, folder / "run" / "evaluate" / "verdicts" / "m", "id", Counter(one["id"] for one in rows)


def _distill(folder: Path) -> tuple[str, Path, str, Counter[str]]:
    config = distill_configuration(folder, numbered(120), models={"m": SLOW}, block_rows=2)
    place = folder / "run" / "distill" / "m"
    return config, place, "id", Counter(content_id(one["instruction"]) for one in numbered(120))


def _feedback(folder: Path) -> tuple[str, Path, str, Counter[str]]:
    asked = {"model": "m", "random": 2, "bm25": 1, "semantic": 0, "block_rows": 2}
    config = feedback_configuration(folder, pool_of(40).values(), feedback=asked, models={"m": SLOW})
    # Every one of 40 texts is tried with 2 + 1 examples.
    return config, folder / "run" / "feedback", "query_id", Counter({f"r{number}": 3 for number in range(40)})


CASES = {"evaluate": _evaluate, "distill": _distill, "feedback": _feedback}
