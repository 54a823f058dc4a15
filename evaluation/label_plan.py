"""`inverdict plan-labels`: how many groups to label to tell judges apart, and which texts to label next.

Reads `{run}/evaluate` of a finished evaluation: `scores.parquet`, and the label probabilities in `verdicts/`. Writes
nothing but the file of `--out`: one text a line, groups whole and in order. The statistics: `judging.stats.power`.
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

SHOWN_GROUPS = 10  # of those to label next, on the terminal
SLICE = ("task", "dataset", "aspect", "scale_low", "scale_high")
Rows = list[dict[str, Any]]


def main(run: RunConfig, *, out: Path | None = None) -> Outcome:
    """The plan; `out`: where the texts to label are written.

    Raises InputError where `evaluate` has not been done, and where there is nothing to plan by.
    """
    folder = earlier_evaluation(run)[0].path
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        what = f"{out} is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise InputError(f"--out: {what}: name another file")
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    names = [name for name in score_columns(rows[0]) if name != PANEL]
    slices = list(_slices([row for row in rows if row["label"] is not None], names))
    open_rows = [row for row in rows if row["label"] is None]
    found = list(_to_label(folder, open_rows, names))
    _check_useful(folder, names, slices, found)
    systems = {row["id"]: row["system"] for row in open_rows}
    texts = [text for part in found for text in _texts(part, systems)]
    summary = {
        "power": POWER,
        "level": LEVEL,
        "judges": names,
        "slices": slices,
        "next": [{**part, "texts": {id: list(aspects) for id, aspects in part["texts"].items()}} for part in found],
        "num_texts": len(texts),
        "file": None,
    }
    if out is not None:
        write_text(out, "".join(f"{json.dumps(text, ensure_ascii=False)}\n" for text in texts))
        summary["file"] = str(out.resolve())
    return Outcome(0, summary)


def _check_useful(folder: Path, names: Sequence[str], slices: Sequence[Any], found: Sequence[Any]) -> None:
    """InputError where neither labels nor unlabelled texts tell anything."""
    if any(part["note"] is None for part in slices):
        return
    why = f"{slices[0]['note']}" if slices else "no text has a label"
    if not found:
        raise InputError(f"{folder}: {why}, and no text is left to label: evaluate more texts (data.records)")
    if not any(part["disagreement"] is not None or part["entropy"] is not None for part in found):
        raise InputError(
            f"{folder}: {why}, and the judge {names[0]} alone gives no order to label in: add a judge, or let it judge "
            "with score_mode expected"
        )


def _slices(rows: Rows, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One entry a task, data set, aspect and scale: every pair of columns, or in `note` why there is none."""
    slices: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        slices.setdefault(tuple(row[name] for name in SLICE), []).append(row)
    for key, members in slices.items():
        groups, labels = [row["group"] for row in members], [row["label"] for row in members]
        note = f"people's labels are all {labels[0]:g}" if len(set(labels)) == 1 else None
        pairs = [] if note else [_pair(members, groups, labels, *pair) for pair in _pairs(names)]
        if not note and not any(one["sd"] is not None for pair in pairs for one in pair["statistics"].values()):
            note = "fewer than 3 groups hold texts with different labels and scores"
        yield {
            **dict(zip(SLICE[:3], key, strict=False)),
            "num_rows": len(members),
            "num_groups": len(set(groups)),
            "note": note,
            "pairs": [] if note else pairs,
        }


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Judges with each other, then each and the panel with the length of the text."""
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
    """(record id, aspect) -> probabilities of the scale's labels, where the judge has them."""
    wanted = {(row["id"], row["aspect"]) for row in rows}
    found = {}
    for part in parts_of(verdicts):
        for row in pq.read_table(part, columns=["id", "aspect", "label_probabilities"]).to_pylist():
            key = (row["id"], row["aspect"])
            if key in wanted and row["label_probabilities"]:
                found[key] = row["label_probabilities"]
    return found


def _texts(part: Mapping[str, Any], systems: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A line of the file a text."""
    about = {name: part[name] for name in ("rank", "task", "dataset", "group")}
    for id, aspects in part["texts"].items():
        why = {name: part[name] for name in ("priority", "disagreement", "entropy")}
        yield {**about, "id": id, "system": systems[id], "aspects": list(aspects), **why}


def render(summary: Mapping[str, Any]) -> str:
    """The tables for the terminal."""
    blocks = [_power_table(part) for part in summary["slices"]]
    if not summary["slices"]:
        blocks.append("No text has a label yet: how many are needed is told once some have one.")
    elif len(summary["judges"]) == 1:
        blocks.append(f"{summary['judges'][0]} is the only judge: it is compared with the length of the text alone.")
    if any(part["pairs"] for part in summary["slices"]):
        blocks.append(
            "SD: of the paired difference over groups. Groups to label for a true difference of .05 to .20: power "
            f"{summary['power']:.0%}, two-sided {summary['level']:.0%}, normal approximation."
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
        place = f"{one['task']} / {one['dataset'] or 'records'}"
        numbers = [_number(one[key]) for key in ("priority", "disagreement", "entropy")]
        lines.append([f"{one['rank']}. {place}", one["group"], *numbers, str(len(one["texts"]))])
    more = f"\n... of {len(groups)} groups" if len(groups) > SHOWN_GROUPS else ""
    return f"{num_texts} texts without a label\n{aligned(lines, num_left=2)}{more}"


def _number(value: float | None) -> str:
    return "–" if value is None else shown(value)
