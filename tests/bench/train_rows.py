"""Memory and time of many training pairs without a model: `python -m tests.bench.train_rows [ROWS]` (a million).

The driver prepares synthetic rows with Ray tasks; then one process reads a whole epoch of batches as a training worker
does. Each runs in a process of its own. Memory in MB: anonymous memory is a process's own, mapped pages are the files'.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil

from tests.bench.measure import in_child

NUM_ROWS, BATCH = 1_000_000, 8
WORDS = [start + end for start in "bcdfgklmnprst" for end in ("a", "e", "ol", "un", "ing")]


def main(num_rows: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, str(num_rows))
        prepared = in_child("tests.bench.train_rows", "prepare", *arguments)
        read = in_child("tests.bench.train_rows", "read", *arguments)
    print(f"{prepared['num_train']} pairs of {num_rows} rows, {prepared['bytes_on_disk'] / 1e6:.0f} MB on disk")
    print("| process | memory before | peak | of it mapped | seconds | rows a second |\n|---|---|---|---|---|---|")
    for name, found in (("driver", prepared), ("worker", read)):
        memory = " | ".join(f"{found[key] / 1e6:.0f} MB" for key in ("before", "peak", "mapped"))
        print(f"| {name} | {memory} | {found['seconds']:.0f} | {num_rows / found['seconds']:.0f} |")
    print(f"each task: {prepared['task_peak'] / 1e6:.0f} MB at most")
    return 0


def _rows(number: int) -> Iterator[Any]:
    """Rows of about 30 words; every hundredth repeats the answer before it, every 101st was cut off."""
    from train.finetuning.pairs import Answered

    random, answer = Random(0), ""
    for place in range(number):
        answer = answer if place % 100 == 99 else f"{place} {' '.join(random.choices(WORDS, k=20))}."
        instruction = f"Write about {' '.join(random.choices(WORDS, k=8))} {place}."
        yield Answered(f"{place:x}", instruction, answer, "cut_off" if place % 101 == 100 else "")


def _prepare(folder: Path, number: int) -> dict[str, Any]:
    from cluster import runtime
    from cluster.config import RayConfig
    from cluster.model_specs import VllmSpec
    from tests.train.tiny import tiny_model
    from train.finetuning.prepare import Plan, prepare

    plan = Plan(VllmSpec(source=tiny_model(folder / "base")), "inverse", True, 0.005, cutoff=512)
    runtime.start(RayConfig(num_cpus=os.cpu_count()))
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    with _TaskMemory() as peaks:
        counts = prepare(_rows(number), number, plan, folder / "pairs", what="bench")
    seconds = time.perf_counter() - start
    on_disk = sum(file.stat().st_size for file in (folder / "pairs").iterdir())
    return {**counts, **_memory(before, seconds), "bytes_on_disk": on_disk, "task_peak": max(peaks, default=0)}


class _TaskMemory:
    """The memory of each worker process of this driver's cluster, sampled twice a second."""

    def __enter__(self) -> list[int]:
        self._ended, self._found = threading.Event(), list[int]()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self._found

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.5):
            for child in psutil.Process().children(recursive=True):
                try:
                    if "ray::write_block" in " ".join(child.cmdline()):
                        self._found.append(child.memory_info().rss - child.memory_info().shared)
                except psutil.Error:
                    continue


def _read(folder: Path, number: int) -> dict[str, Any]:
    from train.finetuning.rows import LengthGrouped, Rows, collate

    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    rows = Rows(str(folder / "pairs"), "train")
    batch: list[int] = []
    padded = 0
    for place in LengthGrouped(rows.lengths, BATCH, seed=0):
        batch.append(place)
        if len(batch) == BATCH:
            padded += collate([rows[one] for one in batch], 0)["input_ids"].numel()
            batch = []
    assert padded >= 0.99 * rows.num_tokens
    return _memory(before, time.perf_counter() - start)


def _memory(before: int, seconds: float) -> dict[str, float]:
    mapped = psutil.Process().memory_info().shared
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"before": before, "peak": peak, "mapped": mapped, "seconds": seconds}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        step = {"prepare": _prepare, "read": _read}[sys.argv[2]]
        print(json.dumps(step(Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS))
