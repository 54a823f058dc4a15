"""The only TorchTrainer call: a training loop on workers of this cluster, resumed after a killed worker or driver.

Knows neither the model nor the loss. Progress is read from a small file that the loop writes (`Steps`), because the
workers run on other machines.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from cluster import feasibility as demands
from cluster import model_hub, runtime
from cluster.artifacts import write_text
from cluster.errors import JobFailed, UserError
from cluster.progress import progress
from cluster.strict import Strict
from cluster.terminal import say

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

SECONDS_BETWEEN_LOOKS = 0.5
NAME = "checkpoints"  # of the folder below that of the training
KEPT_CHECKPOINTS = 1


class TrainingConfig(Strict):
    """Resources of a training; shared by every job that trains."""

    num_workers: int = Field(1, ge=1, description="data-parallel workers")
    use_gpu: bool | None = Field(
        None,
        description="one GPU per worker; none: if `accelerator_type` is set, or the cluster has as many GPUs, or its "
        "autoscaler can start them",
    )
    cpus_per_worker: float | None = Field(
        None,
        gt=0,
        description="CPUs per worker; none: an equal share of the cluster's CPUs, at most those of its largest node",
    )
    accelerator_type: str | None = Field(None, description="GPU type as Ray names it, such as A100")
    max_failures: int = Field(
        2,
        ge=0,
        description="restarts from the last checkpoint after a worker dies, without a new checkpoint in between; with "
        "one the count begins again, so that the loss of spot nodes does not end a training",
    )

    @model_validator(mode="after")
    def _has_gpus_of_a_type(self) -> TrainingConfig:
        if self.accelerator_type is not None and self.use_gpu is False:
            raise UserError(
                f"{self.accelerator_type} is a type of GPU, and `use_gpu` is false. Remove one of the two.",
                code="conflict",
                key="accelerator_type",
            )
        return self

    def on_gpus(self) -> bool:
        """Whether each worker takes a GPU. On Kubernetes only living GPUs are known, so a type of GPU asks for them."""
        if self.use_gpu is not None:
            return self.use_gpu
        return self.accelerator_type is not None or runtime.num_gpus() >= self.num_workers


def on_gpu() -> bool:
    """Whether Ray has given this worker a GPU; torch also finds those of the node that it did not ask for."""
    import ray.train.torch

    return bool(ray.train.torch.get_device().type == "cuda")


class Steps:
    """The number of completed and of all steps: written by the loop on rank 0, read by the driver."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, done: int, total: int) -> None:
        write_text(self._path, json.dumps([done, total]))

    def read(self) -> tuple[int, int] | None:
        try:
            done, total = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return done, total


# Its length: the arguments of TorchTrainer, which are listed once and nowhere else.
def train(
    loop: Callable[[dict[str, Any]], None],
    settings: Mapping[str, Any],
    config: TrainingConfig,
    *,
    folder: Path,
    what: str,
) -> None:
    """Run `loop(settings)` on every worker; returns when all are done.

    Args:
        loop: the training loop.
        settings: its argument, extended by `num_threads` (of a CPU worker) and `steps` (the path for `Steps`).
        config: the resources.
        folder: shared by all machines; keeps the checkpoints that the loop reports. The same folder resumes from the
            last one.
        what: the work's name in progress and messages.

    Raises:
        UserError: no node can ever provide a worker's resources.
        JobFailed: the loop failed more often than `max_failures` without a new checkpoint; with the first cause.
    """
    import ray.train
    import ray.train.torch

    use_gpu = config.on_gpus()
    shared = min(runtime.num_cpus() // config.num_workers, runtime.most_cpus())
    num_cpus = config.cpus_per_worker or max(1, shared)
    bundle = {"CPU": num_cpus, **({"GPU": 1} if use_gpu else {})}
    kind = {f"accelerator_type:{config.accelerator_type}": 0.001} if config.accelerator_type else {}
    demands.check_all([demands.Demand(what, {**bundle, **kind}, config.num_workers)])
    steps = folder.resolve() / "steps.json"
    trainer = partial(
        ray.train.torch.TorchTrainer,
        loop,
        train_loop_config={**settings, "num_threads": int(max(1, num_cpus)), "steps": str(steps)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=use_gpu,
            resources_per_worker=bundle,
            accelerator_type=config.accelerator_type,
        ),
        run_config=ray.train.RunConfig(
            name=NAME,
            storage_path=str(folder.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            worker_runtime_env={"env_vars": _environment(use_gpu)},
        ),
    )
    with _watched(Steps(steps), what), runtime.quiet_logging():
        _fit_with_progress(trainer, folder, what)


def _fit_with_progress(trainer: Callable[[], TorchTrainer], folder: Path, what: str) -> None:
    """Train until it is done, or until it has failed `max_failures` times since the last checkpoint."""
    import ray.train

    while True:
        before = _checkpoints(folder)
        try:
            trainer().fit()
            return
        except ray.train.TrainingFailedError as error:
            if _checkpoints(folder) <= before:
                raise JobFailed(f"{what}: training failed: {_first_reason(error)}", code="training_failed") from error
            say(f"{what}: {_first_reason(error)}; goes on from the last checkpoint")


def _checkpoints(folder: Path) -> set[str]:
    """The names of the kept checkpoints."""
    return {path.name for path in (folder / NAME).glob("checkpoint_*")}


def _environment(use_gpu: bool) -> dict[str, str]:
    """Of the workers. Those on CPUs see no GPU: libraries take memory on every GPU that they see."""
    hidden = {} if use_gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return {"TOKENIZERS_PARALLELISM": "false", **model_hub.fetching(), **hidden}


def _first_reason(error: BaseException) -> str:
    """The innermost line of the message; Ray wraps a worker's exception several times."""
    failures = getattr(error, "worker_failures", None) or {}
    inner = next(iter(failures.values()), error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(inner).__name__


@contextmanager
def _watched(steps: Steps, what: str) -> Iterator[None]:
    """A progress line or bar that follows `steps` until the block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(steps, what, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(steps: Steps, what: str, ended: threading.Event) -> None:
    first = steps.read() or (0, 0)
    while (now := steps.read()) is None or now == first:
        if ended.wait(SECONDS_BETWEEN_LOOKS):
            return
    done, total = now
    with progress(what, total, done) as bar:
        is_last = False
        while not is_last:
            is_last = ended.wait(SECONDS_BETWEEN_LOOKS)
            latest = steps.read() or (done, total)
            if latest[0] > done:
                bar.add(latest[0] - done)
                done = latest[0]
