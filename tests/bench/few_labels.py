"""The demo's texts without labels, and with levels on ten groups: `python -m tests.bench.few_labels OUT`.

Runs `inverdict run` on examples/constructed.jsonl with the levels taken away, then with those of 10 groups of questions
(by hash), judged by Qwen2.5 Coder 1.5B and SmolLM2 zero-shot. Each run prints the ranking of the systems, the second
the three estimates too. OUT keeps the runs: a killed one resumes by the same command.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from cluster.__main__ import main as inverdict

TEXTS = Path(__file__).parents[2] / "examples" / "constructed.jsonl"
NUM_LABELLED = 10
SMALL = {"max_model_len": 1536, "kv_cache_gib": 0.5}


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    rows = [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    groups = {(row["task"], row["group"]) for row in rows if row["task"] == "qa"}
    drawn = sorted(groups, key=lambda group: hashlib.sha256(str(group).encode()).hexdigest())[:NUM_LABELLED]
    for name, labelled in (("none", []), ("ten", drawn)):
        kept = [row if (row["task"], row["group"]) in labelled else {**row, "scores": {}} for row in rows]
        file = folder / f"{name}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        config = {
            "run": str(folder / name),
            "data": {"records": [str(file)], "labels": "constructed"},
            "models": {
                "qwen": {"source": "embedded:qwen2.5-coder-1.5b-instruct", **SMALL},
                "smollm2": {"source": "embedded:smollm2-135m-instruct", **SMALL},
            },
            "evaluate": {
                "judges": {"qwen": {"model": "qwen"}, "smollm2": {"model": "smollm2"}},
                "aspects": ["overall"],
            },
            "report": {},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        if code := inverdict(["run", str(folder / f"{name}.yaml")]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
