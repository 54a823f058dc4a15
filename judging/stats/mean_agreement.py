"""The mean agreement of several score columns on the same rows, such as a judge under several sampled prompts.

Prompts vary as groups do, so the interval covers both: each resample samples the groups and the columns.
Legend: P columns, G groups, B resamples, K statistics. It reads no files.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from judging.stats.agreement import level_statistics
from judging.stats.bootstrap import Floats, percentile_interval, replicates
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns, Level, complete_rows, numbers

LEVELS = ("dataset", "group")
Scores = Sequence[float | None] | Floats


def mean_agreement(
    columns: Columns,
    several: Sequence[Scores],
    *,
    minus: Sequence[Scores] = (),
    levels: Sequence[str] = LEVELS,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The mean over the P columns of `several` of each statistic, by dotted name.

    Rows that are unscored in one of the columns are excluded, and lower `coverage`. The interval resamples groups (the
    same for every column) and, on each side that has more than one, the columns; with fewer than two groups it is NaN.
    `n` is that of the weakest column.

    Args:
        columns: the rows; `columns.score` is not used.
        several: score columns (P, N); None or NaN: unscored.
        minus: further columns whose mean is subtracted: a difference, paired over groups.
        levels: those of `estimate.LEVELS` to compute.
        resamples: bootstrap resamples.
        seed: of the resamples.
    """
    scores_PN = [numbers(one, "score", missing=True) for one in (*several, *minus)]
    keep_N = ~np.isnan(np.array(scores_PN)).any(axis=0)
    coverage = float(keep_N.mean()) if len(keep_N) else float("nan")
    parts = [level_statistics(complete_rows(columns, score_N, keep_N), levels) for score_N in scores_PN]
    num_groups = len({group for group, kept in zip(columns.group, keep_N, strict=True) if kept})
    names = [name for level in parts[0] for name in level.names]
    values_PK = np.array([np.concatenate([level.values for level in part]) for part in parts])
    if num_groups < 2:
        drawn_BK = np.full((1, len(names)), np.nan)
    else:
        drawn_PBK = np.array([_replicates(part, num_groups, resamples, seed) for part in parts])
        drawn_BK = _difference(drawn_PBK, len(several), np.random.default_rng((seed, 1)))
    value_K = _difference(values_PK[:, None, :], len(several), None)[0]
    counts = [[count for level in part for count in level.n] for part in parts]
    found = {}
    for place, name in enumerate(names):
        ends = percentile_interval(drawn_BK[:, place])
        n = min(count[place] for count in counts)
        found[name] = Estimate(float(value_K[place]), ends.low, ends.high, n, coverage, 0, ends.dropped_share)
    return found


def _replicates(part: Sequence[Level], num_groups: int, resamples: int, seed: int) -> Floats:
    def resample(weights_BG: Floats) -> Floats:
        return np.concatenate([level.resample(weights_BG) for level in part], axis=1)

    return replicates(resample, num_groups, resamples=resamples, seed=seed)


def _difference(values_PBK: Floats, num_first: int, random: np.random.Generator | None) -> Floats:
    """values_BK: the mean over the first columns minus that over the rest; `random` samples the columns for each B."""
    first_BK = _mean(values_PBK[:num_first], random)
    return first_BK if num_first == len(values_PBK) else first_BK - _mean(values_PBK[num_first:], random)


def _mean(values_PBK: Floats, random: np.random.Generator | None) -> Floats:
    num_columns, num_resamples = values_PBK.shape[:2]
    if random is not None and num_columns > 1:
        drawn_PB = random.integers(0, num_columns, size=(num_columns, num_resamples))
        values_PBK = np.take_along_axis(values_PBK, drawn_PB[:, :, None], axis=0)
    with warnings.catch_warnings():
        # All columns undefined: the mean is NaN and is reported as such.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(values_PBK, axis=0))
