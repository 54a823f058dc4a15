"""Inference over blocks of rows with Ray Data: the replies are written part by part as they arrive, with progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster.errors import refusals_raised
from cluster.generate import Batch, Sampling, generate, rows_at_once
from cluster.model_specs import ModelSpec, ServedSpec, VllmSpec
from cluster.placement import released_groups
from cluster.precision import on_gpus
from cluster.progress import progress
from cluster.run_store import beside_driver
from cluster.terminal import say

if TYPE_CHECKING:
    from ray.data import Dataset

Step = tuple[Any, ...]  # a function over batches, followed by its arguments after the batch
NUM_ROWS, START = "num_rows", "start"


def generate_parts(
    blocks: Sequence[Mapping[str, Any]],
    spec: ModelSpec,
    sampling: Sampling,
    *,
    requests: Step,
    write: Step,
    what: str,
    total: int,
    done: int,
    adapters: Collection[VllmSpec] = (),
) -> None:
    """Run inference on blocks of rows and write the replies as they arrive, with progress on stderr.

    Args:
        blocks: one row per block, such as the path of the block's file, and `num_rows`, the number of its requests.
        spec: the model.
        sampling: see `Sampling`.
        requests: a function and its arguments after the first: rows of `blocks` -> the columns that `generate` reads,
            and others to keep.
        write: likewise: requests with their replies -> `num_rows`, the number of rows written.
        what: the work's name in progress and messages, such as `distill: small`.
        total: rows in all blocks.
        done: rows completed by an earlier run.
        adapters: as for `generate`.
    """
    answer = partial(generate, spec=spec, sampling=sampling, adapters=adapters)
    # On GPUs a block takes seconds, and making its requests once for each part would cost more than it saves.
    at_once = rows_at_once(spec) if isinstance(spec, VllmSpec) and not on_gpus(spec) else None
    run_parts(
        blocks,
        answer,
        requests=requests,
        write=write,
        what=what,
        total=total,
        done=done,
        at_once=at_once,
        is_served=isinstance(spec, ServedSpec),
    )


def run_parts(
    blocks: Sequence[Mapping[str, Any]],
    answer: Callable[[Dataset], Dataset],
    *,
    requests: Step,
    write: Step,
    what: str,
    total: int,
    done: int,
    at_once: int | None = None,
    is_served: bool = False,
) -> None:
    """`generate_parts` with any inference.

    Args:
        blocks: see there.
        answer: adds its columns to the requests.
        requests: see there.
        write: see there.
        what: see there.
        total: see there.
        done: see there.
        at_once: rows that are passed on and written together, a part of a block; None: whole blocks.
        is_served: running evaluators answer, which may hold every CPU of the cluster: the steps here wait for none.

    Raises:
        UserError: a worker has refused a model or an adapter.
    """
    import ray.data

    items: list[dict[str, Any]] = []
    for block in blocks:
        rest = {name: value for name, value in block.items() if name != NUM_ROWS}
        starts = range(0, block[NUM_ROWS], at_once) if at_once else (0,)
        items += [{**rest, START: start} for start in starts]
    # These steps read and write the run folder.
    if where := beside_driver() or ({"num_cpus": 0} if is_served else {}):
        where["concurrency"] = min(os.cpu_count() or 1, len(items))
    # One item per block: Ray's own Parquet reader starts an actor for every few files.
    asked = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _from_start, fn_args=(at_once, *requests), batch_size=None, **where
    )
    written = answer(asked).map_batches(write[0], fn_args=write[1:], batch_size=None, **where)
    say(f"{what}: starting the model")
    with refusals_raised(), released_groups(), progress(what, total, done) as bar:
        for batch in written.iter_batches(batch_size=None, prefetch_batches=0):
            bar.add(int(sum(batch["num_rows"])))


def _from_start(batch: Batch, at_once: int | None, requests: Callable[..., Batch], *arguments: Any) -> Batch:
    """The requests of one item: those of its block from its start on."""
    rest = dict(batch)
    (start,) = map(int, rest.pop(START))
    found = requests(rest, *arguments)
    return {name: column[start : start + at_once] for name, column in found.items()} if at_once else found
