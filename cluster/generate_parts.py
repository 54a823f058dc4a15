"""Inference over blocks of rows with Ray Data: the replies are written part by part as they arrive, with progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster.config import ModelSpec
from cluster.generate import Sampling, generate
from cluster.progress import progress
from cluster.terminal import say

if TYPE_CHECKING:
    from ray.data import Dataset

Step = tuple[Any, ...]  # a function over batches, followed by its arguments after the batch


def generate_parts(
    blocks: Sequence[Mapping[str, str]],
    spec: ModelSpec,
    sampling: Sampling,
    *,
    requests: Step,
    write: Step,
    what: str,
    total: int,
    done: int,
) -> None:
    """Run inference on blocks of rows and write the replies as they arrive, with progress on stderr.

    Args:
        blocks: one row per block, such as the path of the block's file.
        spec: the model.
        sampling: see `Sampling`.
        requests: a function and its arguments after the first: rows of `blocks` -> the columns that `generate` reads,
            and others to keep.
        write: likewise: requests with their replies -> `num_rows`, the number of rows written.
        what: the work's name in progress and messages, such as `distill: small`.
        total: rows in all blocks.
        done: rows completed by an earlier run.
    """
    answer = partial(generate, spec=spec, sampling=sampling)
    run_parts(blocks, answer, requests=requests, write=write, what=what, total=total, done=done)


def run_parts(
    blocks: Sequence[Mapping[str, str]],
    answer: Callable[[Dataset], Dataset],
    *,
    requests: Step,
    write: Step,
    what: str,
    total: int,
    done: int,
) -> None:
    """`generate_parts` with any inference: `answer` adds its columns to the requests."""
    import ray.data

    # One item per block: Ray's own Parquet reader starts an actor for every few files.
    items = ray.data.from_items([dict(block) for block in blocks], override_num_blocks=len(blocks))
    asked = items.map_batches(requests[0], fn_args=requests[1:], batch_size=None)
    written = answer(asked).map_batches(write[0], fn_args=write[1:], batch_size=None)
    say(f"{what}: starting the model")
    with progress(what, total, done) as bar:
        for batch in written.iter_batches(batch_size=None, prefetch_batches=0):
            bar.add(int(sum(batch["num_rows"])))
