"""Pairwise comparisons of a run: the tables of the terminal and the section of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.tables import aligned
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import shown, with_interval
from evaluation.measure.pair_comparison import Judged, PairSlice
from evaluation.reporting.pages import rendered
from judging.records import UNSCORED_REASONS

SYSTEM_HEAD = ("win rate", "Bradley-Terry", "length-controlled")
JUDGE_HEAD = ("order changed", "first position", "ties", "length effect", "coverage")
ACCURACY_HEAD = ("untied pairs", "compared", "single scores", "difference")
ACCURACIES = ("pairs", "points", "pairs_minus_points")


def system_rows(part: PairSlice, name: str = PANEL) -> list[list[str]]:
    """The systems by win rate: a head, then one row per system.

    Args:
        part: the comparisons.
        name: of a judge, or the panel.
    """
    found = part.judges[name]
    known = (found.wins.of, found.strengths.strengths, found.strengths.controlled)
    rows = [[system, *(with_interval(one.get(system)) for one in known)] for system in part.ranking()]
    return [[name, *SYSTEM_HEAD], *rows]


def judge_rows(part: PairSlice) -> list[list[str]]:
    """What order and length do to the judges: a head, then one row per judge."""
    return [["pairs", *JUDGE_HEAD], *([name, *_cells(found)] for name, found in part.judges.items())]


def accuracy_rows(part: PairSlice, label: str) -> list[list[str]]:
    """The judges' accuracy: a head, then one row per judge; empty where no two texts of a pair have different labels.

    Args:
        part: the comparisons.
        label: what the labels are called.
    """
    rows = [
        [name, str(found.accuracy["pairs"].n), *(with_interval(found.accuracy[one]) for one in ACCURACIES)]
        for name, found in part.judges.items()
        if found.accuracy
    ]
    return [[f"accuracy ({label})", *ACCURACY_HEAD], *rows] if rows else []


def notes(part: PairSlice) -> list[str]:
    """What the tables cannot show, one sentence each: systems that no comparison connects."""
    found = []
    for name, judged in part.judges.items():
        if len(apart := judged.strengths.apart) > 1:
            sets = "; ".join(", ".join(one) for one in apart)
            found.append(f"{name}: no Bradley-Terry strengths, since no scored pair connects these systems: {sets}.")
    return found


def tables(slices: Sequence[PairSlice], label: str) -> list[str]:
    """The blocks for the terminal.

    Args:
        slices: all of the run.
        label: what the labels are called.
    """
    blocks: list[str] = []
    for part in slices:
        title = f"{part.title}: candidates compared in both orders, {part.shape}"
        blocks += [f"{title}\n{aligned(system_rows(part))}", aligned(judge_rows(part))]
        blocks += [*([aligned(rows)] if (rows := accuracy_rows(part, label)) else []), *notes(part)]
    return blocks


def pairs_section(slices: Sequence[PairSlice], label: str) -> str:
    """The report's section; empty where the run compares no pairs.

    Args:
        slices: all of the run.
        label: what the labels are called.
    """
    if not slices:
        return ""
    parts = [
        {
            "title": part.title,
            "shape": part.shape,
            "notes": notes(part),
            "panel": system_rows(part),
            "judges": judge_rows(part),
            "accuracy": accuracy_rows(part, label),
            "unscored": {name: found.unscored for name, found in part.judges.items() if found.unscored},
            "against": _against(part),
            "by_judge": [system_rows(part, name) for name in part.judges if name != PANEL],
        }
        for part in slices
    ]
    return rendered("pairs.html", slices=parts, label=label, words=UNSCORED_REASONS)


def _cells(found: Judged) -> list[str]:
    cells = [with_interval(found.order_changed), with_interval(found.first_position), shown(found.tie_share)]
    return [*cells, with_interval(found.strengths.length_effect), f"{found.coverage:.3f}"]


def _against(part: PairSlice) -> list[list[str]]:
    """The panel's win rate of each system (row) against each other one (column)."""
    rates, systems = dict(part.judges[PANEL].wins.against), part.ranking()
    rates |= {
        (other, one): replace(rate, value=1 - rate.value, low=1 - rate.high, high=1 - rate.low)
        for (one, other), rate in rates.items()
    }
    return [["", *systems], *([one, *(with_interval(rates.get((one, other))) for other in systems)] for one in systems)]
