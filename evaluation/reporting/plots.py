"""Draws the report's plots (of a slice, a training or certificates) and returns them as PNG images in base64."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.terminal import shown as visible
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import one_line
from evaluation.measure.slices import LENGTH, Slice, score_columns
from evaluation.measure.system_comparison import PEOPLE, SystemsPart
from judging.stats.cascade import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from judging.certificates.certificate import Certificate

COLOURS = ("#3b6fb6", "#d1495b", "#2e8b57", "#8f5ea2", "#c77d1e", "#4d8a99")
GREY = "#9aa0a6"
MOST_CHARACTERS = 28  # of a name beside an axis
# Asked in turn for characters that matplotlib's own font lacks, where they are installed.
MORE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans", "Arial")


def forest(part: Slice, statistics: Sequence[str]) -> str:
    """Value and 95 % interval of each column, one plot per statistic; the grey band is the chance baseline."""
    names = list(part.estimates)[::-1]
    figure, axes = _figure(len(statistics), height=0.34 * len(names) + 0.9, width=2.3, sharey=True)
    for axis, statistic in zip(axes, statistics, strict=True):
        for place, name in enumerate(names):
            one = part.estimates[name].get(statistic)
            if one is None or not math.isfinite(one.value):
                continue
            chance = part.estimates[name][f"floor.{statistic}"]
            axis.plot(
                [chance.low, chance.high],
                [place, place],
                color="#e3e5e8",
                linewidth=11,
                solid_capstyle="butt",
                zorder=0,
            )
            colour = _colour(part, name)
            axis.plot([one.low, one.high], [place, place], color=colour, linewidth=2)
            axis.plot([one.value], [place], "o", color=colour, markersize=6)
        if part.ceiling and statistic in part.ceiling:
            axis.axvline(part.ceiling[statistic].value, color="#444444", linestyle=":", linewidth=1)
        axis.set_title(statistic, fontsize=9)
        axis.set_yticks(range(len(names)), [_short(part.named(name)) for name in names], fontsize=9)
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.grid(axis="x", color="#eeeeee")
    return _png(figure)


def ranking(part: SystemsPart, label_name: str) -> str:
    """Mean and 95 % interval of each system, the best on top: by the panel, by the labels, by both (PPI++)."""
    panel = part.rankings[PANEL]
    names = [one.system for one in panel.systems][::-1]
    columns = [("panel", "#222222", {one.system: one.mean for one in panel.systems})]
    if PEOPLE in part.rankings:
        people = {one.system: one.mean for one in part.rankings[PEOPLE].systems}
        columns.append((label_name, COLOURS[1], people))
    if PANEL in part.powered:
        both = {name: ways.powered for name, ways in part.powered[PANEL].means.items()}
        columns.append(("both (PPI++)", COLOURS[0], both))
    figure, (axis,) = _figure(1, height=0.3 * len(names) + 1.1, width=7.5)
    for number, (title, colour, means) in enumerate(columns):
        known = [(place, means[name]) for place, name in enumerate(names) if name in means]
        at = [place - 0.2 * (number - (len(columns) - 1) / 2) for place, _ in known]
        axis.plot([one.value for _, one in known], at, "o", color=colour, markersize=5, label=title)
        for place, (_, one) in zip(at, known, strict=True):
            axis.plot([one.low, one.high], [place, place], color=colour, linewidth=2)
    axis.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=9)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_xlabel(f"mean {_short(part.aspect)}", fontsize=9)
    axis.grid(axis="x", color="#eeeeee")
    if len(columns) > 1:
        axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _png(figure)


def _short(name: str) -> str:
    """A name in one line that leaves room for the axes; a dollar sign would begin a formula."""
    plain = visible(one_line(name)) or "(blank)"
    return (plain if len(plain) <= MOST_CHARACTERS else f"{plain[: MOST_CHARACTERS - 1]}…").replace("$", r"\$")


def distributions(part: Slice, label_name: str) -> str:
    """Histograms of the labels and of each column's scores on the same scale."""
    names = score_columns(part.rows[0])
    figure, axes = _figure(len(names) + 1, height=2.1, width=2.4, sharex=True)
    bins = np.linspace(*part.scale, 21)
    columns = [(label_name, [row["label"] for row in part.rows], GREY)]
    columns += [(part.named(name), [row[f"{name}.score"] for row in part.rows], _colour(part, name)) for name in names]
    for axis, (name, values, colour) in zip(axes, columns, strict=True):
        known = [value for value in values if value is not None]
        axis.hist(known, bins=bins, color=colour)
        axis.set_title(f"{_short(name)} (n = {len(known)})", fontsize=9)
    return _png(figure)


