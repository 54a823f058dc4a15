"""`inverdict plan-labels`: power analysis (how many groups to label) and active learning (which texts to label next).

Reads `{run}/evaluate` of a finished evaluation: `scores.parquet`, and the label probabilities in `verdicts/`. Writes
only the file of `--out`: one text per line, in whole groups and in order. Statistics: `judging.stats.power`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.artifacts import Outcome, write_text
from cluster.config import RunConfig
from cluster.parts import parts_of
from cluster.tables import aligned
from evaluation.batch.config import earlier_evaluation
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import shown
from evaluation.measure.slices import LENGTH, score_columns
from judging.errors import InputError
from judging.records import Scale
from judging.stats.power import DIFFERENCES, LEVEL, POWER, STATISTICS, Next, Power, Unlabelled, label_next, power_of

SHOWN_GROUPS = 10  # groups to label next that the terminal shows
SLICE = ("task", "dataset", "aspect", "scale_low", "scale_high")
Rows = list[dict[str, Any]]


def main(run: RunConfig, *, out: Path | None = None) -> Outcome:
    """Compute the plan; `out`: the file for the texts to label.

    Raises InputError where `evaluate` has not finished, and where the data allow no plan.
    """
    folder = earlier_evaluation(run)[0].path
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        what = f"{out} is a folder" if out.is_dir() else f"folder not found: {out.parent}"
        raise InputError(f"--out: {what}. Choose a file in an existing folder.", code="invalid_value")
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    names = [name for name in score_columns(rows[0]) if name != PANEL]
    slices = list(_slices([row for row in rows if row["label"] is not None], names))
    open_rows = [row for row in rows if row["label"] is None]
    groups = list(_to_label(folder, open_rows, names))
    _check_useful(folder, names, slices, groups)
    systems = {row["id"]: row["system"] for row in open_rows}
    texts = [text for part in groups for text in _texts(part, systems)]
    summary = {
        "power": POWER,
        "level": LEVEL,
        "judges": names,
        "slices": slices,
        "next": [{**part, "texts": {id: list(aspects) for id, aspects in part["texts"].items()}} for part in groups],
        "num_texts": len(texts),
        "file": None,
    }
    if out is not None:
        write_text(out, "".join(f"{json.dumps(text, ensure_ascii=False)}\n" for text in texts))
        summary["file"] = str(out.resolve())
    return Outcome(0, summary)


def _check_useful(folder: Path, names: Sequence[str], slices: Sequence[Any], groups: Sequence[Any]) -> None:
    """Raises InputError where neither the labels nor the unlabelled texts allow a plan."""
    if any(part["note"] is None for part in slices):
        return
    why = f"{slices[0]['note']}" if slices else "no text has a label"
    if not groups:
        raise InputError(
            f"{folder}: {why}, and there is no text without a label. Evaluate more texts (data.records).",
            code="no_records",
            key="data.records",
        )
    if not any(part["disagreement"] is not None or part["entropy"] is not None for part in groups):
        raise InputError(
            f"{folder}: {why}, and the judge {names[0]} has neither another judge to disagree with nor label "
            "probabilities. Add a judge or set score_mode: expected.",
            code="not_enough_judges",
            key="evaluate.judges",
        )


def _slices(rows: Rows, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One entry per task, data set, aspect and scale: all pairs of columns, or in `note` why there are none."""
    slices: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        slices.setdefault(tuple(row[name] for name in SLICE), []).append(row)
    for key, members in slices.items():
        groups, labels = [row["group"] for row in members], [row["label"] for row in members]
        note = f"all labels are {labels[0]:g}" if len(set(labels)) == 1 else None
        pairs = [] if note else [_pair(members, groups, labels, *pair) for pair in _pairs(names)]
        if not note and not any(one["sd"] is not None for pair in pairs for one in pair["statistics"].values()):
            note = "fewer than 3 groups have texts with different labels and scores"
        yield {
            **dict(zip(SLICE[:3], key, strict=False)),
            "num_rows": len(members),
            "num_groups": len(set(groups)),
            "note": note,
            "pairs": [] if note else pairs,
        }


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The judges pairwise, then each judge and the panel with the length baseline."""
    panel = [PANEL] if len(names) > 1 else []
    return [*combinations(names, 2), *((name, LENGTH) for name in (*names, *panel))]


def _pair(rows: Rows, groups: list[str], labels: list[float], first: str, second: str) -> dict[str, Any]:
    columns = [
        [row["candidate_chars"] for row in rows] if name == LENGTH else [row[f"{name}.score"] for row in rows]
        for name in (first, second)
    ]
    found = power_of(groups, labels, *columns)
    return {"first": first, "second": second, "statistics": {name: _json(one) for name, one in found.items()}}


def _json(one: Power) -> dict[str, Any]:
    return {**one._asdict(), "needed": {f"{size:.2f}": number for size, number in one.needed.items()}}


def _to_label(folder: Path, rows: Rows, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The groups of each task and data set in the order in which to label them."""
    probabilities = {name: _probabilities(folder / "verdicts" / name, rows) for name in names} if rows else {}
    parts: dict[tuple[str, str], list[Unlabelled]] = {}
    for row in rows:
        key = (row["id"], row["aspect"])
        parts.setdefault((row["task"], row["dataset"]), []).append(
            Unlabelled(
                id=row["id"],
                aspect=row["aspect"],
                group=row["group"],
                scale=Scale(row["scale_low"], row["scale_high"]),
                scores={name: row[f"{name}.score"] for name in names},
                probabilities={name: known[key] for name, known in probabilities.items() if key in known},
            )
        )
    for (task, dataset), members in parts.items():
        for one in label_next(members):
            yield {"task": task, "dataset": dataset, **_asdict(one)}


