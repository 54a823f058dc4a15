"""Memory and time of many training pairs without a model: `python -m tests.bench.train_rows [prepare] [read]`.

prepare: the job's driver filters and tokenises a million synthetic rows with Ray tasks. read: a million pairs of 60 to
340 random token ids are split into train and dev as by the driver, then read in batches as by a training worker. Each
step runs in a process of its own. `own`: its memory without mapped pages of files, which the kernel can take back.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.bench.measure import in_child

PREPARED_ROWS, PAIRS, READ_PAIRS, BATCH = 1_000_000, 1_000_000, 20_000, 8
WORDS = [start + end for start in "bcdfgklmnprst" for end in ("a", "e", "ol", "un", "ing")]


def main(parts: Sequence[str]) -> int:
    print("| process | own before | own after | peak with mapped pages | seconds | |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for part in parts or ("prepare", "read"):
            for step in {"prepare": ("prepare",), "read": ("write", "split", "read")}[part]:
                found = in_child("tests.bench.train_rows", step, folder)
                memory = " | ".join(f"{found[key] / 1e6:.0f} MB" for key in ("before", "after", "peak"))
                print(f"| {step} | {memory} | {found['seconds']:.1f} | {found['said']} |", flush=True)
    return 0


def _answered(number: int) -> Iterator[Any]:
    """Rows of about 30 words; every hundredth repeats the answer before it, every 101st was cut off."""
    from train.finetuning.pairs import Answered

    random, answer = Random(0), ""
    for place in range(number):
        answer = answer if place % 100 == 99 else f"{place} {' '.join(random.choices(WORDS, k=20))}."
        instruction = f"Write about {' '.join(random.choices(WORDS, k=8))} {place}."
        yield Answered(f"{place:x}", instruction, answer, "cut_off" if place % 101 == 100 else "")


def _prepare(folder: Path) -> Iterator[str]:
    from cluster import runtime
    from cluster.config import RayConfig
    from cluster.model_specs import VllmSpec
    from tests.train.tiny import tiny_model
    from train.finetuning.prepare import Plan, prepare

    plan = Plan(VllmSpec(source=tiny_model(folder / "base")), "inverse", True, 0.005, cutoff=512)
    runtime.start(RayConfig(num_cpus=os.cpu_count()))
    yield ""
    counts = prepare(_answered(PREPARED_ROWS), PREPARED_ROWS, plan, folder / "prepared", what="bench")
    yield f"{counts['num_train']} pairs of {PREPARED_ROWS} rows"


def _write(folder: Path) -> Iterator[str]:
    import numpy as np
    import pyarrow as pa

    from train.finetuning.prepare import ABOUT, BLOCK_ROWS, SCHEMA, write_part

    place, random = folder / "pairs", np.random.default_rng(0)
    place.mkdir()
    yield ""
    for number, start in enumerate(range(0, PAIRS, BLOCK_ROWS)):
        lengths = random.integers(60, 340, min(BLOCK_ROWS, PAIRS - start))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        ids = pa.ListArray.from_arrays(offsets, random.integers(0, 150_000, offsets[-1]).astype(np.int32))
        keys = random.integers(0, 2**63, len(lengths)).astype(np.uint64)
        columns = [ids, (lengths * 0.8).astype(np.int32), keys, random.random(len(lengths)) < 0.005]
        about = {ABOUT: json.dumps({"num_rows": len(lengths), "left_out": {}})}
        write_part(place / f"part-{number:05}.arrow", pa.table(columns, SCHEMA).replace_schema_metadata(about))
    yield f"{sum(file.stat().st_size for file in place.iterdir()) / 1e6:.0f} MB on disk"


def _split(folder: Path) -> Iterator[str]:
    from train.finetuning.prepare import _select

    yield ""
    counts = _select(folder / "pairs", is_inverse=True)
    yield f"{counts['num_train']} and {counts['num_dev']} pairs"


def _read(folder: Path) -> Iterator[str]:
    from train.finetuning.rows import LengthGrouped, Rows, padded

    yield ""
    rows = Rows(str(folder / "pairs"), "train")
    order = list(LengthGrouped(rows.lengths, BATCH, seed=0))
    num_padded = 0
    for start in range(0, READ_PAIRS, BATCH):
        num_padded += padded([rows[place] for place in order[start : start + BATCH]])["input_ids"].numel()
    tokens = int(rows.lengths[order[:READ_PAIRS]].sum())
    yield f"{rows.num_tokens} tokens; {READ_PAIRS} pairs read, {1 - tokens / num_padded:.1%} padding"


def _memory() -> dict[str, int]:
    """Bytes of this process, by the names of /proc."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0].startswith(("Rss", "VmHWM"))}


def _child(name: str, folder: Path) -> dict[str, Any]:
    steps = {"prepare": _prepare, "write": _write, "split": _split, "read": _read}[name](folder)
    next(steps)
    before, start = _memory()["RssAnon"], time.perf_counter()
    said = next(steps)
    seconds, now = time.perf_counter() - start, _memory()
    return {"before": before, "after": now["RssAnon"], "peak": now["VmHWM"], "seconds": seconds, "said": said}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_child(sys.argv[2], Path(sys.argv[3]))))
    else:
        sys.exit(main(sys.argv[1:]))
