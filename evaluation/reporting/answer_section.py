"""The report's first part: which system is better, how sure that is, and whether the judges can be trusted.

For the page (`templates/answer.html`) and, shorter, for the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from cluster.tables import aligned
from evaluation.judges.aggregation import PANEL
from evaluation.measure.few_labels import Powered
from evaluation.measure.formatting import one_line, share, shown, with_interval
from evaluation.measure.headline import Named, headline, sentence
from evaluation.measure.slices import Slice
from evaluation.measure.system_comparison import MOST_SYSTEMS, PEOPLE, SystemsPart
from evaluation.measure.trust import Trust, trust
from evaluation.reporting.pages import rendered
from judging.certificates.certificate import Certificate
from judging.stats.estimate import Estimate
from judging.stats.prediction_powered import MIN_LABELLED, ThreeWays
from judging.stats.systems import Ranking, SystemScore

SHOWN_SYSTEMS = 20  # in the terminal's table
MOST_PAIRS = 500  # on the page; metrics.json has all


@dataclass(frozen=True)
class Answer:
    """What is said first of one part of the data.

    `part`: its systems. `agreement`: None without labels. `has_people`: whether labels are human ratings.
    """

    part: SystemsPart
    agreement: Slice | None
    trust: Trust
    has_people: bool = True

    @property
    def sentence(self) -> str:
        """What is known about the systems."""
        return self.said(one_line)

    def said(self, named: Named) -> str:
        """By people where they rated all, by few labels and the panel together, or else by the panel.

        Args:
            named: a name as it is written in the sentence.
        """
        part = self.part
        powered = part.powered.get(PANEL)
        if self.has_people and powered and powered.has_interval:
            by = f"people's labels in {part.num_labelled_groups} of {part.num_groups} groups"
            by += " and the panel (PPI++)" if powered.uses_the_judge else ""
            means = [ways.powered for ways in powered.means.values()]
            return sentence(powered.systems, powered.tests, part.aspect, by, *means[:1], named=named)
        if self.has_people and PEOPLE in part.rankings and not powered:
            return headline(part.rankings[PEOPLE], part.aspect, "people", named=named)
        ranking = part.rankings.get(PANEL)
        if ranking is None:
            return f"No systems are compared on {named(part.aspect)}: {self._why_not()}."
        if self.trust.light == "red" and any(one.is_told for one in ranking.differences):
            first, second, *others = (named(one.system) for one in ranking.systems)
            above = f"the other {len(others) + 1} systems" if others else second
            return f"The panel ranks {first} above {above} on {named(part.aspect)}, but is not trusted here."
        return headline(ranking, part.aspect, "the panel", named=named)

    def _why_not(self) -> str:
        if not self.part.systems:
            return "no row names a system"
        if len(self.part.systems) > MOST_SYSTEMS:
            return f"{len(self.part.systems)} systems are more than the {MOST_SYSTEMS} that are compared"
        return "the panel gave no score"

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
        found.append(Answer(part, agreement, trust(agreement, certified.get(key), labels), labels != "constructed"))
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
        min_labelled=MIN_LABELLED,
        sentence=Markup(answer.said(_isolated)),
        number=next((number for number, one in enumerate(slices) if one is answer.agreement), None),
        label=label,
        panel=panel,
        plot=plots.ranking(part, label) if panel else "",
        rows=system_rows(part, label, named=_isolated) if panel else [],
        pairs=_pair_rows(panel)[:MOST_PAIRS] if panel else [],
        num_more_pairs=max(0, len(panel.differences) - MOST_PAIRS) if panel else 0,
        others={
            (label if name == PEOPLE else one_line(name)): Markup(headline(one, part.aspect, named=_isolated))
            for name, one in part.rankings.items()
            if name != PANEL
        },
        slope=with_interval(panel.slope) if panel and panel.slope else "",
        powered=_powered_rows(part.powered[PANEL], _isolated) if PANEL in part.powered else {},
        columns=THREE,
    )


def answer_text(answer: Answer, label: str) -> str:
    """For the terminal: the sentence, the trust and one table: with few labels the three estimates, else the systems.

    Args:
        answer: what to show.
        label: what labels are, such as `human score`.
    """
    part = answer.part
    blocks = [f"{part.title}\n{answer.sentence}\n{answer.trust.words}", *part.notes, *_tables(part, label)[:1]]
    return "\n\n".join(blocks)


def more_tables(found: Iterable[Answer], label: str) -> list[str]:
    """The tables of all parts that `answer_text` leaves out.

    Args:
        found: the answers.
        label: what labels are, such as `human score`.
    """
    return [f"{one.part.title}\n{table}" for one in found for table in _tables(one.part, label)[1:]]


def _tables(part: SystemsPart, label: str) -> list[str]:
    """As aligned text, the most important first."""
    tables = [system_rows(part, label)] if PANEL in part.rankings else []
    if PANEL in part.powered:
        ways = _powered_rows(part.powered[PANEL], one_line)
        tables = [*([[HEADS[title], *THREE], *rows] for title, rows in ways.items()), *tables]
    return [_cut(rows) for rows in tables]


def _cut(rows: Sequence[Sequence[str]]) -> str:
    hidden = len(rows) - SHOWN_SYSTEMS - 1
    more = f"\n... and {hidden} more in the report." if hidden > 0 else ""
    return aligned([*map(list, rows[: SHOWN_SYSTEMS + 1])]) + more


HEADS = {"means": "mean", "differences": "difference"}
THREE = ("labels alone", "judge alone", "both (PPI++)", "labelled groups", "worth")


def system_rows(part: SystemsPart, label: str, *, named: Named = one_line) -> list[list[str]]:
    """A head, then a row for each system by the panel: mean, ranks, groups won, at equal length, mean label.

    Args:
        part: its systems.
        label: what labels are, such as `human score`.
        named: a system's name as it is written.
    """
    ranking, by_people = part.rankings[PANEL], part.rankings.get(PEOPLE)
    people = {one.system: one.mean for one in by_people.systems} if by_people else {}
    head = ["system", "mean", "rank", "groups won", "at equal length", "groups", "coverage"]
    rows = [head]
    if by_people:
        is_part = by_people.num_groups < ranking.num_groups
        head.append(f"{label} ({by_people.num_groups} groups)" if is_part else label)
    for one in ranking.systems:
        row = [named(one.system), with_interval(one.mean), _ranks(one), _won(one), _or_dash(one.controlled)]
        row += [str(one.mean.n), share(one.mean.coverage, is_floored=True)]
        rows.append([*row, *([_or_dash(people.get(one.system))] if people else [])])
    return rows


def _ranks(one: SystemScore) -> str:
    between = f"{one.rank_low} to {one.rank_high}" if one.rank_low < one.rank_high else f"{one.rank_low}"
    return f"{one.rank} ({between})"


def _won(one: SystemScore) -> str:
    return share(one.won) + (f", tied {share(one.tied)}" if one.tied > 0 else "")


def _or_dash(one: Estimate | None) -> str:
    return "–" if one is None else with_interval(one)


def _pair_rows(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "pair": _minus(one.first, one.second, _isolated),
            "difference": with_interval(one.value),
            "controlled": _or_dash(one.controlled),
            "p": f"{one.p:.3f}" if one.p >= 0.001 else "< .001",
            "is_told": one.is_told,
            "groups": f"{one.won} : {one.tied} : {one.lost}",
        }
        for one in ranking.differences
    ]


def _powered_rows(powered: Powered, named: Named) -> dict[str, list[list[str]]]:
    """By table, the means and the differences to the best system: name, three estimates, labelled groups, worth."""
    best = powered.systems[0]
    to_best = [(_minus(*pair, named), ways) for pair, ways in powered.differences.items() if pair[0] == best]
    tables = {"means": [(named(name), ways) for name, ways in powered.means.items()], "differences": to_best}
    return {title: [[name, *_ways(ways)] for name, ways in rows] for title, rows in tables.items() if rows}


def _isolated(name: str) -> Markup:
    """HTML of a name, which may be written from right to left without turning round what stands beside it."""
    return Markup("<bdi>{}</bdi>").format(one_line(name))


def _minus(first: str, second: str, named: Named) -> str:
    one, other = named(first), named(second)
    return Markup("{} minus {}").format(one, other) if isinstance(one, Markup) else f"{one} minus {other}"


def _ways(ways: ThreeWays) -> list[str]:
    three: Sequence[Estimate] = (ways.labels, ways.judge, ways.powered)
    return [*map(with_interval, three), str(ways.labels.n), shown(ways.effective, 0)]
