"""Instructions with responses -> token ids on disk, by Ray tasks; the driver holds no token ids.

Below the given folder: `part-00000.arrow`, ... (one a block of rows: SCHEMA, memory-mapped by rows.py), `train.npy` and
`dev.npy` (row numbers over all parts), `counts.json`, written last. A killed preparation keeps its finished parts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import pyarrow as pa

from cluster import runtime
from cluster.artifacts import read_json, write_text
from cluster.errors import JobFailed
from cluster.model_specs import VllmSpec
from cluster.progress import progress
from cluster.tokens import encoder, encoder_of
from train.finetuning.pairs import Answered, Direction, candidates, encode, repeated

# A pair whose completion leaves no room for its prompt has no ids: it counts as too long, and repeats can name it.
SCHEMA = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("num_prompt", pa.int32()), ("key", pa.uint64()), ("dev", pa.bool_())]
)
BLOCK_ROWS = 2048  # of one task: some seconds
MOST_TASKS = 64  # at once; their texts are in the object store
COUNTS, ABOUT = "counts.json", b"inverdict"


@dataclass(frozen=True)
class Plan:
    """How rows become pairs: everything that a task needs beside its rows."""

    base: VllmSpec
    direction: Direction
    chat: bool
    dev_share: float
    cutoff: int
    reference: str = ""  # of the base, for other machines; "": they resolve its source


class Part(NamedTuple):
    """A finished part without its ids: for each pair its length in tokens, its key, and whether it is held out."""

    num_rows: int
    left_out: dict[str, int]
    lengths: np.ndarray
    keys: np.ndarray
    dev: np.ndarray


def prepared(folder: Path) -> dict[str, Any] | None:
    """The counts of a finished preparation, or None."""
    return read_json(folder / COUNTS) if (folder / "train.npy").exists() else None


def prepare(rows: Iterable[Answered], total: int, plan: Plan, folder: Path, *, what: str) -> dict[str, Any]:
    """Write the pairs of `rows` into `folder`; parts that an interrupted preparation has finished stay.

    Args:
        rows: instructions with responses, read once and in order.
        total: their number.
        plan: see `Plan`.
        folder: shared by all machines.
        what: the work's name in progress.

    Returns:
        `num_train`, `num_dev`, and `left_out` by reason. Without a training pair nothing is marked as finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num_rows = 0
    with progress(f"{what}: pairs", total) as bar:
        for done in _run(_blocks(rows, folder), plan):
            num_rows += done
            bar.add(done)
    for unfinished in folder.glob(".part-*"):
        unfinished.unlink(missing_ok=True)
    if (found := sum(read_part(path).num_rows for path in parts(folder))) != num_rows:
        raise JobFailed(
            f"{what}: {folder} shows {found} of {num_rows} rows. Put `run` on a file system that all nodes mount, and "
            "run the command again.",
            code="store_unreadable",
        )
    counts = _select(folder, is_inverse=plan.direction == "inverse")
    if counts["num_train"]:
        write_text(folder / COUNTS, json.dumps(counts))
    return counts


def _blocks(rows: Iterable[Answered], folder: Path) -> Iterator[tuple[tuple[Answered, ...], Path]]:
    rows, number = iter(rows), 0
    while block := tuple(islice(rows, BLOCK_ROWS)):
        yield block, folder / f"part-{number:05}.arrow"
        number += 1


def _run(blocks: Iterable[tuple[tuple[Answered, ...], Path]], plan: Plan) -> Iterator[int]:
    """The numbers of rows of the blocks, as they are written."""
    import ray

    task = ray.remote(num_cpus=1)(write_block)
    running: dict[Any, int] = {}
    for block, path in blocks:
        if path.exists() and read_part(path).num_rows == len(block):
            yield len(block)
            continue
        # New machines may have come, so the cluster is asked again.
        while len(running) >= min(MOST_TASKS, 2 * max(1, runtime.num_cpus())):
            yield from _finished(running)
        running[task.remote(block, str(path.resolve()), plan)] = len(block)
    while running:
        yield from _finished(running)


def _finished(running: dict[Any, int]) -> Iterator[int]:
    """Wait for one of the tasks, and take it out."""
    import ray

    done, _ = ray.wait(list(running), num_returns=1)
    ray.get(done)
    for one in done:
        yield running.pop(one)


def write_block(rows: Iterable[Answered], path: str, plan: Plan) -> None:
    """Filter and tokenise one block of rows, and write its part atomically.

    Args:
        rows: of the block.
        path: of the part.
        plan: see `Plan`.
    """
    left_out: Counter[str] = Counter()
    block = list(rows)
    kept = list(
        candidates(block, direction=plan.direction, chat=plan.chat, dev_share=plan.dev_share, left_out=left_out)
    )
    known = encoder(plan.reference, plan.base) if plan.reference else encoder_of(plan.base)
    ids = [one or ([], 0) for one in encode((one.pair for one in kept), known, plan.cutoff)]
    columns = [[one[0] for one in ids], [one[1] for one in ids], [one.key for one in kept], [one.dev for one in kept]]
    about = {ABOUT: json.dumps({"num_rows": len(block), "left_out": left_out})}
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)
    write_part(Path(path), table.replace_schema_metadata(about))


def write_part(path: Path, table: pa.Table) -> None:
    """Write a table as one uncompressed record batch, which can be memory-mapped; atomically."""
    # Its own name: a task that an interrupted driver has left behind may still write the same part.
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def open_part(path: Path) -> pa.Table:
    """The table of a part, whose buffers are the file's pages."""
    # numpy closes the file after mapping it, so that the number of parts is not limited by that of open files.
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(np.memmap(path, mode="r")))).read_all()


def parts(folder: Path) -> list[Path]:
    """The parts in order."""
    return sorted(folder.glob("part-*.arrow"))


def read_part(path: Path) -> Part:
    """A part without its ids."""
    table = open_part(path)
    about = json.loads(table.schema.metadata[ABOUT])
    (ids,) = table["input_ids"].chunks or [pa.array([], SCHEMA.field("input_ids").type)]
    keys, dev = (table[name].to_numpy() for name in ("key", "dev"))
    return Part(about["num_rows"], about["left_out"], np.diff(ids.offsets.to_numpy()), keys, dev)


def _select(folder: Path, *, is_inverse: bool) -> dict[str, Any]:
    """Write the row numbers of both splits, and return the counts."""
    found = [read_part(path) for path in parts(folder)]
    left_out: Counter[str] = Counter()
    for part in found:
        left_out.update(part.left_out)
    lengths = np.concatenate([np.empty(0, np.int32), *(part.lengths for part in found)])
    keys = np.concatenate([np.empty(0, np.uint64), *(part.keys for part in found)])
    dev = np.concatenate([np.empty(0, bool), *(part.dev for part in found)])
    again = repeated(keys) if is_inverse else np.zeros(len(keys), dtype=bool)
    left_out["duplicate"] += int(again.sum())
    too_long = ~again & (lengths == 0)
    usable = ~again & ~too_long
    splits = {"train": np.flatnonzero(usable & ~dev), "dev": np.flatnonzero(usable & dev)}
    for name, rows in splits.items():
        beside = folder / f".{name}.npy"
        np.save(beside, rows)
        beside.rename(folder / f"{name}.npy")
    reasons = {**dict(sorted(left_out.items())), "too_long": int(too_long.sum())}
    return {
        "num_train": len(splits["train"]),
        "num_dev": len(splits["dev"]),
        "left_out": {reason: number for reason, number in reasons.items() if number},
    }
