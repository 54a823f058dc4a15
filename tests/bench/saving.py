"""Verdicts saved as they come, against batches of 64 as before: `python -m tests.bench.saving [MODEL]`.

Interleaved runs of `inverdict evaluate` over copies of the demo's questions, each in a process of its own. Prints for
both sides, by run, the seconds between the first line of progress and the last part on disk, how long after it and
with which share of all verdicts the first part was saved, the most verdicts in the engine (what a kill loses), and the
estimate of the time left after a tenth of the verdicts as a multiple of what was left.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import yaml

from tests.bench.measure import ROOT

MODEL = "embedded:smollm2-135m-instruct"
COPIES = 8  # of the demo's 80 questions and answers
ROUNDS = 3
BATCHES_IN_FLIGHT = 8  # Ray's
SIDES: dict[str, dict[str, Any]] = {"before": {"batch_size": 64}, "now": {}}
LINE = re.compile(r"(\d+) of (\d+), .* about (\d+) s left")


def main(arguments: list[str]) -> int:
    model = arguments[0] if arguments else MODEL
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for number in range(ROUNDS):
        for name in list(SIDES) if number % 2 == 0 else list(SIDES)[::-1]:
            found[name].append(_run({"source": model, "max_model_len": 1536, "kv_cache_gib": 0.5, **SIDES[name]}))
            print(number + 1, name, json.dumps(found[name][-1]), file=sys.stderr, flush=True)
    speeds = [before["seconds"] / now["seconds"] for before, now in zip(found["before"], found["now"], strict=True)]
    print(json.dumps({**found, "speed_of_now_by_pair": speeds, "median": median(speeds)}, indent=1))
    return 0


def _run(model: dict[str, Any]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = _configuration(folder, model)
        command = [sys.executable, "-m", "cluster", "evaluate", str(config)]
        estimates: list[tuple[float, float]] = []  # when a tenth or more was done, and what was said to be left
        begun = time.time()
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
            assert job.stderr is not None
            for line in job.stderr:
                if "starting the model" in line:
                    begun = time.time()
                if (match := LINE.search(line)) and int(match[1]) >= int(match[2]) / 10:
                    estimates.append((time.time(), float(match[3])))
        assert job.returncode == 0
        parts = list((folder / "run" / "evaluate" / "verdicts" / "m").glob("part-*.parquet"))
        saved = sorted((part.stat().st_mtime, pq.read_metadata(part).num_rows) for part in parts)
        total, end = sum(rows for _, rows in saved), saved[-1][0]
        largest = max(rows for _, rows in saved)
        estimate = estimates[0][1] / (end - estimates[0][0]) if estimates and end > estimates[0][0] else float("nan")
        return {
            "seconds": end - begun,
            "first_part_after": saved[0][0] - begun,
            "first_part_share": saved[0][1] / total,
            "share_of_time": (saved[0][0] - begun) / (end - begun),
            "lost_by_a_kill": min(total, largest * BATCHES_IN_FLIGHT),
            "estimate_of_left": estimate,
        }


def _configuration(folder: Path, model: dict[str, Any]) -> Path:
    lines = (ROOT / "examples" / "constructed.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [
        {**row, "id": f"{row['id']}-{copy}", "group": f"{row['group']}-{copy}", "source": f"({copy}) {row['source']}"}
        for copy in range(COPIES)
        for row in map(json.loads, lines)
        if row["task"] == "qa"
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "run": str(folder / "run"),
        "data": {"records": [str(folder / "in.jsonl")], "labels": "constructed"},
        "models": {"m": model},
        "evaluate": {"judges": {"m": {"model": "m"}}},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return folder / "c.yaml"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
