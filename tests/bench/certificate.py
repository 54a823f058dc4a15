"""Seconds and peak memory of one certificate's statistics: 100,000 rows, 2,000 resamples.

Run with `python -m tests.bench.certificate`. Agreement at all levels with its chance floor, the length of the text as a
baseline with the paired difference, the human ceiling of three raters, and two probes over 10,000 texts. Each case runs
in a fresh process; on a busy machine CPU seconds say more.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

CASES = {"10,000 groups of 10": (10_000, 10), "2,000 groups of 50": (2_000, 50)}
BOUND_S = 20.0


def main() -> dict[str, dict[str, float]]:
    """Prints one line a case; returns case -> {"seconds", "cpu_seconds", "peak_mb"}."""
    found = {}
    for name in CASES:
        command = [sys.executable, "-m", "tests.bench.certificate", name]
        found[name] = one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{name}: {one['seconds']:.1f} s ({one['cpu_seconds']:.1f} s CPU), {one['peak_mb']:.0f} MB peak RSS; "
            f"the bound is {BOUND_S:g} s"
        )
    return found


def measure(name: str) -> dict[str, float]:
    """One case in this process."""
    import dataclasses

    import numpy as np

    from evaluation.certification.issue import baselines, statistics
    from judging.stats.bias import flip_share, shift
    from tests.bench.agreement import simulate

    columns = simulate(*CASES[name], 5)
    draws = np.random.default_rng(1)
    human = np.array(columns.human)
    ratings = np.clip(np.round(human[:, None] + draws.normal(size=(len(human), 3))), 1, 5).tolist()
    columns = dataclasses.replace(columns, ratings=ratings)
    length = draws.integers(50, 2000, size=len(human)).astype(float)
    begin, cpu_begin = time.perf_counter(), time.process_time()
    baselines(columns, length, resamples=2000, seed=0)
    statistics(columns, length, resamples=2000, seed=0)
    before, group = np.array(columns.score)[:10_000], list(columns.group)[:10_000]
    shift(before, before + draws.normal(size=10_000), group, width=4)
    flip_share(before, before + draws.normal(size=10_000), group)
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu_begin,
        # Linux counts ru_maxrss in KiB.
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
