"""Encoding on the device that Ray has assigned, in a bounded number of tasks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import sentence_transformers
import torch

from cluster import models, runtime
from retrieval.encode import encode, load_encoder


@pytest.mark.parametrize(
    ("is_running", "assigned", "device"), [(False, [], "cpu"), (True, [], "cpu"), (True, [1], "cuda")]
)
def test_the_encoder_takes_a_gpu_only_where_ray_assigned_one(
    monkeypatch: pytest.MonkeyPatch, is_running: bool, assigned: list[int], device: str
) -> None:
    loaded: list[str | None] = []

    class Encoder:
        max_seq_length = 512

        def __init__(self, folder: str, device: str | None = None) -> None:
            loaded.append(device)

    # Ray 2.60 hides no GPU from a task that requested none, so torch sees it.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ray, "is_initialized", lambda: is_running)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: assigned)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", Encoder)
    assert load_encoder.__wrapped__("folder", 64).max_seq_length == 64
    assert loaded == [device]


@pytest.mark.parametrize(
    ("idle", "num_gpus", "most"),
    [
        ({"CPU": 3.5}, 0, 3),
        ({"CPU": 0.4}, 0, 1),  # a running panel holds the CPUs: the task waits for one
        ({"CPU": 8.0, "GPU": 2.0}, 1, 2),
        ({"CPU": 8.0, "GPU": 0.5}, 0, 8),  # an engine holds the rest of the GPU
    ],
)
def test_few_tasks_run_at_once_and_the_vectors_keep_their_order(
    monkeypatch: pytest.MonkeyPatch, idle: dict[str, float], num_gpus: int, most: int
) -> None:
    running: set[int] = set()
    seen: list[int] = []
    asked: list[dict[str, Any]] = []

    class Task:
        def remote(self, folder: str, texts: list[str], max_length: int) -> tuple[int, np.ndarray]:
            number = len(seen)
            running.add(number)
            seen.append(len(running))
            return number, np.array([[float(text)] for text in texts])

    def get(task: tuple[int, np.ndarray]) -> np.ndarray:
        running.discard(task[0])
        return task[1]

    def remote(**options: Any) -> Any:
        asked.append(options)
        return lambda function: Task()

    # An autoscaler that may start 64 GPUs is not asked for one.
    monkeypatch.setattr(runtime, "num_gpus", lambda: 64)
    monkeypatch.setattr(ray, "available_resources", lambda: idle)
    monkeypatch.setattr(runtime, "is_one_machine", lambda: True)
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(models, "resolve", lambda source, **_: models.ModelFolder(source, Path("m"), "", "local", "m"))
    # 20,000 texts in blocks of 512: 40 tasks.
    found = encode("m", [str(number) for number in range(20_000)], 64)
    assert found[:, 0].tolist() == list(range(20_000))
    assert len(seen) == 40
    assert max(seen) == most
    assert asked == [{"num_cpus": 1, "num_gpus": num_gpus}]
