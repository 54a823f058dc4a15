"""Seconds and peak memory of the full agreement: 100,000 rows, 10,000 resamples, all levels, floor of 200 shuffles.

Run with `python -m tests.bench.agreement`. Each case runs in a fresh process, so that its peak memory is its own;
seconds are those of the call, without start and simulation. On a busy machine CPU seconds say more.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

CASES = {
    "10,000 groups of 10, 15 human values": (10_000, 10, 15),
    "10,000 groups of 10, continuous human": (10_000, 10, None),
    "2,000 groups of 50, 15 human values": (2_000, 50, 15),
    "2,000 groups of 50, continuous human": (2_000, 50, None),
}


def main() -> dict[str, dict[str, float]]:
    """Prints one line a case; returns case -> {"seconds", "cpu_seconds", "peak_mb"}."""
    found = {}
    for name in CASES:
        command = [sys.executable, "-m", "tests.bench.agreement", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = json.loads(output)
        one = found[name]
        print(f"{name}: {one['seconds']:.2f} s ({one['cpu_seconds']:.2f} s CPU), {one['peak_mb']:.0f} MB peak RSS")
    return found


def measure(name: str) -> dict[str, float]:
    """One case in this process."""
    columns = simulate(*CASES[name])
    from judging.stats.agreement import agreement

    start, cpu_start = time.perf_counter(), time.process_time()
    agreement(columns, resamples=10_000)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    # Linux counts ru_maxrss in KiB.
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def simulate(num_groups: int, size: int, num_values: int | None) -> Any:
    """Columns of simulated scores: human is a system effect plus noise, score is human plus noise."""
    import numpy as np

    from judging.stats.rows import Columns

    draws = np.random.default_rng(0)
    systems = np.tile(np.arange(size), num_groups)
    human = draws.normal(size=num_groups * size) + systems / size
    if num_values is not None:
        human = np.clip(np.round(human * 3 + num_values / 2), 1, num_values)
    score = human + draws.normal(size=len(human))
    return Columns(
        group=[f"question {group}" for group in np.repeat(np.arange(num_groups), size)],
        human=human.tolist(),
        score=score.tolist(),
        system=[f"system {system}" for system in systems],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
