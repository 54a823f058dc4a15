"""Do judges rank systems as people do, and what few labels add: `python -m tests.bench.systems DATA OUT [NAME ...]`.

For the data sets of `tests.bench.families` that OUT holds (or those named) and each of its judges: system.spearman with
people, and how many systems' means by people lie within the 95 % interval of the judge's mean. Then, with labels on 10
and 20 groups, over `DRAWS` draws of these groups: how many intervals of labels alone, of the judge alone and of both
(PPI++) hold the mean by people over all groups, and the width of PPI++ over that of the labels alone; the same for the
differences of every two systems. The fitted judges' scores are held out; their mean is a panel. Prints Markdown and
draws `OUT/systems.png`: people, the panel, and PPI++ with labels on 20 groups, by system.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from judging.stats.additive_model import Cells
from judging.stats.agreement import agreement
from judging.stats.bootstrap import Floats
from judging.stats.prediction_powered import three_ways
from judging.stats.rows import Columns
from judging.stats.systems import rank_systems
from tests.bench.families import FAMILIES
from tests.bench.fitted_panels import Part, _parts, _words

DRAWS, SEED, NUM_LABELLED = 200, 0, (10, 20)
PANEL = "mean of fitted"


def main(arguments: Sequence[str]) -> int:
    data, out, *names = arguments
    print("| | judge | rows, groups, systems | system.spearman | systems whose mean by people is in its interval |")
    print("|---|---|---|---|---|")
    parts = dict(_parts(Path(data), Path(out), names or list(FAMILIES)))
    for name, part in parts.items():
        for judge, score_N in _judges(part):
            print(f"| {name} | {judge} | {' | '.join(_ranks(part, score_N))} |", flush=True)
    for what in ("means", "differences"):
        print(f"\n| {what} | judge | labelled groups | labels alone hold | judge alone holds | PPI++ holds | width |")
        print("|---|---|---|---|---|---|---|")
        for name, part in parts.items():
            for judge, score_N in _judges(part):
                for num in NUM_LABELLED:
                    found = " | ".join(_few_labels(part, score_N, num, what))
                    print(f"| {name} | {judge} | {num} | {found} |", flush=True)
    _draw(parts, Path(out) / "systems.png")
    return 0


def _judges(part: Part) -> Iterator[tuple[str, Floats]]:
    yield from ((name, one) for name, one in part.scores.items() if name.startswith(("fitted", "zero-shot")))
    yield PANEL, np.mean([part.scores[name] for name in part.states], axis=0)


def _systems(part: Part) -> list[str]:
    return [record.system for record in part.records]


def _ranks(part: Part, score_N: Floats) -> tuple[str, str, str]:
    groups, systems = list(part.group_N), _systems(part)
    known = agreement(Columns(groups, part.label_N, score_N, systems), levels=("system",), seed=SEED, shuffles=0)
    nothing = np.zeros(len(groups))
    means = {one.system: one.mean.value for one in rank_systems(groups, systems, part.label_N, nothing).systems}
    ranking = rank_systems(groups, systems, score_N, nothing, seed=SEED)
    held = sum(one.mean.low <= means[one.system] <= one.mean.high for one in ranking.systems)
    shape = f"{len(groups)}, {len(set(groups))}, {len(means)}"
    return shape, _words(known["system.spearman"]), f"{held} of {len(means)}"


def _columns(part: Part, score_N: Floats, what: str) -> tuple[Floats, Floats]:
    """People's and the judge's scores by group, of each system, or the differences of every two systems."""
    groups, systems = list(part.group_N), _systems(part)
    both = [Cells.of(groups, systems, one, np.zeros(len(groups))).score_GS for one in (part.label_N, score_N)]
    if what == "differences":
        both = [
            np.column_stack([one[:, i] - one[:, j] for i, j in combinations(range(one.shape[1]), 2)]) for one in both
        ]
    return both[0], both[1]


def _few_labels(part: Part, score_N: Floats, num: int, what: str) -> tuple[str, str, str, str]:
    """Shares of draws and systems in which each interval holds the value by people, and the mean ratio of widths."""
    human, judge = _columns(part, score_N, what)
    truth_S = np.nanmean(human, axis=0)
    held, ratios = [], []
    for draw in range(DRAWS):
        chosen = np.random.default_rng((SEED, draw)).permutation(len(human))[:num]
        for place, truth in enumerate(truth_S):
            known_G = np.full(len(human), np.nan)
            known_G[chosen] = human[chosen, place]
            found = three_ways(known_G, judge[:, place])
            held.append([one.low <= truth <= one.high for one in (found.labels, found.judge, found.powered)])
            ratios.append((found.powered.high - found.powered.low) / (found.labels.high - found.labels.low))
    shares = np.mean(held, axis=0)
    return f"{shares[0]:.3f}", f"{shares[1]:.3f}", f"{shares[2]:.3f}", f"{np.nanmean(ratios):.2f}"


def _draw(parts: Mapping[str, Part], file: Path) -> None:
    """By system, the highest by people first: means with 95 % intervals by people, by the panel, and by PPI++."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(parts), figsize=(5.5 * len(parts), 4), layout="constrained", squeeze=False)
    for axis, (name, part) in zip(axes[0], parts.items(), strict=True):
        score_N = dict(_judges(part))[PANEL]
        groups, systems, nothing = list(part.group_N), _systems(part), np.zeros(len(part.group_N))
        by_people, by_panel = (
            rank_systems(groups, systems, one, nothing, seed=SEED) for one in (part.label_N, score_N)
        )
        order = [one.system for one in sorted(by_people.systems, key=lambda one: one.mean.value)]
        human, judge = _columns(part, score_N, "means")
        known = np.full_like(human, np.nan)
        chosen = np.random.default_rng((SEED, 0)).permutation(len(human))[: max(NUM_LABELLED)]
        known[chosen] = human[chosen]
        names = sorted(set(systems))
        powered = {one: three_ways(known[:, place], judge[:, place]).powered for place, one in enumerate(names)}
        columns = {
            "people, all groups": {one.system: one.mean for one in by_people.systems},
            "panel alone": {one.system: one.mean for one in by_panel.systems},
            f"PPI++, {max(NUM_LABELLED)} labelled groups": powered,
        }
        for shift, (label, found) in zip((0.22, 0.0, -0.22), columns.items(), strict=True):
            values = np.array([[found[one].value, found[one].low, found[one].high] for one in order])
            ends = np.abs(values[:, 1:] - values[:, :1]).T
            axis.errorbar(values[:, 0], np.arange(len(order)) + shift, xerr=ends, fmt="o", ms=3, lw=1, label=label)
        axis.set_yticks(range(len(order)), [one[:28] for one in order], fontsize=7)
        axis.set_title(name, fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
    axes[0][0].legend(fontsize=7, loc="lower right")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
