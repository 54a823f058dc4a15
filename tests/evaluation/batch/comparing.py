"""Texts, scripted judges and runs for the tests of pairs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.__main__ import main
from evaluation.batch.verdicts import VERDICT_SCHEMA
from tests.evaluation.batch.running import configuration
from tests.evaluation.making import row

LABELS = {"good": 5, "mid": 3, "bad": 1}


def likes(place: int, chance: float, contains: str) -> dict[str, Any]:
    """A scripted rule: the text in that place by that chance. A single text gets 1 or 2 points by the same rule."""
    logprobs = {str(place): math.log(chance), str(3 - place): math.log(1 - chance)}
    return {"contains": contains, "label_logprobs": logprobs}


# Good beats mid and bad, mid beats bad, by .9 in both orders.
FAIR = [
    likes(place, 0.9, f"<{tag}>\n{word}") for word in ("good", "mid") for tag, place in (("candidate", 1), ("other", 2))
]
# In questions that hold this word always the first text, by .9.
BIASED = [likes(1, 0.9, "tricky"), *FAIR]
FIRST = [likes(1, 0.8, "Text 1"), likes(1, 0.9, "")]


def texts(num_groups: int = 6, num_tricky: int = 2, **more: Any) -> list[dict[str, Any]]:
    return [
        row(
            f"{word}{group}",
            f"g{group}",
            system=word,
            source=f"{'A tricky' if group < num_tricky else 'A plain'} question {group}?",
            candidate=f"{word} answer {group}.",
            scores={"overall": LABELS[word]},
            **more,
        )
        for group in range(num_groups)
        for word in LABELS
    ]


def scripted(rules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"backend": "scripted", "rules": list(rules)}


def compared(folder: Path, name: str = "pairs.parquet") -> dict[tuple[str, str], dict[str, Any]]:
    rows = pq.read_table(folder / "run" / "evaluate" / "pairs" / name).to_pylist()
    return {(one["first"], one["second"]): one for one in rows}


def asked(folder: Path, judge: str) -> list[dict[str, Any]]:
    parts = (folder / "run" / "evaluate" / "pairs" / "verdicts" / judge).glob("part-*.parquet")
    return [one for part in parts for one in pq.read_table(part, schema=VERDICT_SCHEMA).to_pylist()]


def run(folder: Path, rows: list[dict[str, Any]] | None = None, pairs: Any = None, **evaluate: Any) -> int:
    """`inverdict evaluate` with the judges `biased` and `first` unless `models` says otherwise."""
    models = evaluate.pop("models", {"biased": scripted(BIASED), "first": scripted(FIRST)})
    config = configuration(folder, texts() if rows is None else rows, models, pairs=pairs or {}, **evaluate)
    return main(["evaluate", config])
