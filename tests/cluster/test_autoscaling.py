"""An autoscaler with fake GPU machines: batch and online demand start workers, and their end takes them down again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cluster.terminal import say
from tests.cluster.heads import Head, end, free_port, head
from tests.evaluation.making import jsonl, row

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
GPU_MACHINE = {"resources": {"CPU": 1, "GPU": 1, "object_store_memory": 80 * 2**20}, "max_workers": 3}
PATIENCE_S = 180


@pytest.fixture
def cluster() -> Iterator[Head]:
    """A head with CPUs alone, and an autoscaler that may start machines with one GPU each."""
    with head(num_cpus=4, workers={"gpu": GPU_MACHINE}) as found:
        yield found


def num_workers(head: Head) -> int:
    """Living machines of the type `gpu`, as the autoscaler's own state has it."""
    report = head.tell("/api/cluster_status")["data"]["clusterStatus"].get("autoscalerReport") or {}
    return int(report.get("activeNodes", {}).get("gpu", 0))


class Watched:
    """The numbers that `look` went through, each once, with the seconds since the start."""

    def __init__(self, look: Callable[[], int]) -> None:
        self._look, self._began = look, time.monotonic()
        self.seen: list[tuple[int, float]] = []

    def until(self, number: int, *, still: Callable[[], bool] = lambda: True) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.seen or self.seen[-1][0] != number:
            assert time.monotonic() < deadline, self.seen
            assert still(), f"the process ended at {self.seen}"
            now = self._look()
            if not self.seen or self.seen[-1][0] != now:
                self.seen.append((now, round(time.monotonic() - self._began, 1)))
            time.sleep(0.5)

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.seen]


def configuration(folder: Path, **sections: Any) -> str:
    rows = [row(f"r{number:02d}", f"g{number}") for number in range(40)]
    config = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "in.jsonl", rows)]},
        "models": {"m": {"backend": "scripted", "num_gpus": 1, "num_engines": 2, "delay_s": 1}},
        "evaluate": {"judges": {"m": {"model": "m"}}, "block_rows": 1},
        **sections,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def started(cluster: Head, folder: Path, *words: str) -> psutil.Popen:
    with (folder / "said").open("w") as said:
        return psutil.Popen(
            [sys.executable, "-m", "cluster", *words, "--set", f"ray.address={cluster.address}"],
            cwd=ROOT,
            env=cluster.environment(),
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def test_a_batch_starts_the_machines_that_it_needs_and_they_go_when_it_is_done(
    cluster: Head, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = Watched(lambda: num_workers(cluster))
    workers.until(0)
    job = started(cluster, tmp_path, "evaluate", configuration(tmp_path))
    try:
        # Two engines with a GPU each.
        workers.until(2, still=lambda: job.poll() is None)
        assert job.wait(timeout=PATIENCE_S) == 0, (tmp_path / "said").read_text()
        workers.until(0)
    finally:
        end(job)
    with capsys.disabled():
        say(f"\nbatch: workers (number, seconds): {workers.seen}")
    assert set(workers.numbers) <= {0, 1, 2}
    assert (tmp_path / "run" / "evaluate" / "scores.parquet").exists()


def replicas(cluster: Head) -> int:
    """Running replicas of the evaluator, as Serve's own state has it."""
    found = cluster.tell("/api/serve/applications/")["applications"]
    if "inverdict" not in found:
        return 0
    evaluator = found["inverdict"]["deployments"].get("evaluator-m", {"replicas": []})
    return sum(one["state"] == "RUNNING" for one in evaluator["replicas"])


def ask(url: str) -> None:
    body = {"task": "qa", "fields": {"source": "Why?", "candidate": "Because."}}
    asked = urllib.request.Request(
        f"{url}/v1/judge", json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    try:
        urllib.request.urlopen(asked, timeout=60).read()
    except urllib.error.HTTPError as error:
        assert error.code in (429, 503)  # more than one replica takes, until there are two


def test_online_load_adds_a_replica_with_its_machine_and_its_end_takes_both_away(
    cluster: Head, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    scale = {"min": 1, "max": 2, "max_ongoing": 4, "more_after_s": 2, "fewer_after_s": 5}
    config = configuration(tmp_path, serve={"port": port, "replicas": {"m": scale}})
    server = started(cluster, tmp_path, "serve", config)
    workers, evaluators = Watched(lambda: num_workers(cluster)), Watched(lambda: replicas(cluster))
    try:
        evaluators.until(1, still=lambda: server.poll() is None)
        workers.until(1)
        deadline = time.monotonic() + PATIENCE_S
        while "ready at" not in (tmp_path / "said").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.5)
        with ThreadPoolExecutor(12) as clients:
            loading = True

            def load() -> None:
                while loading:
                    ask(f"http://127.0.0.1:{port}")

            for _ in range(12):
                clients.submit(load)
            try:
                evaluators.until(2)
                workers.until(2)
            finally:
                loading = False
        evaluators.until(1)
        workers.until(1)
    finally:
        end(server)
    with capsys.disabled():
        say(f"\nonline: replicas {evaluators.seen}, workers {workers.seen} (number, seconds)")
    assert evaluators.numbers[-3:] == [1, 2, 1]
    assert workers.numbers[-3:] == [1, 2, 1]
