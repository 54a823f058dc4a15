"""Seconds and peak memory of calibration and learned weights: 10 judges x 100,000 rows in 10,000 groups, 5 folds.

Run with `python -m tests.bench.votes`. Each case runs in a fresh process; seconds are those of the call, without start
and simulation. On a busy machine CPU seconds say more.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.measure import in_child

NUM_JUDGES, NUM_ROWS, GROUP_SIZE = 10, 100_000, 10
CASES = ("calibrate 10 judges", "learn weights (nnls)", "learn weights (ridge)", "score all rows with the learned vote")


def main() -> dict[str, dict[str, float]]:
    """Prints one line a case; returns case -> {"seconds", "cpu_seconds", "peak_mb"}."""
    found = {}
    for name in CASES:
        one = found[name] = in_child("tests.bench.votes", name)
        print(f"{name}: {one['seconds']:.2f} s ({one['cpu_seconds']:.2f} s CPU), {one['peak_mb']:.0f} MB peak RSS")
    return found


def measure(name: str) -> dict[str, float]:
    """One case in this process."""
    work = _case(name)
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    # Linux counts ru_maxrss in KiB.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb}


def _case(name: str) -> Callable[[], Any]:
    import numpy as np

    from judging.records import Scale
    from judging.voting.calibration import calibrate
    from judging.voting.stacking import stack

    scale = Scale(1, 5)
    draws = np.random.default_rng(0)
    label_R = np.clip(np.round(3 + draws.normal(size=NUM_ROWS)), 1, 5)
    noise_RJ = draws.normal(size=(NUM_ROWS, NUM_JUDGES)) * np.linspace(0.5, 3, NUM_JUDGES)
    score_RJ = np.clip(label_R[:, None] + noise_RJ, 1, 5)
    score_RJ[draws.random(score_RJ.shape) < 0.02] = np.nan  # abstentions
    groups = [f"source {row // GROUP_SIZE}" for row in range(NUM_ROWS)]
    judges = [f"judge {place}" for place in range(NUM_JUDGES)]
    if name == CASES[0]:
        return lambda: [calibrate(score_R, label_R, scale) for score_R in score_RJ.T]
    if name == CASES[2]:
        return lambda: stack(score_RJ, label_R, groups, judges, scale=scale, method="ridge")
    if name == CASES[1]:
        return lambda: stack(score_RJ, label_R, groups, judges, scale=scale)
    vote = stack(score_RJ, label_R, groups, judges, scale=scale).vote
    return lambda: vote.scores(score_RJ, judges)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[-1])))
    else:
        main()
