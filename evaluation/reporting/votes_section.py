"""The report's part on the rules of the vote: rows for the terminal, a table for the page."""

from __future__ import annotations

from html import escape

from evaluation.measure.formatting import with_interval
from evaluation.measure.slices import LENGTH
from evaluation.measure.vote_comparison import CRITERION, Compared, Rule


def table_rows(found: Compared) -> list[list[str]]:
    """For the terminal: a row a rule."""
    head = ["votes", CRITERION, "minus mean", "minus length", "tokens a text", "coverage"]
    return [head, *([name, *_cells(one)] for name, one in found.rules.items())]


def _cells(one: Rule) -> list[str]:
    tokens = "–" if one.tokens is None else f"{one.tokens:,.0f}"
    shared = (with_interval(one.agreement), with_interval(one.minus_mean), with_interval(one.minus_length))
    return [*shared, tokens, f"{one.agreement.coverage:.3f}"]


def section(found: Compared) -> str:
    """The report's section of one slice."""
    from evaluation.reporting import plots

    rows = "".join(
        f"<tr><th>{escape(name)}{''.join(f'<td>{escape(cell)}' for cell in _cells(one))}"
        for name, one in found.rules.items()
    )
    taught = " best and learned: as the job <code>panel</code> chose and learned on the dev part."
    taught = taught if {"best", "learned"} & set(found.rules) else ""
    told = (
        f"<h3>Votes compared</h3><p>The same rows under every rule, n {found.rules['mean'].agreement.n} groups.{taught}"
        f"</p><table><tr><th><th>{CRITERION}<th>minus mean<th>minus {LENGTH}<th>tokens a text<th>coverage{rows}</table>"
    )
    if not found.cascade or found.first is None:
        return told
    points = "".join(
        f"<tr><th>{point.share:.0%}<td>{point.cost:,.0f}<td>{point.cost_share:.0%}<td>{escape(with_interval(point.agreement))}"
        f"<td>{escape(with_interval(point.minus_panel))}"
        for point in found.cascade
    )
    return (
        f"{told}<h3>Cascade</h3><p>{escape(found.first)} is asked first; the whole panel only about the texts where "
        "the entropy of its labels is highest.</p>"
        f"<img alt='agreement against cost' src='data:image/png;base64,{plots.cascade(found.cascade, CRITERION)}'>"
        f"<table><tr><th>escalated<th>tokens a text<th>of the panel's<th>{CRITERION}<th>minus the panel's{points}"
        "</table>"
    )
