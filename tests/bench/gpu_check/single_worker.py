"""A stand-in for Ray Train with one worker, so that the training loops run where only torch and transformers are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class Checkpoint:
    """A folder, as `ray.train.Checkpoint` is one."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @classmethod
    def from_directory(cls, folder: str | Path) -> Checkpoint:
        return cls(str(folder))

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        yield self._folder


def install() -> list[dict[str, Any]]:
    """Put the stand-in in place of `ray`, `ray.train` and `ray.train.torch`; the list gets what a loop reports."""
    import torch

    reports: list[dict[str, Any]] = []
    context = SimpleNamespace(
        get_world_rank=lambda: 0, get_world_size=lambda: 1, get_local_rank=lambda: 0, get_local_world_size=lambda: 1
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ray, train, of_torch = ModuleType("ray"), ModuleType("ray.train"), ModuleType("ray.train.torch")
    vars(of_torch).update(get_device=lambda: device)
    vars(train).update(
        torch=of_torch,
        Checkpoint=Checkpoint,
        get_context=lambda: context,
        get_checkpoint=lambda: None,
        report=lambda metrics, checkpoint=None, **_: reports.append(metrics),
    )
    vars(ray).update(train=train, __path__=[])
    sys.modules |= {"ray": ray, "ray.train": train, "ray.train.torch": of_torch}
    return reports
