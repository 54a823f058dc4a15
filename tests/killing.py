"""A job in a process of its own that is killed without warning in the middle, with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


def killed_when(job: str, config: str, is_time: Callable[[], bool]) -> None:
    """Start `inverdict JOB CONFIG` on a small cluster of its own and kill -9 all of it once `is_time()`."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "cluster", job, config),
            *("--set", "ray.num_cpus=2", "--set", "ray.object_store_gib=0.1"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    left: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 240
        while not is_time():
            assert process.poll() is None, "the job ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        left = psutil.Process(process.pid).children(recursive=True)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
        for child in left:
            if child.is_running():
                child.kill()
        psutil.wait_procs(left, timeout=20)
