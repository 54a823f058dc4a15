"""The cells of the study: `python -m tests.bench.study RUN [JUDGE:OTHER ...]`, after its `evaluate`.

Prints Markdown, for each data set, and for all of a task together where it has several: group.spearman with people of
every judge of the run and of the text's length, with coverage; then of each pair that is named the difference, paired
over groups. Intervals are 95 %; n is the number of groups in which the statistic is defined.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.measure.slices import labelled_slices
from judging.stats.agreement import agreement, compare
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns

STATISTIC, LENGTH = "group.spearman", "length"


def main(arguments: Sequence[str]) -> int:
    file = Path(*arguments[:1]) / "evaluate" / "scores.parquet"
    pairs = [pair.split(":") for pair in arguments[1:]]
    if not file.exists():
        print(f"usage: python -m tests.bench.study RUN [JUDGE:OTHER ...]; there is no {file}")
        return 2
    found_parts = parts(file)
    known = {name for rows in found_parts.values() for name in scores_of(rows)}
    if not found_parts or any(len(pair) != 2 or not known.issuperset(pair) for pair in pairs):
        print(f"{file} has no human scores" if not found_parts else f"The judges are: {', '.join(sorted(known))}")
        return 2
    for title, rows in found_parts.items():
        scores = scores_of(rows)
        print(f"\n{title}: {len(rows)} rows, {len({row['group'] for row in rows})} groups\n")
        print(f"| | {STATISTIC} | coverage |\n|---|---|---|")
        for name, column in scores.items():
            found = agreement(columns(rows, column), levels=("group",), shuffles=0)[STATISTIC]
            print(f"| {name} | {words(found)} | {found.coverage:.3f} |")
        if pairs:
            print("\n| difference | |\n|---|---|")
        for first, second in pairs:
            difference = compare(columns(rows, scores[first]), scores[second], levels=("group",))[STATISTIC]
            print(f"| {first} minus {second} | {words(difference)} |", flush=True)
    return 0


def parts(scores: Path) -> dict[str, list[dict[str, Any]]]:
    """By title the labelled rows of each data set, and those of a task's data sets with one scale together."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (task, dataset, aspect, low, high), rows in labelled_slices(scores).items():
        scale = f"{aspect} ({low:g} to {high:g})"
        found[f"{task} {dataset} {scale}"] = rows
        named = [{**row, "group": f"{dataset}/{row['group']}"} for row in rows]
        found.setdefault(f"{task} {scale}, all data sets", []).extend(named)
    return found if len(found) > 2 else dict(list(found.items())[:1])


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """By judge the scores of these rows; `length` is the number of the text's characters."""
    judges = [name.removesuffix(".score") for name in rows[0] if name.endswith(".score")]
    found: dict[str, list[float | None]] = {name: [row[f"{name}.score"] for row in rows] for name in judges}
    return {**found, LENGTH: [row["candidate_chars"] for row in rows]}


def columns(rows: Sequence[Mapping[str, Any]], scores: Sequence[float | None]) -> Columns:
    return Columns([row["group"] for row in rows], [row["label"] for row in rows], scores)


def words(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] (n {found.n})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
