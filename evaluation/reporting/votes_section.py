"""The comparison of the aggregation rules as a table: for the terminal and for the report."""

from __future__ import annotations

from evaluation.measure.formatting import with_interval
from evaluation.measure.slices import LENGTH, Slice
from evaluation.measure.vote_comparison import CRITERION, Compared, Rule
from evaluation.reporting.pages import rendered
from judging.stats.cascade import Point


def table_rows(found: Compared, part: Slice) -> list[list[str]]:
    """The terminal's table: a head, then one row per rule."""
    head = ["votes", CRITERION, "minus mean", "minus length", "tokens a text", "coverage"]
    return [head, *([part.named(name), *_cells(one)] for name, one in found.rules.items())]


def feature_rows(found: Compared) -> list[list[str]]:
    """The terminal's table of what the text features add to the judges; empty where the panel has not both."""
    head = ["what the features add", "with", "without", "difference"]
    rows = [
        [name, *map(with_interval, (found.rules[name].agreement, one.agreement, one.gain))]
        for name, one in found.without_features.items()
    ]
    return [head, *rows] if rows else []


def _cells(one: Rule) -> list[str]:
    tokens = "–" if one.tokens is None else f"{one.tokens:,.0f}"
    shared = (with_interval(one.agreement), with_interval(one.minus_mean), with_interval(one.minus_length))
    return [*shared, tokens, f"{one.agreement.coverage:.3f}"]


def section(found: Compared, part: Slice) -> str:
    """The report's section of one slice."""
    from evaluation.reporting import plots

    cascade = found.cascade if found.first is not None else ()
    return rendered(
        "votes.html",
        criterion=CRITERION,
        length=LENGTH,
        n=found.rules["mean"].agreement.n,
        learned=bool({"best", "learned"} & set(found.rules)),
        rows={part.named(name): _cells(one) for name, one in found.rules.items()},
        features=feature_rows(found)[1:],
        first=found.first,
        cascade=[_point(point) for point in cascade],
        cascade_png=plots.cascade(cascade, CRITERION) if cascade else "",
    )


def _point(one: Point) -> list[str]:
    return [
        f"{one.share:.0%}",
        f"{one.cost:,.0f}",
        f"{one.cost_share:.0%}",
        with_interval(one.agreement),
        with_interval(one.minus_panel),
    ]