def against_labels(part: Slice, label_name: str) -> str:
    """Scatter plots of each column's scores against the labels, with a small horizontal jitter."""
    names = score_columns(part.rows[0])
    figure, axes = _figure(len(names), height=2.7, width=2.7, sharey=True)
    spread = np.random.default_rng(0).uniform(-0.012, 0.012, len(part.rows)) * (part.scale[1] - part.scale[0])
    for axis, name in zip(axes, names, strict=True):
        scored = [place for place, row in enumerate(part.rows) if row[f"{name}.score"] is not None]
        x = [part.rows[place]["label"] + spread[place] for place in scored]
        axis.plot(part.scale, part.scale, color="#dddddd", linewidth=1)
        axis.scatter(
            x, [part.rows[place][f"{name}.score"] for place in scored], s=9, alpha=0.45, color=_colour(part, name)
        )
        axis.set_title(_short(part.named(name)), fontsize=9)
        axis.set_xlabel(label_name, fontsize=8)
    axes[0].set_ylabel("score", fontsize=8)
    return _png(figure)


def losses(train: Sequence[tuple[float, float]], dev: Sequence[tuple[float, float]]) -> str:
    """Loss curves of a training from (step, loss) pairs; the dev loss has markers."""
    figure, (axis,) = _figure(1, height=2.4, width=5.2)
    axis.plot(*_columns(train), color=COLOURS[0], linewidth=1.5, label="train")
    axis.plot(*_columns(dev), "o-", color=COLOURS[1], markersize=4, linewidth=1, label="dev")
    axis.set_xlabel("step", fontsize=8)
    axis.set_ylabel("loss", fontsize=8)
    axis.legend(fontsize=8, frameon=False)
    axis.grid(axis="y", color="#eeeeee")
    return _png(figure)


def cascade(points: Sequence[Point], criterion: str) -> str:
    """Agreement with its 95 % interval against the share of the panel's cost."""
    figure, (axis,) = _figure(1, height=2.6, width=4.2)
    shares = [point.cost_share for point in points]
    found = [point.agreement for point in points]
    axis.fill_between(shares, [one.low for one in found], [one.high for one in found], color="#e3e5e8")
    axis.plot(shares, [one.value for one in found], "o-", color=COLOURS[0], markersize=4)
    axis.set_xlabel("share of the panel's tokens", fontsize=9)
    axis.set_ylabel(criterion, fontsize=9)
    axis.grid(color="#eeeeee")
    return _png(figure)


def probes(certificates: Sequence[Certificate], names: Sequence[str]) -> str:
    """Effect and 95 % interval of each probe, one plot per probe; the grey band is the configured limit."""
    subjects = [_short(one.subject) for one in certificates][::-1]
    figure, axes = _figure(len(names), height=0.34 * len(subjects) + 0.9, width=2.0, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        for place, one in enumerate(reversed(certificates)):
            known = next((probe for probe in one.probes if probe.name == name), None)
            if known is None or known.effect is None or known.effect.value is None:
                continue
            colour = COLOURS[1] if known.biased else "#222222"
            if known.effect.low is not None:
                axis.plot([known.effect.low, known.effect.high], [place, place], color=colour, linewidth=2)
            axis.plot([known.effect.value], [place], "o", color=colour, markersize=6)
        limit = max(probe.limit for one in certificates for probe in one.probes if probe.name == name)
        axis.axvspan(-limit, limit, color="#eeeff1", zorder=0)
        axis.axvline(0, color="#9aa0a6", linewidth=1)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_yticks(range(len(subjects)), subjects, fontsize=9)
        axis.set_ylim(-0.6, len(subjects) - 0.4)
        # Without a minimum range, a tiny effect would fill the whole width.
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, -0.12), max(high, 0.12))
    return _png(figure)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _colour(part: Slice, name: str) -> str:
    if name == LENGTH:
        return GREY
    if name == PANEL:
        return "#222222"
    return COLOURS[score_columns(part.rows[0]).index(name) % len(COLOURS)]


def _figure(count: int, *, height: float, width: float, **share: bool) -> tuple[Figure, list[Any]]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import font_manager
    from matplotlib import pyplot as plt

    installed = {font.name for font in font_manager.fontManager.ttflist}
    mpl.rcParams["font.family"] = ["DejaVu Sans", *(name for name in MORE_FONTS if name in installed)]
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False, **share)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, list(axes[0])


def _png(figure: Figure) -> str:
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A character in no font is drawn as a box; the tables have the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.tight_layout()
        figure.savefig(buffer, format="png", dpi=130, transparent=True)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
