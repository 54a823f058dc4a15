"""A Ray head of a test's own: started by the documented command, ended by killing the processes that it started."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import psutil

RAY = Path(sys.executable).with_name("ray")
PATIENCE_S = 120
HIDE = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"')


class Head(NamedTuple):
    """Where the job server answers, where the cluster itself does, and the token that both ask for."""

    url: str
    address: str
    token: str
    process: psutil.Process
    place: Path

    def environment(self) -> dict[str, str]:
        """Of a process that may talk to the cluster."""
        known = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {
            **known,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.place / "token"),
            "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
        }

    def tell(self, path: str) -> Any:
        """What the job server says at that path, as JSON."""
        asked = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def head(*, num_cpus: int = 4, workers: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Head]:
    """A head in token mode with a job server on a free port of the loopback.

    `workers`: node types (name -> its entry in a cluster's YAML) that an autoscaler then starts and ends on this
    machine, as Ray's fake provider does.
    """
    place = Path(tempfile.mkdtemp(prefix="ih-"))  # Ray's sockets need a short path
    token = "0123456789abcdef" * 2
    (place / "token").write_text(token)
    port, dashboard = free_port(), free_port()
    command = [
        *(str(RAY), "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address", "127.0.0.1"),
        *("--port", str(port), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--dashboard-agent-listen-port", str(free_port()), "--ray-client-server-port", str(free_port())),
        *("--num-cpus", str(num_cpus), "--object-store-memory", str(100 * 2**20), "--temp-dir", str(place)),
    ]
    env: dict[str, str] = {}
    if workers is not None:
        env = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        (place / "autoscaling.yaml").write_text(json.dumps(_autoscaling(num_cpus, workers, f"127.0.0.1:{port}")))
        command.append(f"--autoscaling-config={place}/autoscaling.yaml")
    made = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", token, psutil.Process(), place)
    process = _started(command, place / "head.log", {**made.environment(), **env})
    try:
        _wait(made.url, process, place / "head.log")
        yield made._replace(process=process)
    finally:
        end(process)
        shutil.rmtree(place, ignore_errors=True)


def _autoscaling(num_cpus: int, workers: Mapping[str, Mapping[str, Any]], address: str) -> dict[str, Any]:
    kept = {"disable_node_updaters": True, "disable_launch_config_check": True, "use_node_id_as_ip": True}
    nothing: tuple[str, ...] = (
        *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
        *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude"),
        *("rsync_filter",),
    )
    return {
        **{key: [] for key in nothing},
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        "cluster_name": "fake",
        "max_workers": 8,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "file_mounts_sync_continuously": False,
        "provider": {"type": "fake_multinode", "gcs_address": address, **kept},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": num_cpus}, "node_config": {}, "max_workers": 0},
            **{name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in workers.items()},
        },
    }


@contextmanager
def node(
    head: Head,
    name: str,
    *,
    num_cpus: int = 2,
    hides: Path | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[psutil.Process]:
    """One more machine of the head's cluster, as far as Ray can tell; there when the block begins.

    `hides`: a folder that its processes cannot see (see `can_hide`); `env`: of its processes.

    One at a time: a raylet that is not up within 30 s gives up, and several at once are slower than that.
    """
    command = [
        *(str(RAY), "start", "--block", "--disable-usage-stats", "--address", head.address),
        *("--node-ip-address", "127.0.0.1", "--num-cpus", str(num_cpus), "--object-store-memory", str(100 * 2**20)),
        *("--dashboard-agent-listen-port", str(free_port()), "--resources", json.dumps({name: 1})),
    ]
    if hides:
        command = [*HIDE, str(hides), *command]
    log = head.place / f"{name}.log"
    process = _started(command, log, {**head.environment(), **env})
    try:
        deadline = time.monotonic() + PATIENCE_S
        while name not in living(head).values():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield process
    finally:
        end(process)


def can_hide(folder: Path) -> bool:
    """Whether this user may hide a folder from a process: an empty one is mounted over it in its namespace."""
    return subprocess.run([*HIDE, str(folder), "true"], capture_output=True, check=False).returncode == 0


def living(head: Head) -> dict[str, str]:
    """Node id -> the name that `node` gave it, of the living nodes that have one."""
    told = head.tell("/api/v0/nodes?limit=100&detail=1")["data"]["result"]["result"]
    names = {path.stem for path in head.place.glob("*.log")}
    return {
        one["node_id"]: name
        for one in told
        if one["state"] == "ALIVE"
        for name in names.intersection(one["resources_total"])
    }


def _started(command: Sequence[str], log: Path, env: Mapping[str, str]) -> psutil.Popen:
    with log.open("w") as file:
        return psutil.Popen(list(command), stdout=file, stderr=file, env=dict(env), start_new_session=True)


def end(process: psutil.Process) -> None:
    """Kill a process and all that it started."""
    started = [*process.children(recursive=True), process] if process.is_running() else []
    for one in started:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(started, timeout=20)


def _wait(url: str, process: psutil.Popen, log: Path) -> None:
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
