"""The checks of `inverdict doctor` on one node: versions, storage, model folders, endpoints, memory, ports.

Plain functions that run in a Ray task on every node and return plain values; doctor.py interprets them.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cluster import runtime
from cluster.adapters import adapter_problem
from cluster.model_files import missing_pieces
from cluster.models import is_here
from cluster.precision import Dtype, dtype_here

PATIENCE_S = 5.0


class Look(NamedTuple):
    """What to check.

    `storage`: the run directory; `mark`: the name of a file that the driver wrote there; `references`: of the models by
    name (see `cluster.models.local_folder`); `adapters`: folders of LoRA adapters by model; `endpoints`: host and port
    by model; `ports`: report the addresses that listen on them.
    """

    storage: str
    mark: str
    references: Mapping[str, str]
    adapters: Mapping[str, str]
    endpoints: Mapping[str, tuple[str, int]]
    ports: Sequence[int]


class Seen(NamedTuple):
    """The results on one node. A problem is a text, "" if there is none.

    `fetches`: the models that the node does not have yet and gets itself; `dtype`: what `dtype: auto` is on its
    processor; `gpus`: name and bytes of each; `bound`: port -> addresses that listen on it.
    """

    node: str
    versions: dict[str, str]
    storage: str
    models: dict[str, str]
    fetches: list[str]
    memory_bytes: int
    dtype: Dtype
    gpus: list[tuple[str, int]]
    bound: dict[int, list[str]]


def look(asked: Look, node: str) -> Seen:
    """Run the checks on this machine, which the cluster knows as `node`."""
    folders = {name: place for name, place in asked.references.items() if Path(place).is_absolute()}
    models = {name: folder_problem(Path(folders[name])) if name in folders else "" for name in asked.references}
    models |= {name: adapter_folder_problem(Path(folder)) for name, folder in asked.adapters.items()}
    models |= {name: endpoint_problem(*place) for name, place in asked.endpoints.items()}
    return Seen(
        node=node,
        versions={"python": platform.python_version(), **runtime.versions()},
        storage=storage_problem(Path(asked.storage), asked.mark, node) if asked.storage else "",
        models=models,
        fetches=[name for name, one in asked.references.items() if name not in folders and not is_here(one)],
        memory_bytes=memory_bytes(),
        dtype=dtype_here(),
        gpus=gpus(),
        bound={port: listeners(port) for port in asked.ports},
    )


def storage_problem(folder: Path, mark: str, node: str) -> str:
    """Why this node cannot use the run directory; "" if it sees the driver's mark and can write a file.

    The file stays, under a name derived from the mark, for the driver to find and remove.

    Args:
        folder: the run directory.
        mark: the name of the driver's file in it.
        node: this node's name.
    """
    if not (folder / mark).exists():
        return "does not see the driver's file: the folder is not shared"
    try:
        (folder / f"{mark}.{node}").write_bytes(b"\0" * 4096)
    except OSError as error:
        return f"cannot write to it: {error.strerror}"
    return ""


def folder_problem(folder: Path) -> str:
    """Why a model folder cannot be loaded; "" if it can."""
    if not folder.is_dir():
        return f"does not have the folder {folder}"
    missing = missing_pieces(folder)
    return f"lacks {'; '.join(missing)} in {folder}" if missing else ""


def adapter_folder_problem(folder: Path) -> str:
    """Why a LoRA adapter cannot be loaded; "" if it can."""
    if not folder.is_dir():
        return f"does not have the folder {folder}"
    problem = adapter_problem(folder)
    return f"has an adapter {folder} that {problem}" if problem else ""


def endpoint_problem(host: str, port: int) -> str:
    """Why an endpoint cannot be reached; "" if it can."""
    try:
        socket.create_connection((host, port), timeout=PATIENCE_S).close()
    except OSError as error:
        return f"cannot connect to {host}:{port}: {error.strerror or error}"
    return ""


def memory_bytes() -> int:
    """The machine's memory, or the container's limit if it has one."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        bound = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return machine
    return min(machine, bound)


def gpus() -> list[tuple[str, int]]:
    """Name and memory in bytes of every NVIDIA GPU; empty without a driver."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rsplit(",", 1) for line in output.splitlines() if "," in line]
    return [(name.strip(), int(mib) * 2**20) for name, mib in rows]


def listeners(port: int) -> list[str]:
    """The local addresses that listen on a TCP port."""
    found = set()
    for file, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        try:
            lines = Path(file).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            address, state = line.split()[1], line.split()[3]
            host, _, number = address.rpartition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(socket.inet_ntop(family, _in_network_order(bytes.fromhex(host))))
    return sorted(found)


def _in_network_order(packed: bytes) -> bytes:
    """Linux writes an address as 32-bit words in the machine's byte order."""
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return b"".join(int.from_bytes(word, "big").to_bytes(4, "little") for word in words)
