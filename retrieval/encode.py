"""Texts -> embeddings with a sentence-transformers model, in a Ray worker: the driver loads no torch.

On a GPU where Ray has assigned one to the process, else on the CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from cluster import models, runtime
from judging.errors import InputError


@cache
def load_encoder(folder: str, max_length: int) -> Any:
    """The model of that folder, loaded once in each process."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(models.local_folder(folder), device=runtime.assigned_device())
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def encode_here(folder: str, texts: Sequence[str], max_length: int, *, at_once: int = 32) -> np.ndarray:
    """Encode texts in this process.

    Args:
        folder: of a sentence-transformers model.
        texts: one row each.
        max_length: tokens read of a text.
        at_once: batch size; 1: no embedding depends, in the last digits, on the other texts of its batch.

    Returns:
        Embeddings of length 1, float32, N x D.

    Raises:
        InputError: where the model returns NaN or infinity.
    """
    model = load_encoder(folder, max_length)
    found: np.ndarray = model.encode(
        list(texts), batch_size=at_once, convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
    )
    found = np.asarray(found, dtype=np.float32).reshape(len(texts), -1)
    if not np.isfinite(found).all():
        raise InputError(
            f"The encoder in {folder} returned NaN or infinite embeddings. Use another encoder.",
            code="damaged_artifact",
        )
    return found


def encode(source: str, texts: Sequence[str], max_length: int, *, block: int = 512) -> np.ndarray:
    """Encode texts on the cluster. Needs `runtime.start`.

    Args:
        source: of a sentence-transformers model, as under `models`.
        texts: one row each.
        max_length: tokens read of a text.
        block: texts a task.

    Returns:
        Embeddings of length 1, float32, N x D, in the order of `texts`.

    Raises:
        InputError: where the model returns NaN or infinity.
    """
    import ray

    folder = models.resolve(source, weights=runtime.is_one_machine()).reference
    # As many tasks at once as idle GPUs or CPUs: more would start nodes of an autoscaled cluster, for a small model.
    num_gpus = runtime.idle("GPU")
    at_once = num_gpus or max(1, runtime.idle("CPU"))
    work = ray.remote(num_cpus=1, num_gpus=1 if num_gpus else 0)(encode_here)
    blocks = (list(texts[start : start + block]) for start in range(0, len(texts), block))
    try:
        return np.concatenate(list(_in_order(lambda some: work.remote(folder, some, max_length), blocks, at_once)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):  # its message, without the worker's traceback
            raise InputError(str(error.cause), code=error.cause.code, key=error.cause.key) from error
        raise


def _in_order(start: Callable[[list[str]], Any], blocks: Iterator[list[str]], at_once: int) -> Iterator[np.ndarray]:
    """The results of one task per block, at most `at_once` of them submitted and not read."""
    import ray

    running: deque[Any] = deque()
    for some in blocks:
        if len(running) == at_once:
            yield ray.get(running.popleft())
        running.append(start(some))
    yield from map(ray.get, running)
