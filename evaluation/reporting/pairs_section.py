"""Pairwise comparisons of a run: the tables of the terminal and the section of the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.tables import aligned
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import one_line, shown, with_interval
from evaluation.measure.pair_comparison import Judged, PairSlice
from evaluation.measure.system_comparison import MOST_SYSTEMS
from evaluation.reporting.pages import rendered
from judging.records import UNSCORED_REASONS
from judging.stats.bradley_terry import Strengths
from judging.stats.estimate import Estimate

SYSTEM_HEAD = ("groups", "coverage", "win rate", "Bradley-Terry", "length-controlled")
JUDGE_HEAD = ("order changed", "first position", "ties", "length effect", "coverage")
ACCURACY_HEAD = ("untied pairs scored", "compared", "scored both ways", "single scores", "difference")


def system_rows(part: PairSlice, name: str = PANEL) -> list[list[str]]:
    """The systems in the order of the panel's ranking: a head, then one row per system.

    Args:
        part: the comparisons.
        name: of a judge, or the panel.
    """
    wins, strengths = part.judges[name].wins.of, part.judges[name].strengths
    rows = [
        [
            one_line(system),
            str(wins[system].n if system in wins else 0),
            shown(wins[system].coverage if system in wins else 0.0, 3),
            *(_cell(known.get(system)) for known in (wins, strengths.strengths, strengths.controlled)),
        ]
        for system in part.ranking()
    ]
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
        [
            name,
            str(found.accuracy["pairs"].n),
            _cell(found.accuracy["pairs"]),
            str(found.accuracy["points"].n),
            _cell(found.accuracy["points"]),
            _cell(found.accuracy["pairs_minus_points"]),
        ]
        for name, found in part.judges.items()
        if found.accuracy
    ]
    return [[f"accuracy ({label})", *ACCURACY_HEAD], *rows] if rows else []


def notes(part: PairSlice) -> list[str]:
    """What the tables cannot show, in sentences."""
    found = list(_notes_of_part(part))
    by_note: dict[str, list[str]] = {}
    if len(part.systems) <= MOST_SYSTEMS:
        for name, judged in part.judges.items():
            for note in _notes_of_strengths(judged.strengths):
                by_note.setdefault(note, []).append(name)
    return [*found, *(f"{', '.join(names)}: {note}" for note, names in by_note.items())]


def _notes_of_part(part: PairSlice) -> Iterator[str]:
    if len(part.systems) > MOST_SYSTEMS:
        yield (
            f"{len(part.systems)} systems are more than the {MOST_SYSTEMS} whose strengths are estimated. Check that "
            "`system` names who wrote a text, not the text."
        )
    elif not part.is_balanced:
        order = ", so the systems are in the order of strengths" if part.judges[PANEL].strengths.strengths else ""
        yield (
            "Not every two systems were compared in every group. A win rate depends on the opponents and groups"
            f"{order}."
        )


def _notes_of_strengths(strengths: Strengths) -> Iterator[str]:
    if len(strengths.apart) > 1:
        sets = "; ".join(_listed(one) for one in strengths.apart)
        yield f"no Bradley-Terry strengths, since no scored pair connects these systems: {sets}."
    unknown = [name for name in strengths.no_upper_end if name in strengths.no_lower_end]
    if strongest := [name for name in strengths.no_upper_end if name not in unknown]:
        yield f"{_listed(strongest)} won every pair with weaker systems: the strength has no upper end."
    if weakest := [name for name in strengths.no_lower_end if name not in unknown]:
        yield f"{_listed(weakest)} lost every pair with stronger systems: the strength has no lower end."
    if unknown:
        yield f"{_listed(unknown)}: no pair tells whether it is stronger or weaker than some others (no ends)."
    if strengths.strengths and strengths.length_effect is None:
        yield (
            "no length effect and no length-controlled win rates, since lengths differ only with the systems, or not "
            "at all, or each system always wins or always loses."
        )
    elif strengths.strengths and not strengths.controlled:
        yield "no length-controlled win rates, since lengths and systems together tell every winner."


def _listed(systems: Sequence[str]) -> str:
    return ", ".join(map(one_line, systems))


def tables(slices: Sequence[PairSlice], label: str, *, rest: bool = False) -> list[str]:
    """The blocks for the terminal: the systems by the panel, and its notes.

    Args:
        slices: all of the run.
        label: what the labels are called.
        rest: the tables of judges and of their accuracy instead.
    """
    blocks: list[str] = []
    for part in slices:
        title = one_line(part.title)
        if rest:
            blocks.append(f"{title}: pairs, by judge\n{aligned(judge_rows(part))}")
            blocks += [aligned(rows)] if (rows := accuracy_rows(part, label)) else []
        else:
            blocks.append(f"{title}: candidates compared in both orders, {part.shape}\n{aligned(system_rows(part))}")
            blocks += notes(part)
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
            "title": one_line(part.title),
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
    cells = [_cell(found.order_changed), _cell(found.first_position), shown(found.tie_share)]
    return [*cells, _cell(found.strengths.length_effect), shown(found.coverage, 3)]


def _cell(one: Estimate | None) -> str:
    return "–" if one is None or math.isnan(one.value) else with_interval(one)


def _against(part: PairSlice) -> list[list[str]]:
    """The panel's win rate of each system (row) against each other one (column), with the number of groups."""
    rates, systems = dict(part.judges[PANEL].wins.against), part.ranking()
    if len(systems) > MOST_SYSTEMS:
        return []
    rates |= {
        (other, one): replace(rate, value=1 - rate.value, low=1 - rate.high, high=1 - rate.low)
        for (one, other), rate in rates.items()
    }
    cells = {both: f"{_cell(rate)} ({rate.n})" for both, rate in rates.items()}
    rows = [[one_line(one), *(cells.get((one, other), "–") for other in systems)] for one in systems]
    return [["", *map(one_line, systems)], *rows]