def _asdict(one: Next) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("rank", "group", "priority", "disagreement", "entropy", "texts")}


def _probabilities(verdicts: Path, rows: Rows) -> dict[tuple[str, str], list[float]]:
    """Probabilities of the scale's labels by (record id, aspect), where the judge has them."""
    wanted = {(row["id"], row["aspect"]) for row in rows}
    found = {}
    for part in parts_of(verdicts):
        for row in pq.read_table(part, columns=["id", "aspect", "label_probabilities"]).to_pylist():
            key = (row["id"], row["aspect"])
            if key in wanted and row["label_probabilities"]:
                found[key] = row["label_probabilities"]
    return found


def _texts(part: Mapping[str, Any], systems: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of the file, one per text."""
    about = {name: part[name] for name in ("rank", "task", "dataset", "group")}
    for id, aspects in part["texts"].items():
        why = {name: part[name] for name in ("priority", "disagreement", "entropy")}
        yield {**about, "id": id, "system": systems[id], "aspects": list(aspects), **why}


def render(summary: Mapping[str, Any]) -> str:
    """The tables for the terminal."""
    blocks = [_power_table(part) for part in summary["slices"]]
    if not summary["slices"]:
        blocks.append("No text has a label yet, so the number of labels needed cannot be estimated.")
    elif len(summary["judges"]) == 1:
        blocks.append(f"{summary['judges'][0]} is the only judge, so it is compared with the length baseline only.")
    if any(part["pairs"] for part in summary["slices"]):
        blocks.append(
            "SD: of the paired difference over groups. Columns .05 to .20: groups to label to detect a true difference "
            f"of that size (power {summary['power']:.0%}, two-sided {summary['level']:.0%}, normal approximation)."
        )
    blocks.append(_next_table(summary["next"], summary["num_texts"]))
    return "\n\n".join([*blocks, *([summary["file"]] if summary["file"] else [])])


def _power_table(part: Mapping[str, Any]) -> str:
    title = f"{part['task']} / {part['dataset'] or 'records'} / {part['aspect']}: {part['num_rows']} labelled rows, "
    title += f"{part['num_groups']} groups"
    if part["note"]:
        return f"{title}\n  {part['note']}"
    lines = [["", "statistic", "difference", "SD", *(shown(size) for size in DIFFERENCES), "detectable now"]]
    for pair in part["pairs"]:
        for name in STATISTICS:
            one = pair["statistics"][name]
            lines.append(
                [
                    f"{pair['first']} minus {pair['second']}",
                    name,
                    *(_number(one[key]) for key in ("difference", "sd")),
                    *("–" if number is None else f"{number:,}" for number in one["needed"].values()),
                    _number(one["detectable"]),
                ]
            )
    return f"{title}\n{aligned(lines, num_left=2)}"


def _next_table(groups: Sequence[Mapping[str, Any]], num_texts: int) -> str:
    if not groups:
        return "Every text has a label."
    lines = [["label next", "group", "priority", "disagreement", "entropy", "texts"]]
    for one in groups[:SHOWN_GROUPS]:
        name = f"{one['task']} / {one['dataset'] or 'records'}"
        numbers = [_number(one[key]) for key in ("priority", "disagreement", "entropy")]
        lines.append([f"{one['rank']}. {name}", one["group"], *numbers, str(len(one["texts"]))])
    more = f"\n... of {len(groups)} groups" if len(groups) > SHOWN_GROUPS else ""
    return f"{num_texts} texts without a label\n{aligned(lines, num_left=2)}{more}"


def _number(value: float | None) -> str:
    return "–" if value is None else shown(value)
