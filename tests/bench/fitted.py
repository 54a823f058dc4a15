"""A fitted judge against the same model zero-shot: `make bench-fitted`, or with another model as argument.

Prints prompt tokens a second of both from the first saved verdicts to the last, their ratio, the peak memory of each,
and how many verdicts were saved at once.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from cluster.__main__ import main as inverdict
from tests.bench.measure import PeakMemory

ROOT = Path(__file__).parents[2]
MODEL = "embedded:qwen2.5-coder-0.5b-instruct"
COPIES = 3  # of the demo's 80 questions and answers
JUDGES = {"fitted": {"model": "m", "score_mode": "fitted"}, "zero_shot": {"model": "m"}}


def main(arguments: list[str]) -> int:
    print(json.dumps(measured(arguments[0] if arguments else MODEL), indent=1))
    return 0


def measured(model: str, copies: int = COPIES) -> dict[str, Any]:
    """The figures of both judges and their ratio."""
    found: dict[str, Any] = {"model": model}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = _configuration(folder, model, JUDGES, copies)
        assert inverdict(["fit-judge", config]) == 0
        for name, judge in JUDGES.items():
            config = _configuration(folder, model, {name: judge}, copies)
            with PeakMemory() as memory:
                assert inverdict(["evaluate", config]) == 0
            found[name] = {**_flow(folder / "run" / "evaluate" / "verdicts" / name), "peak_mib": memory.peak_mib}
            (folder / "run" / "evaluate").rename(folder / name)
    found["ratio"] = found["fitted"]["tokens_a_second"] / found["zero_shot"]["tokens_a_second"]
    return found


def _configuration(folder: Path, source: str, judges: dict[str, Any], num_copies: int) -> str:
    lines = (ROOT / "examples" / "constructed.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["task"] == "qa"]
    copies = [
        {**row, "id": f"{row['id']}-{copy}", "group": f"{row['group']}-{copy}", "source": f"({copy}) {row['source']}"}
        for copy in range(num_copies)
        for row in rows
    ]
    for name, some in (("pool", rows), ("in", copies)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    config = {
        "run": str(folder / "run"),
        "data": {"records": [str(folder / "in.jsonl")], "pool": [str(folder / "pool.jsonl")], "labels": "constructed"},
        "models": {"m": {"source": source, "max_model_len": 2048, "kv_cache_gib": 1}},
        "fit_judge": {"depths": [0.5], "max_novelty": None, "baseline_encoder": None},
        "evaluate": {"judges": judges},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def _flow(folder: Path) -> dict[str, float]:
    """Speed between the first and the last part on disk, without the rows of the first."""
    parts = sorted(folder.glob("part-*.parquet"), key=lambda part: part.stat().st_mtime_ns)
    times = [part.stat().st_mtime for part in parts]
    tokens = [sum(pq.read_table(part, columns=["num_prompt_tokens"]).column(0).to_pylist()) for part in parts]
    return {
        "tokens_a_second": sum(tokens[1:]) / (times[-1] - times[0]),
        "tokens": sum(tokens),
        "parts": len(parts),
        "largest_part": max(pq.read_metadata(part).num_rows for part in parts),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
