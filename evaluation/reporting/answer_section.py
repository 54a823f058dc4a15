"""The report's first part: which system is better, how sure that is, and whether the judges can be trusted.

For the page (`templates/answer.html`) and, shorter, for the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.tables import aligned
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import one_line, shown, with_interval
from evaluation.measure.headline import headline
from evaluation.measure.slices import Slice
from evaluation.measure.system_comparison import PEOPLE, Powered, SystemsPart
from evaluation.measure.trust import Trust, trust
from evaluation.reporting.pages import rendered
from judging.certificates.certificate import Certificate
from judging.stats.estimate import Estimate
from judging.stats.prediction_powered import ThreeWays
from judging.stats.systems import Ranking, SystemScore

SHOWN_SYSTEMS = 20  # in the terminal's table
MOST_PAIRS = 500  # on the page; metrics.json has all


@dataclass(frozen=True)
class Answer:
    """What is said first of one part of the data. `part`: its systems; `agreement`: None without labels."""

    part: SystemsPart
    agreement: Slice | None
    trust: Trust

    @property
    def sentence(self) -> str:
        """What the panel's scores say about the systems."""
        ranking = self.part.rankings.get(PANEL)
        if ranking is None:
            why = "no row names a system" if not self.part.systems else "the panel gave no score"
            return f"No systems are compared on {self.part.aspect}: {why}."
        return headline(ranking, self.part.aspect)

    def to_json(self) -> dict[str, Any]:
        return {**self.part.to_json(), "sentence": self.sentence, "trust": self.trust._asdict()}


def answers(
    parts: Iterable[SystemsPart], slices: Sequence[Slice], certificates: Iterable[Certificate], labels: str
) -> list[Answer]:
    """One answer for each part of the data.

    Args:
        parts: the systems of each.
        slices: the agreement of those with labels.
        certificates: of this evaluation.
        labels: `human` or `constructed`.
    """
    measured = {(one.task, one.dataset, one.aspect, one.scale): one for one in slices}
    certified = {(one.task, one.dataset, one.aspect, one.scale): one for one in certificates if one.subject == PANEL}
    found = []
    for part in parts:
        key = (part.task, part.dataset, part.aspect, part.scale)
        agreement = measured.get(key)
        found.append(Answer(part, agreement, trust(agreement, certified.get(key), labels)))
    return found


def answer_html(answer: Answer, label: str, slices: Sequence[Slice]) -> str:
    """The part of the page.

    Args:
        answer: what to show.
        label: what labels are, such as `human score`.
        slices: in the order of the page's sections on agreement, for the link.
    """
    from evaluation.reporting import plots

    part = answer.part
    panel = part.rankings.get(PANEL)
    return rendered(
        "answer.html",
        answer=answer,
        number=next((number for number, one in enumerate(slices) if one is answer.agreement), None),
        label=label,
        panel=panel,
        plot=plots.ranking(part, label) if panel else "",
        rows=system_rows(part, label) if panel else [],
        pairs=_pair_rows(panel)[:MOST_PAIRS] if panel else [],
        num_more_pairs=max(0, len(panel.differences) - MOST_PAIRS) if panel else 0,
        others={
            (label if name == PEOPLE else name): headline(one, part.aspect)
            for name, one in part.rankings.items()
            if name != PANEL
        },
        slope=with_interval(panel.slope) if panel and panel.slope else "",
        powered=_powered_rows(part.powered[PANEL], panel) if panel and PANEL in part.powered else {},
        columns=THREE,
    )


def answer_text(answer: Answer, label: str) -> str:
    """For the terminal: the sentence, the trust, the table of systems, and the three estimates with few labels.

    Args:
        answer: what to show.
        label: what labels are, such as `human score`.
    """
    part = answer.part
    blocks = [f"{part.title}\n{answer.sentence}\n{answer.trust.words}", *part.notes]
    if PANEL in part.rankings:
        rows = system_rows(part, label)
        blocks.append(aligned(rows[: SHOWN_SYSTEMS + 1]))
        if len(rows) > SHOWN_SYSTEMS + 1:
            blocks.append(f"... and {len(rows) - SHOWN_SYSTEMS - 1} more systems in the report.")
    if PANEL in part.powered:
        tables = _powered_rows(part.powered[PANEL], part.rankings[PANEL])
        blocks += [aligned([[HEADS[title], *THREE], *rows]) for title, rows in tables.items()]
    return "\n\n".join(blocks)


HEADS = {"means": "mean", "differences": "difference"}
THREE = ("labels alone", "judge alone", "both (PPI++)", "labelled groups", "worth")


def system_rows(part: SystemsPart, label: str) -> list[list[str]]:
    """A head, then a row for each system by the panel: mean, ranks, groups won, at equal length, mean label.

    Args:
        part: its systems.
        label: what labels are, such as `human score`.
    """
    ranking = part.rankings[PANEL]
    people = {one.system: one.mean for one in part.rankings[PEOPLE].systems} if PEOPLE in part.rankings else {}
    head = ["system", "mean", "rank", "groups won", "at equal length", "groups", "coverage"]
    rows = [[*head, *([label] if people else [])]]
    for one in ranking.systems:
        row = [one_line(one.system), with_interval(one.mean), _ranks(one), _won(one), _or_dash(one.controlled)]
        row += [str(one.mean.n), f"{one.mean.coverage:.3f}"]
        rows.append([*row, *([_or_dash(people.get(one.system))] if people else [])])
    return rows


def _ranks(one: SystemScore) -> str:
    between = f"{one.rank_low} to {one.rank_high}" if one.rank_low < one.rank_high else f"{one.rank_low}"
    return f"{one.rank} ({between})"


def _won(one: SystemScore) -> str:
    return "–" if math.isnan(one.won) else f"{one.won:.0%}" + (f", tied {one.tied:.0%}" if one.tied else "")


def _or_dash(one: Estimate | None) -> str:
    return "–" if one is None else with_interval(one)


def _pair_rows(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "pair": f"{one_line(one.first)} minus {one_line(one.second)}",
            "difference": with_interval(one.value),
            "controlled": _or_dash(one.controlled),
            "p": f"{one.p:.3f}" if one.p >= 0.001 else "< .001",
            "is_told": one.is_told,
            "groups": f"{one.won} : {one.tied} : {one.lost}",
        }
        for one in ranking.differences
    ]


def _powered_rows(powered: Powered, ranking: Ranking) -> dict[str, list[list[str]]]:
    """By table, the means and the differences to the best system: name, three estimates, labelled groups, worth."""
    best = ranking.systems[0].system
    pairs = {
        f"{one_line(first)} minus {one_line(second)}": ways
        for (first, second), ways in powered.differences.items()
        if first == best
    }
    tables: dict[str, Mapping[str, ThreeWays]] = {"means": powered.means, "differences": pairs}
    return {
        title: [[one_line(name), *_ways(ways)] for name, ways in rows.items()] for title, rows in tables.items() if rows
    }


def _ways(ways: ThreeWays) -> list[str]:
    three: Sequence[Estimate] = (ways.labels, ways.judge, ways.powered)
    return [*map(with_interval, three), str(ways.labels.n), shown(ways.effective, 0)]
