"""Pairs against single scores on rated data: `python -m tests.bench.pairs DATA OUT [GROUPS [MODEL [ASPECT]]]`.

DATA: a JSONL file of rated texts with systems, such as a copy of Topical-Chat; OUT: a folder for the run, in
which an interrupted one resumes. Judges GROUPS groups (40, by hash) alone and in pairs, both orders, with the embedded
MODEL (Qwen2.5 Coder 1.5B). Prints Markdown: what the order changes, the systems' win rates and strengths beside the
means of people's scores, and the accuracy of the pairs and of the single scores' differences on the same pairs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from cluster.__main__ import main as inverdict
from evaluation.measure.formatting import shown, with_interval
from judging.records import content_id

NUM_GROUPS, MODEL, ASPECT = 40, "embedded:qwen2.5-coder-1.5b-instruct", "overall"
JUDGE = "judge"


def main(arguments: Sequence[str]) -> int:
    data, out, *more = arguments
    number, model, aspect = (*more, *(str(NUM_GROUPS), MODEL, ASPECT)[len(more) :])
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _chosen(Path(data), int(number))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = _configuration(folder, model, aspect)
    for job in ("evaluate", "report"):
        if code := inverdict([job, config]):
            return code
    for part in json.loads((folder / "run" / "report" / "metrics.json").read_text(encoding="utf-8"))["pairs"]:
        of_part = [row for row in rows if row.get("dataset") in (None, part["dataset"])]
        print("\n".join(_tables(part, _people(of_part, aspect))))
    return 0


def _chosen(file: Path, number: int) -> list[dict[str, Any]]:
    """The rows of so many groups, chosen by the hash of their names."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    groups = sorted({row["group"] for row in rows}, key=lambda group: content_id("pairs", group))[:number]
    return [row for row in rows if row["group"] in groups]


def _configuration(folder: Path, model: str, aspect: str) -> str:
    config = {
        "run": str(folder / "run"),
        "data": {"records": [str(folder / "in.jsonl")]},
        "models": {"m": {"source": model, "max_model_len": 2048, "kv_cache_gib": 1}},
        "evaluate": {
            "aspects": [aspect],
            "judges": {JUDGE: {"model": "m"}},
            "pairs": {"against": "all"},
            "max_unscored_share": 1,
        },
        "report": {"num_worst": 0},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def _people(rows: Sequence[Mapping[str, Any]], aspect: str) -> dict[str, float]:
    """People's mean score of each system."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if aspect in (row.get("scores") or {}):
            scores[row["system"]].append(row["scores"][aspect])
    return {system: fmean(values) for system, values in scores.items()}


def _tables(part: Mapping[str, Any], people: Mapping[str, float]) -> list[str]:
    found = part["judges"][JUDGE]
    name = " / ".join(part[key] for key in ("task", "dataset", "aspect"))
    lines = [
        f"\n{name}: {part['num_pairs']} pairs, {part['num_groups']} groups\n",
        "| | value |",
        "|---|---|",
        f"| coverage | {found['coverage']:.3f} |",
        f"| ties | {'–' if found['tie_share'] is None else shown(found['tie_share'])} |",
    ]
    named = {"order changed": "order_changed", "first position": "first_position", "length effect": "length_effect"}
    lines += [f"| {words} | {with_interval(found[key])} |" for words, key in named.items()]
    accuracy = {
        "pairs": "accuracy of the pairs",
        "points": "accuracy of single scores, same pairs",
        "pairs_minus_points": "paired difference",
    }
    lines += [
        f"| {words} (n {found['accuracy'][key]['n']}) | {with_interval(found['accuracy'][key])} |"
        for key, words in accuracy.items()
        if key in found["accuracy"]
    ]
    lines += ["\n| system | people | win rate | Bradley-Terry | length-controlled |", "|---|---|---|---|---|"]
    columns = ("win_rates", "strengths", "length_controlled_win_rates")
    for system in sorted(part["systems"], key=lambda name: -people.get(name, 0.0)):
        cells = [with_interval(found[column].get(system)) for column in columns]
        lines.append(f"| {system} | {shown(people.get(system, float('nan')))} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
