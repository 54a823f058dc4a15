"""Texts -> embeddings with a sentence-transformers model, in a Ray worker: the driver loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from cluster import models, runtime
from judging.errors import InputError


@cache
def load_encoder(folder: str, max_length: int) -> Any:
    """The model of that folder, loaded once in each process."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder)
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def encode_here(folder: str, texts: Sequence[str], max_length: int, *, at_once: int = 32) -> np.ndarray:
    """Embeddings of length 1, float32, one row a text. Raises InputError where the model gives NaN.

    `at_once` 1: each text by itself, so that its embedding does not depend, in the last digits, on its company.
    """
    model = load_encoder(folder, max_length)
    found: np.ndarray = model.encode(
        list(texts), batch_size=at_once, convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
    )
    found = np.asarray(found, dtype=np.float32).reshape(len(texts), -1)
    if not np.isfinite(found).all():
        raise InputError(f"{folder} gives embeddings that are not numbers: its weights are broken")
    return found


def encode(source: str, texts: Sequence[str], max_length: int, *, block: int = 512) -> np.ndarray:
    """The same on the cluster, in blocks; the rows in the order of `texts`. Needs `runtime.start`."""
    import ray

    folder = str(models.resolve(source).path)
    num_gpus = min(1, runtime.num_gpus())
    work = ray.remote(num_cpus=1, num_gpus=num_gpus)(encode_here)
    parts = [
        work.remote(folder, list(texts[start : start + block]), max_length) for start in range(0, len(texts), block)
    ]
    try:
        return np.concatenate(ray.get(parts))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):  # the sentence, without the worker's traceback
            raise InputError(str(error.cause)) from error
        raise
