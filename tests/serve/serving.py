"""`inverdict serve` in a process of its own with a private cluster; everything it started is ended with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import yaml

ROOT = Path(__file__).parents[2]
PLANTED = "zebraenvironment"  # of the server's environment; no log may hold it
SMALL = ("--set", "ray.num_cpus=2", "--set", "ray.object_store_gib=0.1")


class Served(NamedTuple):
    address: str
    key: str
    process: subprocess.Popen[str]
    log: Path
    config: Path

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        headers = {**self.bearer, **more.pop("headers", {})}
        return httpx.post(f"{self.address}{path}", json=body, headers=headers, timeout=60, **more)

    def session(self) -> Path:
        """The folder of this server's own Ray session."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if found := re.search(r"(/\S*/session_[\d_-]+)", " ".join(child.cmdline())):
                return Path(found.group(1))
        raise AssertionError("no process of a Ray session below the server")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", headers=self.bearer, timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(folder: Path, **sections: Any) -> Path:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({"run": str(folder / "run"), **sections}))
    return path


@contextmanager
def serving(
    config: Path, port: int, key: str = "", *, patience_s: float = 240, python: Path = Path(sys.executable)
) -> Iterator[Served]:
    """The running server, ready. What the command printed is in `log` beside the configuration.

    `python`: the interpreter of the main environment, for tests that run in another.
    """
    log = config.parent / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(python), "-m", "cluster", "serve", str(config), *SMALL],
            cwd=ROOT,
            env={**os.environ, "PLANTED": PLANTED, "RAY_metrics_report_interval_ms": "1000"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
    children: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + patience_s
        while "serve: ready at" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        children = psutil.Process(process.pid).children(recursive=True)
        yield Served(f"http://127.0.0.1:{port}", key, process, log, config)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else children
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        for child in children:
            if child.is_running():
                child.kill()


def left_of(config: Path, before: set[int]) -> list[psutil.Process]:
    """Processes that name the configuration, are not of `before`, and do not end within a few seconds."""
    deadline = time.monotonic() + 5
    while True:
        left = [
            process
            for process in psutil.process_iter(["pid", "cmdline"])
            if process.pid not in before and str(config) in " ".join(process.info["cmdline"] or [])
        ]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
