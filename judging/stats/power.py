"""Power analysis: how many groups to label to detect a difference between two judges, and which texts to label next.

Legend: G groups, N rows, J judges. Computed from scores, labels and label probabilities; it reads no files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from judging.records import Scale
from judging.stats.bootstrap import Floats
from judging.stats.cascade import label_entropy
from judging.stats.correlation import RowCorrelations
from judging.stats.group_level import group_values
from judging.stats.rows import Codes, Rows, encode, numbers

POWER = 0.8
LEVEL = 0.05
DIFFERENCES = (0.05, 0.10, 0.15, 0.20)
STATISTICS = {"group.spearman": "spearman", "group.pairwise_accuracy": "pairwise_accuracy"}
MIN_DEFINED = 3  # groups: with fewer the variance is too uncertain
NO_SPREAD = 1e-9


class Power(NamedTuple):
    """The paired difference between two score columns in one statistic over the groups, and the groups it needs.

    `sd`: standard deviation over groups of the paired difference, None below `MIN_DEFINED` groups where both columns
    are defined (`num_groups` of them, `defined_share` of all). `difference`: its mean. `needed`: by true difference,
    the groups to label, including those without a defined difference (tied labels). `detectable`: the smallest true
    difference that the present groups detect. Both are None where `sd` is None or 0 (the same difference everywhere).
    """

    difference: float | None
    sd: float | None
    num_groups: int
    defined_share: float
    needed: Mapping[float, int | None]
    detectable: float | None


def groups_needed(sd: float, difference: float, *, power: float = POWER, level: float = LEVEL) -> int:
    """n = ((z(1 - level / 2) + z(power)) * sd / difference)^2, rounded up: groups that detect a true mean difference.

    Two-sided test, normal approximation of the mean of n paired differences; at least 2. With the defaults
    7.85 (sd / difference)^2. Below about 20 groups a bootstrap needs a few more.

    Args:
        sd: standard deviation over groups of the paired difference.
        difference: the true mean difference.
        power: probability of detecting it, 0 to 1.
        level: significance level, 0 to 1.
    """
    return max(2, math.ceil((_z(power, level) * sd / difference) ** 2 - 1e-9))


def detectable_difference(sd: float, num_groups: int, *, power: float = POWER, level: float = LEVEL) -> float:
    """The true mean difference that `num_groups` groups detect: the inverse of `groups_needed`.

    Args:
        sd: standard deviation over groups of the paired difference.
        num_groups: labelled groups.
        power: probability of detecting it, 0 to 1.
        level: significance level, 0 to 1.
    """
    return _z(power, level) * sd / math.sqrt(num_groups)


def _z(power: float, level: float) -> float:
    return NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)


def power_of(
    groups: Sequence[str],
    labels: Sequence[float],
    first: Sequence[float | None] | Floats,
    second: Sequence[float | None] | Floats,
) -> dict[str, Power]:
    """By statistic (`group.spearman`, `group.pairwise_accuracy`): the groups it takes to tell `first` from `second`.

    Rows that are unscored in one of the two columns are excluded from both.

    Args:
        groups: the group of each row (N,).
        labels: human scores (N,).
        first: scores (N,) of one judge; None or NaN: unscored.
        second: scores (N,) of the other.

    Raises:
        ValueError: for labels that are missing or infinite.
    """
    label_N = numbers(labels, "label", missing=False)
    score_N, other_N = numbers(first, "first", missing=True), numbers(second, "second", missing=True)
    keep_N = ~(np.isnan(score_N) | np.isnan(other_N))
    group_N, num_groups = encode(groups)
    first_GK, second_GK = (
        group_values(_rows(group_N, num_groups, label_N, column_N, keep_N)) for column_N in (score_N, other_N)
    )
    found = {}
    for name, field in STATISTICS.items():
        place = RowCorrelations._fields.index(field)
        away_G = first_GK[:, place] - second_GK[:, place]
        found[name] = _power(away_G[~np.isnan(away_G)], num_groups)
    return found


def _rows(group_N: Codes, num_groups: int, label_N: Floats, score_N: Floats, keep_N: Floats) -> Rows:
    return Rows.sort(group_N[keep_N], None, label_N[keep_N], score_N[keep_N], num_groups, 0)


def _power(away_G: Floats, num_groups: int) -> Power:
    count = len(away_G)
    share = count / num_groups if num_groups else 0.0
    if count < MIN_DEFINED:
        return Power(None, None, count, share, dict.fromkeys(DIFFERENCES), None)
    sd = float(away_G.std(ddof=1))
    if sd < NO_SPREAD:
        return Power(float(away_G.mean()), 0.0, count, share, dict.fromkeys(DIFFERENCES), None)
    # Only a share of the groups has a difference: so many more must be labelled, as if the variance were larger.
    needed = {size: groups_needed(sd / math.sqrt(share), size) for size in DIFFERENCES}
    return Power(float(away_G.mean()), sd, count, share, needed, detectable_difference(sd, count))


@dataclass(frozen=True)
class Unlabelled:
    """A judged text without a label on one aspect. `scores`: by judge, in points of `scale`, None unscored.

    `probabilities`: by judge, those of the scale's labels (summing to 1), where the judge has them.
    """

    id: str
    group: str
    aspect: str
    scale: Scale
    scores: Mapping[str, float | None]
    probabilities: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Next:
    """A group to label: its rank (1: first), its priority (0 to 1), and its texts that need labels.

    `priority`: mean over its texts of `disagreement` and `entropy`, or of the defined one. `disagreement`: twice the
    standard deviation of the judges' scores over the width of the scale, 1 where half of them are at either end; None:
    fewer than two judges. `entropy`: of the label probabilities over its largest value, mean over the judges; None: no
    probabilities.
    """

    rank: int
    group: str
    priority: float
    disagreement: float | None
    entropy: float | None
    texts: Mapping[str, tuple[str, ...]]  # id -> aspects


def label_next(rows: Sequence[Unlabelled]) -> list[Next]:
    """All groups with unlabelled texts, the most informative first; ties in the order of the groups' names.

    Whole groups, since agreement is measured within them. Before judges are compared, each judge's mean over the rows
    of the aspect is subtracted: a judge that is always a point lower does not disagree. Groups without information (a
    single judge without probabilities) come last with priority 0.
    """
    means = _means(rows)
    by_group: dict[str, list[Unlabelled]] = {}
    for row in rows:
        by_group.setdefault(row.group, []).append(row)
    found = []
    for group, members in by_group.items():
        spread = _mean([disagreement(row, means) for row in members])
        doubt = _mean([entropy(row) for row in members])
        priority = _mean([spread, doubt]) or 0.0
        texts: dict[str, tuple[str, ...]] = {}
        for row in sorted(members, key=lambda row: (row.id, row.aspect)):
            texts[row.id] = (*texts.get(row.id, ()), row.aspect)
        found.append(Next(0, group, priority, spread, doubt, texts))
    found.sort(key=lambda one: (-one.priority, one.group))
    return [dataclasses.replace(one, rank=rank) for rank, one in enumerate(found, start=1)]


def disagreement(row: Unlabelled, means: Mapping[tuple[str, str], float]) -> float | None:
    """0 (all judges agree after subtracting their means by (aspect, judge)) to 1; None with fewer than two scores."""
    away = [score - means[row.aspect, judge] for judge, score in sorted(row.scores.items()) if score is not None]
    return min(1.0, 2 * float(np.std(away)) / row.scale.width) if len(away) >= 2 else None


def entropy(row: Unlabelled) -> float | None:
    """0 (each judge is certain of one label) to 1 (uniform); None without probabilities."""
    known = [probabilities for _, probabilities in sorted(row.probabilities.items())]
    return _mean([label_entropy(one) for one in known if len(one) >= 2])


def _means(rows: Sequence[Unlabelled]) -> dict[tuple[str, str], float]:
    scores: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for judge, score in row.scores.items():
            if score is not None:
                scores.setdefault((row.aspect, judge), []).append(score)
    return {key: math.fsum(found) / len(found) for key, found in scores.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
