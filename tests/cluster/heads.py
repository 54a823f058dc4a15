"""A Ray head of a test's own: started by the documented command, ended by killing the processes that it started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

RAY = Path(sys.executable).with_name("ray")
PATIENCE_S = 120


class Head(NamedTuple):
    """Where the job server answers, where the cluster itself does, and the token that both ask for."""

    url: str
    address: str
    token: str
    process: psutil.Process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def head(*, num_cpus: int = 4, more: tuple[str, ...] = (), env: Mapping[str, str] | None = None) -> Iterator[Head]:
    """A head in token mode with a job server on a free port of the loopback."""
    place = Path(tempfile.mkdtemp(prefix="ih-"))  # Ray's sockets need a short path
    token = "0123456789abcdef" * 2
    (place / "token").write_text(token)
    port, dashboard = free_port(), free_port()
    command = [
        *(str(RAY), "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address", "127.0.0.1"),
        *("--port", str(port), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--dashboard-agent-listen-port", str(free_port()), "--ray-client-server-port", str(free_port())),
        *("--num-cpus", str(num_cpus), "--object-store-memory", str(100 * 2**20), "--temp-dir", str(place), *more),
    ]
    known = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    known |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (place / "head.log").open("w") as log:
        process = psutil.Popen(command, stdout=log, stderr=log, env={**known, **(env or {})}, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{dashboard}", process, place / "head.log")
        yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", token, psutil.Process(process.pid))
    finally:
        end(process)
        shutil.rmtree(place, ignore_errors=True)


def end(process: psutil.Process) -> None:
    """Kill a process and all that it started."""
    started = [*process.children(recursive=True), process] if process.is_running() else []
    for one in started:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(started, timeout=20)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            urllib.request.urlopen(f"{url}/api/version", timeout=2).close()
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.5)
