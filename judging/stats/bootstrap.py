"""Bootstrap over groups: replicates and 95 % intervals of a function of group weights.

Legend: G groups, B resamples, J jackknife samples, K statistics.
A resample of groups with replacement is a vector of whole-number weights, so a statistic is a function from a weight
matrix W_BG to values_BK. It knows no statistic, no files and no scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Resample = Callable[[Floats], Floats]
Method = Literal["percentile", "bca"]

MAX_BLOCKS = 1000
# Weights of a chunk stay below 16 MB; its rows depend on the number of groups only, so results do not on the machine.
CHUNK_CELLS = 2_000_000
CHUNK_ROWS = 128
CACHE_CELLS = 16_384
BLAS_CELLS = 250_000
# Replicates this close to the point estimate count as equal to it.
TOLERANCE = 1e-6


class Interval(NamedTuple):
    """Ends of an interval; NaN: undefined. `dropped_share` (0 to 1): replicates left out because they were NaN."""

    low: float
    high: float
    dropped_share: float


def weight_chunk(num_groups: int, num_rows: int, seed: tuple[int, ...]) -> Floats:
    """W_BG of `num_rows` resamples: how often each group was sampled; rows sum to `num_groups`.

    Args:
        num_groups: G, and samples per resample.
        num_rows: B.
        seed: of the random generator.
    """
    random = np.random.default_rng(seed)
    weights_BG = np.empty((num_rows, num_groups))
    # A few rows at a time stay in the processor's cache.
    step = max(1, CACHE_CELLS // num_groups)
    for start in range(0, num_rows, step):
        drawn_BG = random.integers(0, num_groups, size=(min(step, num_rows - start), num_groups))
        drawn_BG += np.arange(len(drawn_BG))[:, None] * num_groups
        counts = np.bincount(drawn_BG.ravel(), minlength=drawn_BG.size)
        weights_BG[start : start + step] = counts.reshape(drawn_BG.shape)
    return weights_BG


def weigh(weights_BG: Floats, values_GK: Floats) -> Floats:
    """weights_BG @ values_GK for few columns K, in slices that the BLAS library computes on the calling thread.

    Larger products start the library's own threads: twice the processor time for the same seconds with so few columns,
    and several times the seconds where another process holds a core.
    """
    num_rows, num_columns = len(weights_BG), values_GK.shape[1]
    step = max(1, BLAS_CELLS // max(num_rows * num_columns, 1))
    sums_BK = np.zeros((num_rows, num_columns))
    for start in range(0, len(values_GK), step):
        sums_BK += weights_BG[:, start : start + step] @ values_GK[start : start + step]
    return sums_BK


def jackknife_weights(num_groups: int, max_blocks: int = MAX_BLOCKS) -> Iterator[Floats]:
    """Chunks of W_JG: row j is 1 everywhere but 0 in block j; a block is one group up to `max_blocks` groups."""
    num_blocks = min(num_groups, max_blocks)
    block_G = np.arange(num_groups) % num_blocks
    step = _chunk_rows(num_groups)
    for start in range(0, num_blocks, step):
        blocks_J = np.arange(start, min(start + step, num_blocks))
        yield (block_G[None, :] != blocks_J[:, None]).astype(float)


def replicates(resample: Resample, num_groups: int, *, resamples: int, seed: int) -> Floats:
    """values_BK of `resamples` bootstrap resamples. The same seed and number of groups give the same resamples.

    Args:
        resample: values_BK of the statistics under group weights.
        num_groups: groups to resample.
        resamples: B.
        seed: of the resamples.
    """
    step = _chunk_rows(num_groups)
    starts = range(0, resamples, step)

    def one(chunk: int) -> Floats:
        num_rows = min(step, resamples - starts[chunk])
        # Always sampled in full, so that fewer resamples are a prefix of more.
        return resample(weight_chunk(num_groups, step, (seed, 0, chunk))[:num_rows])

    return np.concatenate([one(chunk) for chunk in range(len(starts))])


def jackknife(resample: Resample, num_groups: int) -> Floats:
    """values_JK, each with one group (or one block of groups) left out."""
    return np.concatenate([resample(weights_JG) for weights_JG in jackknife_weights(num_groups)])


def intervals(
    resample: Resample,
    values_K: Floats,
    num_groups: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
    level: float = 0.95,
) -> list[Interval]:
    """One interval for each of the point estimates `values_K`; NaN ends with fewer than two groups.

    Args:
        resample: values_BK of the statistics under group weights.
        values_K: the point estimates.
        num_groups: groups to resample.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
        method: `percentile` or `bca`.
        level: confidence, 0 to 1.
    """
    if num_groups < 2:
        return [Interval(np.nan, np.nan, 0.0) for _ in values_K]
    replicates_BK = replicates(resample, num_groups, resamples=resamples, seed=seed)
    if method == "percentile":
        return [percentile_interval(replicates_BK[:, k], level) for k in range(len(values_K))]
    deleted_JK = jackknife(resample, num_groups)
    return [
        bca_interval(float(values_K[k]), replicates_BK[:, k], deleted_JK[:, k], level) for k in range(len(values_K))
    ]


def paired(first: Resample, second: Resample) -> Resample:
    """The difference first - second under the same weights; both see the same groups in the same order."""
    return lambda weights_BG: first(weights_BG) - second(weights_BG)


def percentile_interval(replicates_B: Floats, level: float = 0.95) -> Interval:
    """The middle `level` of the replicates that are numbers (Efron 1979)."""
    known_B = replicates_B[~np.isnan(replicates_B)]
    dropped_share = 1 - len(known_B) / max(len(replicates_B), 1)
    if len(known_B) == 0:
        return Interval(np.nan, np.nan, dropped_share)
    low, high = np.quantile(known_B, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), dropped_share)


def bca_interval(value: float, replicates_B: Floats, deleted_J: Floats, level: float = 0.95) -> Interval:
    """Bias-corrected and accelerated interval (Efron 1987); the acceleration comes from `deleted_J`, the jackknife.

    Replicates equal to `value` count half for the bias.

    Args:
        value: the point estimate.
        replicates_B: its bootstrap replicates.
        deleted_J: its jackknife values.
        level: confidence, 0 to 1.

    Returns:
        The interval; NaN ends where `value` or every replicate is NaN.
    """
    from scipy.special import ndtr, ndtri

    known_B = replicates_B[~np.isnan(replicates_B)]
    dropped_share = 1 - len(known_B) / max(len(replicates_B), 1)
    if len(known_B) == 0 or np.isnan(value):
        return Interval(np.nan, np.nan, dropped_share)
    below = (known_B < value - TOLERANCE).sum() + 0.5 * (np.abs(known_B - value) <= TOLERANCE).sum()
    # With all replicates on one side the correction would be infinite.
    bias = ndtri(np.clip(below / len(known_B), 0.5 / len(known_B), 1 - 0.5 / len(known_B)))
    shift = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    room = 1 - acceleration(deleted_J) * shift
    shares = np.where(room > 0, ndtr(bias + shift / np.where(room > 0, room, 1.0)), (shift > 0).astype(float))
    low, high = np.quantile(known_B, shares)
    return Interval(float(low), float(high), dropped_share)


def acceleration(deleted_J: Floats) -> float:
    """sum(d^3) / (6 sum(d^2)^1.5), d the jackknife's mean minus its values; 0 where nothing varies. NaN is left out."""
    known_J = deleted_J[~np.isnan(deleted_J)]
    if len(known_J) < 2:
        return 0.0
    deviation_J = known_J.mean() - known_J
    largest = float(np.abs(deviation_J).max())
    if largest == 0:
        return 0.0
    # The acceleration has no unit; dividing first keeps the cubes of small deviations inside the range of floats.
    deviation_J = deviation_J / largest
    return float((deviation_J**3).sum() / (6 * (deviation_J**2).sum() ** 1.5))


def _chunk_rows(num_groups: int) -> int:
    return max(4, min(CHUNK_ROWS, CHUNK_CELLS // max(num_groups, 1)))
