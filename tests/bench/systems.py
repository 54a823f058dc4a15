"""Do judges rank systems as people do, and what few labels add: `python -m tests.bench.systems DATA OUT [NAME ...]`.

For the data sets of `tests.bench.families` that OUT holds (or those named) and each of its judges: system.spearman with
people, and how many systems' means by people lie within the 95 % interval of the judge's mean. Then, with labels on 10
and 20 groups, over `DRAWS` draws of these groups: how many intervals of labels alone, of the judge alone and of both
(PPI++) hold the mean by people over all groups, and the width of PPI++ over that of the labels alone. The fitted
judges' scores are held out. Prints Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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


def main(arguments: Sequence[str]) -> int:
    data, out, *names = arguments
    print("| | judge | rows, groups, systems | system.spearman | systems whose mean by people is in its interval |")
    print("|---|---|---|---|---|")
    parts = dict(_parts(Path(data), Path(out), names or list(FAMILIES)))
    for name, part in parts.items():
        for judge, score_N in _judges(part):
            print(f"| {name} | {judge} | {' | '.join(_ranks(part, score_N))} |", flush=True)
    print("\n| | judge | labelled groups | labels alone hold | judge alone holds | PPI++ holds | width |")
    print("|---|---|---|---|---|---|---|")
    for name, part in parts.items():
        for judge, score_N in _judges(part):
            for num in NUM_LABELLED:
                print(f"| {name} | {judge} | {num} | {' | '.join(_few_labels(part, score_N, num))} |", flush=True)
    return 0


def _judges(part: Part) -> Iterator[tuple[str, Floats]]:
    yield from ((name, one) for name, one in part.scores.items() if name.startswith(("fitted", "zero-shot")))
    yield "mean of fitted", np.mean([part.scores[name] for name in part.states], axis=0)


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


def _few_labels(part: Part, score_N: Floats, num: int) -> tuple[str, str, str, str]:
    """Shares of draws and systems in which each interval holds the mean by people, and the mean ratio of widths."""
    groups, systems = list(part.group_N), _systems(part)
    human = Cells.of(groups, systems, part.label_N, np.zeros(len(groups))).score_GS
    judge = Cells.of(groups, systems, score_N, np.zeros(len(groups))).score_GS
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
