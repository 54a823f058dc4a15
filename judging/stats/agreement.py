"""Agreement of a model's scores with human scores: every statistic with n, coverage and a 95 % interval.

Legend: N rows, G groups, B resamples, K statistics.
Intervals come from a bootstrap over groups; `floor.*` is the chance baseline. The statistics themselves are in
`dataset_level.py` and `group_level.py`. It reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from judging.stats.bootstrap import Floats, Method, Resample, intervals, paired
from judging.stats.chance import shuffled_values
from judging.stats.dataset_level import dataset_level
from judging.stats.estimate import LEVELS, Estimate
from judging.stats.group_level import aeollm_level, group_level, group_values, system_level
from judging.stats.rows import Columns, Level, Rows, complete_rows, numbers


def agreement(
    columns: Columns,
    *,
    levels: Sequence[str] = LEVELS,
    resamples: int = 2000,
    seed: int = 0,
    interval: Method = "percentile",
    shuffles: int = 200,
) -> dict[str, Estimate]:
    """Agreement of `columns.score` with `columns.human`, by dotted name (`estimate.STATISTICS`).

    Levels: `dataset` pools all rows (pearson, spearman, kendall_b, mean absolute error, Krippendorff's interval
    alpha); `group` is the mean of the correlations within groups, where defined; `system` correlates system means and
    is left out where `columns.system` is None; `aeollm` counts as that shared task does, `official` with the absolute
    value of each question's correlation, `signed` without.
    Unscored rows lower `coverage` and never enter as numbers. For `mean_absolute_error` smaller is better.
    Intervals resample groups; with fewer than two groups they are NaN. The result does not depend on the order of rows.

    Args:
        columns: the rows.
        levels: those of `estimate.LEVELS` to compute.
        resamples: bootstrap resamples of groups.
        seed: of the resamples and shuffles.
        interval: the method of the 95 % interval.
        shuffles: number of shuffles of the scores for the chance baseline; 0: no baseline.

    Returns:
        Estimates by dotted name, and by `floor.NAME` the chance baseline: mean and middle 95 % over the shuffles.

    Raises:
        ValueError: for an unknown level and for rows without a finite human score.
    """
    score_N = numbers(columns.score, "score", missing=True)
    keep_N = ~np.isnan(score_N)
    rows = complete_rows(columns, score_N, keep_N)
    coverage = float(keep_N.mean()) if len(keep_N) else float("nan")
    parts = level_statistics(rows, levels)
    estimates = estimate(parts, rows.num_groups, coverage, resamples=resamples, seed=seed, interval=interval)
    if len(score_N) and not keep_N.any():
        estimates = {name: _nothing_scored(found) for name, found in estimates.items()}
    return estimates | (_floor(rows, estimates, shuffles=shuffles, seed=seed) if shuffles else {})


def compare(
    columns: Columns,
    baseline: Sequence[float | None] | Floats,
    *,
    levels: Sequence[str] = LEVELS,
    resamples: int = 2000,
    seed: int = 0,
    interval: Method = "percentile",
) -> dict[str, Estimate]:
    """Each statistic of `columns.score` minus that of `baseline`, on the rows where both are scored.

    The pairs share every resample of groups, so the interval is that of the difference; one that excludes 0 is a
    difference that sampling of groups does not explain. At the level `group` both means are over the groups in which
    both columns are defined: a column that is constant in a group excludes that group for both. `n` and
    `num_undefined` are those of the weaker column, at the level `group` of the pairs.

    Args:
        columns: the rows.
        baseline: the second score column (N,); None or NaN: unscored.
        levels: those of `estimate.LEVELS` to compute.
        resamples: bootstrap resamples of groups.
        seed: of the resamples and shuffles.
        interval: the method of the 95 % interval.
    """
    score_N, baseline_N = numbers(columns.score, "score", missing=True), numbers(baseline, "baseline", missing=True)
    if len(score_N) != len(baseline_N):
        raise ValueError(f"the baseline has {len(baseline_N)} rows, the score {len(score_N)}")
    keep_N = ~(np.isnan(score_N) | np.isnan(baseline_N))
    first, second = (complete_rows(columns, column_N, keep_N) for column_N in (score_N, baseline_N))
    defined_GK = None
    if "group" in levels:
        defined_GK = ~np.isnan(group_values(first)) & ~np.isnan(group_values(second))
    parts = [
        Level(
            one.names,
            one.values - other.values,
            tuple(map(min, one.n, other.n)),
            tuple(map(max, one.num_undefined, other.num_undefined)),
            paired(one.resample, other.resample),
        )
        for one, other in zip(
            level_statistics(first, levels, defined_GK), level_statistics(second, levels, defined_GK), strict=True
        )
    ]
    coverage = float(keep_N.mean()) if len(keep_N) else float("nan")
    return estimate(parts, first.num_groups, coverage, resamples=resamples, seed=seed, interval=interval)


def level_statistics(rows: Rows, levels: Sequence[str], defined_GK: npt.NDArray[np.bool_] | None = None) -> list[Level]:
    """The chosen levels of complete rows, in the order of `LEVELS`; `system` only where there are systems.

    Args:
        rows: complete rows.
        levels: those of `estimate.LEVELS` to compute.
        defined_GK: the groups that the level `group` may use, by statistic; None: all in which it is defined.

    Raises:
        ValueError: for an unknown level.
    """
    unknown = sorted(set(levels) - set(LEVELS))
    if unknown:
        raise ValueError(f"the level must be one of {', '.join(LEVELS)}, not {unknown[0]!r}")
    parts = []
    if "dataset" in levels:
        parts.append(dataset_level(rows))
    values_GK = group_values(rows) if {"group", "aeollm"} & set(levels) else np.zeros((0, 0))
    if "group" in levels:
        kept_GK = values_GK if defined_GK is None else np.where(defined_GK, values_GK, np.nan)
        parts.append(group_level(rows, kept_GK))
    if "system" in levels and rows.system_N is not None:
        parts.append(system_level(rows))
    if "aeollm" in levels:
        parts.append(aeollm_level(rows, values_GK))
    return parts


def estimate(
    parts: Sequence[Level], num_groups: int, coverage: float, *, resamples: int, seed: int, interval: Method
) -> dict[str, Estimate]:
    """Values of `parts` with intervals from one bootstrap that all levels share.

    Args:
        parts: the statistics of each level.
        num_groups: groups to resample.
        coverage: share of scored rows, for every estimate.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
        interval: the method of the 95 % interval.
    """
    if not parts:
        return {}
    values_K = np.concatenate([part.values for part in parts])
    found = intervals(
        _together([part.resample for part in parts]),
        values_K,
        num_groups,
        resamples=resamples,
        seed=seed,
        method=interval,
    )
    names = [name for part in parts for name in part.names]
    counts = [count for part in parts for count in zip(part.n, part.num_undefined, strict=True)]
    return {
        name: Estimate(float(value), ends.low, ends.high, n, coverage, num_undefined, ends.dropped_share)
        for name, value, ends, (n, num_undefined) in zip(names, values_K, found, counts, strict=True)
    }


def _together(resamples: Sequence[Resample]) -> Resample:
    return lambda weights_BG: np.concatenate([resample(weights_BG) for resample in resamples], axis=1)


def _nothing_scored(found: Estimate) -> Estimate:
    return Estimate(float("nan"), float("nan"), float("nan"), 0, 0.0, found.num_undefined, found.dropped_share)


def _floor(rows: Rows, estimates: dict[str, Estimate], *, shuffles: int, seed: int) -> dict[str, Estimate]:
    levels = {name.split(".")[0] for name in estimates}
    nothing_T = np.full(shuffles, np.nan)
    values = shuffled_values(rows, sorted(levels), shuffles=shuffles, seed=seed) if len(rows.human_N) else {}
    return {f"floor.{name}": _of_shuffles(values.get(name, nothing_T), found) for name, found in estimates.items()}


def _of_shuffles(values_T: npt.NDArray[np.floating], found: Estimate) -> Estimate:
    known_T = values_T[~np.isnan(values_T)]
    if len(known_T) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), found.n, found.coverage, found.num_undefined)
    low, high = np.quantile(known_T, [0.025, 0.975])
    return Estimate(float(known_T.mean()), float(low), float(high), found.n, found.coverage, found.num_undefined)
