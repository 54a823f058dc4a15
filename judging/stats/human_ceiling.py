"""The human ceiling: the agreement of one rater with the others.

Legend: N rows, R raters, G groups, B resamples, K statistics. It uses no model's score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from judging.stats.agreement import estimate, level_statistics
from judging.stats.bootstrap import Floats, Method
from judging.stats.correlation import known_mean, ratio
from judging.stats.estimate import LEVELS, Estimate
from judging.stats.rows import Columns, Level, Rows, encode, encode_systems


def human_ceiling(
    columns: Columns,
    *,
    levels: Sequence[str] = LEVELS,
    resamples: int = 2000,
    seed: int = 0,
    interval: Method = "percentile",
) -> dict[str, Estimate] | None:
    """Leave-one-rater-out agreement: each rater as the score, the mean of the other raters as human.

    The statistics are those of `agreement`, averaged over the raters for whom they are defined; the interval is that
    of the average under resamples of groups. A rater is a position in `columns.ratings`. `n` is that of the rater with
    the fewest, `coverage` the share of rows with at least two ratings. The mean of several others is less noisy than
    one other person: a model may exceed this ceiling.

    Args:
        columns: the rows with their single ratings; `columns.score` is not used.
        levels: those of `estimate.LEVELS` to compute.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
        interval: the method of the 95 % interval.

    Returns:
        Estimates by dotted name; None where no row has two ratings.

    Raises:
        ValueError: for an unknown level and for infinite ratings.
    """
    ratings_NR = _ratings(columns)
    known_NR = ~np.isnan(ratings_NR)
    keep_N = known_NR.sum(axis=1) >= 2
    if not keep_N.any():
        return None
    kept = np.flatnonzero(keep_N)
    group_N, num_groups = encode([columns.group[i] for i in kept])
    system_N, num_systems = None, 0
    if columns.system is not None:
        system_N, num_systems = encode_systems([columns.system[i] for i in kept])
    raters = []
    for rater in range(ratings_NR.shape[1]):
        own_N, others_N = ratings_NR[kept, rater], np.delete(ratings_NR[kept], rater, axis=1)
        rated = np.flatnonzero(~np.isnan(own_N))
        if len(rated):
            human_N = ratio(np.nansum(others_N, axis=1), (~np.isnan(others_N)).sum(axis=1).astype(float))
            systems_N = None if system_N is None else system_N[rated]
            rows = Rows.sort(group_N[rated], systems_N, human_N[rated], own_N[rated], num_groups, num_systems)
            raters.append(level_statistics(rows, levels))
    parts = [_average(same_level) for same_level in zip(*raters, strict=True)]
    return estimate(parts, num_groups, float(keep_N.mean()), resamples=resamples, seed=seed, interval=interval)


def _ratings(columns: Columns) -> Floats:
    lines = [line if line is not None else () for line in columns.ratings or ()]
    ratings_NR = np.full((len(lines), max(map(len, lines), default=0)), np.nan)
    for row, line in enumerate(lines):
        for rater, rating in enumerate(line):
            if rating is not None:
                ratings_NR[row, rater] = rating
    if np.isinf(ratings_NR).any():
        raise ValueError("ratings must be finite numbers")
    return ratings_NR


def _average(levels: Sequence[Level]) -> Level:
    def resample(weights_BG: Floats) -> Floats:
        return known_mean(np.stack([level.resample(weights_BG) for level in levels]))

    return Level(
        levels[0].names,
        known_mean(np.stack([level.values for level in levels])),
        tuple(min(counts) for counts in zip(*(level.n for level in levels), strict=True)),
        tuple(max(counts) for counts in zip(*(level.num_undefined for level in levels), strict=True)),
        resample,
    )
