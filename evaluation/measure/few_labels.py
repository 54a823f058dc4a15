"""Labels on some groups and a judge on all -> each system's mean and each pair's difference, three ways, and tests.

Statistics: `judging.stats.prediction_powered`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from judging.stats.additive_model import Cells
from judging.stats.bootstrap import Floats
from judging.stats.prediction_powered import ThreeWays, three_ways
from judging.stats.systems import Difference, Ranking, holm

Pair = tuple[str, str]


@dataclass(frozen=True)
class Powered:
    """Estimates with few labels by one column of scores.

    `systems`: from the best to the worst, by the differences of both together. `means`: of each, empty unless every
    system is in every group. `differences`: of each pair in that order. `tests`: the same by both together, adjusted
    over all pairs (Holm); won, tied and lost are counted in the labelled groups.
    """

    systems: Sequence[str]
    means: Mapping[str, ThreeWays]
    differences: Mapping[Pair, ThreeWays]
    tests: Sequence[Difference]

    @property
    def has_interval(self) -> bool:
        """Whether there are labels enough for the interval of any difference, or of the mean of a single system."""
        return any(not math.isnan(ways.powered.low) for ways in (self.differences or self.means).values())

    @property
    def uses_the_judge(self) -> bool:
        """Whether the judge has a weight in any difference."""
        return any(one.weight != 0 for one in self.differences.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "means": [{"system": name, **_json(ways)} for name, ways in self.means.items()],
            "differences": [
                {
                    "first": one.first,
                    "second": one.second,
                    **_json(self.differences[one.first, one.second]),
                    "p_holm": one.p,
                    "can_be_told_apart": one.is_told,
                }
                for one in self.tests
            ],
        }


def few_labels(
    groups: Sequence[str], systems: Sequence[str], label_N: Floats, score_N: Floats, ranking: Ranking
) -> Powered | None:
    """The estimates where some cells have labels and others have none; else None.

    A cell is a system in a group. It has a label if all of its rows have one.

    Args:
        groups: the source of each of N rows.
        systems: who wrote it.
        label_N: people's score, NaN where there is none.
        score_N: the column's.
        ranking: of the systems by that column.
    """
    everywhere = np.zeros(len(groups))
    human = Cells.of(groups, systems, label_N, everywhere)  # a NaN among the rows of a cell makes it NaN
    judge = Cells.of(groups, systems, score_N, everywhere)
    if not human.has_GS.any() or not (judge.has_GS & ~human.has_GS).any():
        return None
    human_of = dict(zip(human.names, human.score_GS.T, strict=True))
    judge_of = dict(zip(judge.names, judge.score_GS.T, strict=True))
    names = [one.system for one in ranking.systems]
    coverage = {one.system: one.mean.coverage for one in ranking.systems}
    pairs = {
        (first, second): three_ways(
            human_of[first] - human_of[second],
            judge_of[first] - judge_of[second],
            coverage=min(coverage[first], coverage[second]),
        )
        for first, second in combinations(names, 2)
    }
    order = _order(names, pairs)
    differences = {
        (first, second): pairs[first, second] if (first, second) in pairs else pairs[second, first].negative()
        for first, second in combinations(order, 2)
    }
    is_complete = ranking.num_complete == ranking.num_groups
    means = {name: three_ways(human_of[name], judge_of[name], coverage=coverage[name]) for name in order if is_complete}
    return Powered(order, means, differences, _tests(differences, human_of))


def _order(names: Sequence[str], pairs: Mapping[Pair, ThreeWays]) -> list[str]:
    """From the best to the worst, by the sum of a system's known differences to the others."""
    ahead = dict.fromkeys(names, 0.0)
    for (first, second), ways in pairs.items():
        value = ways.powered.value
        if not math.isnan(value):
            ahead[first] += value
            ahead[second] -= value
    return sorted(names, key=lambda name: -ahead[name])


def _tests(differences: Mapping[Pair, ThreeWays], human_of: Mapping[str, Floats]) -> list[Difference]:
    adjusted_M = holm(np.array([ways.p for ways in differences.values()]))
    found = []
    for ((first, second), ways), p in zip(differences.items(), adjusted_M, strict=True):
        ahead_G = human_of[first] - human_of[second]
        won, tied, lost = (int(is_so.sum()) for is_so in (ahead_G > 0, ahead_G == 0, ahead_G < 0))
        found.append(Difference(first, second, ways.powered, None, float(p), won, tied, lost))
    return found


def _json(ways: ThreeWays) -> dict[str, Any]:
    return {
        "labels_alone": ways.labels.to_json(),
        "judge_alone": ways.judge.to_json(),
        "prediction_powered": ways.powered.to_json(),
        "weight_of_the_judge": ways.weight,
        "effective_labelled_groups": ways.effective if math.isfinite(ways.effective) else None,
    }
