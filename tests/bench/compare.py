"""Time and memory of comparing systems: `python -m tests.bench.compare [ROWS]`, 20 systems, one judge, 2,000 resamples.

A tenth of the groups has labels, so that the ranking by judge, panel and people and the three estimates of every mean
and difference are computed. Prints seconds and the peak memory of the process in MiB.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.measure.system_comparison import compare_systems
from tests.bench.measure import in_child

SYSTEMS, RESAMPLES = 20, 2000


def main(arguments: list[str]) -> int:
    print(json.dumps(in_child("tests.bench.compare", *(arguments or ["100000"]))))
    return 0


def _child(num_rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "scores.parquet"
        _write(file, num_rows)
        start = time.perf_counter()
        (part,) = compare_systems(file, resamples=RESAMPLES, seed=0)
        seconds = time.perf_counter() - start
    assert set(part.rankings) == {"panel", "j", "people"} and len(part.powered["panel"].differences) == 190
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": num_rows, "seconds": seconds, "peak_mib": peak}


def _write(file: Path, num_rows: int) -> None:
    random = np.random.default_rng(0)
    group_N, system_N = np.arange(num_rows) // SYSTEMS, np.arange(num_rows) % SYSTEMS
    truth_N = system_N / 20 + random.normal(size=num_rows)
    is_labelled_N = group_N % 10 == 0
    table = {
        "task": pa.array(["qa"] * num_rows),
        "dataset": pa.array(["d"] * num_rows),
        "aspect": pa.array(["overall"] * num_rows),
        "scale_low": pa.array(np.ones(num_rows)),
        "scale_high": pa.array(np.full(num_rows, 5.0)),
        "group": pa.array([f"g{group}" for group in group_N]),
        "system": pa.array([f"s{system}" for system in system_N]),
        "label": pa.array(np.where(is_labelled_N, truth_N, np.nan), from_pandas=True),
        "candidate_chars": pa.array(random.integers(50, 900, num_rows)),
        "j.score": pa.array(truth_N + random.normal(size=num_rows)),
        "panel.score": pa.array(truth_N + random.normal(size=num_rows)),
    }
    pq.write_table(pa.table(table), file)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_child(int(sys.argv[2]))))
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
