"""Correlations of human scores with a model's scores along the rows of two arrays, one value per row.

Legend: G groups (rows), N candidates of a group (columns), C rows of one chunk.
Rows up to `MAX_COMPARED` long get all their rank statistics from the same N x N comparisons; a longer row is sorted
instead (O(N log N)). It knows no files, bootstrap or levels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Signs = npt.NDArray[np.int8]

MAX_COMPARED = 128
ROUNDING = 1e-9
LAST_BITS = 1e-15  # of the largest value: what is left of a difference that should be 0
# Comparisons in memory at once; each holds a few bytes.
CHUNK_CELLS = 2_000_000


class RowCorrelations(NamedTuple):
    """One value per row; NaN where the statistic is undefined (fewer than two complete pairs, a constant row).

    Range -1 to 1: 1 the same order, 0 no relation, -1 the opposite order; `pairwise_accuracy` goes from 0 to 1.
    """

    pearson: Floats
    spearman: Floats
    tau_a: Floats
    tau_b: Floats
    tau_c: Floats
    pairwise_accuracy: Floats


def row_correlations(human_GN: npt.ArrayLike, score_GN: npt.ArrayLike) -> RowCorrelations:
    """All correlations of `human_GN` with `score_GN`, row by row; shape (G,) each.

    A position that is NaN in either array is left out of its row. Every correlation of a constant row is NaN, tau-a
    too. `spearman` is Pearson's correlation of midranks. With S = concordant minus discordant pairs of n rows:
    `tau_a` = S / (n (n-1) / 2); `tau_b` = S / sqrt(pairs untied in human * pairs untied in score), Kendall 1945;
    `tau_c` = 2 S / (n^2 (m-1) / m) with m the smaller number of distinct values, Stuart 1953.
    `pairwise_accuracy` is over the pairs without a human tie: 1 for the same order, 0.5 for a model tie; it is defined
    for a constant model row (0.5) and NaN only where every pair is a human tie.
    """
    human_GN, score_GN = np.asarray(human_GN, float), np.asarray(score_GN, float)
    if human_GN.ndim != 2 or human_GN.shape != score_GN.shape:
        raise ValueError(
            f"human and score must have the same shape (groups, size), not {human_GN.shape} and {score_GN.shape}"
        )
    missing_GN = np.isnan(human_GN) | np.isnan(score_GN)
    if missing_GN.any():
        human_GN, score_GN = np.where(missing_GN, np.nan, human_GN), np.where(missing_GN, np.nan, score_GN)
    num_groups, size = human_GN.shape
    if num_groups == 0 or size == 0:
        return RowCorrelations(*(np.full(num_groups, np.nan) for _ in RowCorrelations._fields))
    if size > MAX_COMPARED:
        return _stack([_long_row(human_N, score_N) for human_N, score_N in zip(human_GN, score_GN, strict=True)])
    step = max(1, CHUNK_CELLS // max(size * size, 1))
    return _stack([_short_rows(human_GN[i : i + step], score_GN[i : i + step]) for i in range(0, num_groups, step)])


def centred_ranks(values_GN: Floats) -> Floats:
    """Twice the midrank minus its mean: whole numbers from -(N-1) to N-1, 0 all along a constant row; no NaN."""
    num_groups, size = values_GN.shape
    if size > MAX_COMPARED:
        return np.stack([_sorted_ranks(values_N) for values_N in values_GN])
    step = max(1, CHUNK_CELLS // max(size * size, 1))
    chunks = [compare_all(values_GN[i : i + step]).sum(axis=2, dtype=np.int32) for i in range(0, num_groups, step)]
    return np.concatenate(chunks).astype(float) if chunks else np.zeros(values_GN.shape)


def compare_all(values_CN: Floats) -> Signs:
    """signs_CNN[c, i, j] = 1 where value i is larger than value j, -1 where smaller, 0 for ties and NaN."""
    left, right = values_CN[:, :, None], values_CN[:, None, :]
    return (left > right).view(np.int8) - (left < right).view(np.int8)


def standardise(values_GN: Floats) -> Floats:
    """Rows with mean 0 and sum of squares 1, so that a product of two rows is a correlation; NaN for a constant row.

    Constancy is read off the values, not off their variance: the mean of equal floats may differ from each of them.
    NaN positions stay out of the mean and become 0.
    """
    known_GN = ~np.isnan(values_GN)
    low_G1 = np.where(known_GN, values_GN, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high_G1 = np.where(known_GN, values_GN, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    count_G1 = np.maximum(known_GN.sum(axis=1, keepdims=True), 1)
    # Divided first: squares of very large and very small values would leave the range of floats.
    scale_G1 = np.where(high_G1 > low_G1, high_G1 / 2 - low_G1 / 2, np.nan)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scaled_GN = np.where(known_GN, (values_GN / 2 - low_G1 / 2) / scale_G1, 0.0)
        centred_GN = np.where(known_GN, scaled_GN - scaled_GN.sum(axis=1, keepdims=True) / count_G1, 0.0)
        unit_GN: Floats = centred_GN / np.sqrt((centred_GN**2).sum(axis=1, keepdims=True))
    return np.where(high_G1 > low_G1, unit_GN, np.nan)


def equalised(values_GN: Floats) -> Floats:
    """Rows in which values that are equal within rounding are the same number, so that they tie.

    Within rounding: nearer to each other than `ROUNDING` of their size, or than `LAST_BITS` of the row's largest.
    Means of equal scores differ in their last bits. Values one after the other that close are all set to the smallest.
    """
    if values_GN.size == 0:
        return values_GN
    order_GN = np.argsort(values_GN, axis=1, kind="stable")  # NaN last
    sorted_GN = np.take_along_axis(values_GN, order_GN, axis=1)
    low_GN, high_GN = sorted_GN[:, :-1], sorted_GN[:, 1:]
    with np.errstate(invalid="ignore", over="ignore"):
        size_GN = np.maximum(np.abs(low_GN), np.abs(high_GN))
        largest_G1 = np.nanmax(np.abs(values_GN), axis=1, keepdims=True, initial=0.0)
        is_tie_GN = high_GN - low_GN <= np.maximum(ROUNDING * size_GN, LAST_BITS * largest_G1)
    if not (is_tie_GN & (high_GN > low_GN)).any():
        return values_GN
    first_GN = np.zeros(values_GN.shape, dtype=np.intp)
    first_GN[:, 1:] = np.where(is_tie_GN, 0, np.arange(1, values_GN.shape[1]))
    first_GN = np.maximum.accumulate(first_GN, axis=1)
    found_GN = np.empty_like(values_GN)
    np.put_along_axis(found_GN, order_GN, np.take_along_axis(sorted_GN, first_GN, axis=1), axis=1)
    return found_GN


def ratio(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where bottom is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom == 0, np.nan, top / bottom)


def known_mean(values_GK: Floats) -> Floats:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    known_GK = ~np.isnan(values_GK)
    return ratio(np.where(known_GK, values_GK, 0.0).sum(axis=0), known_GK.sum(axis=0).astype(float))


def from_counts(
    concordance_G: Floats, size_G: Floats, untied_human_G: Floats, untied_score_G: Floats, num_classes_G: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """tau_a, tau_b, tau_c and pairwise accuracy (G,) from counts of pairs.

    Args:
        concordance_G: S, concordant minus discordant pairs.
        size_G: rows of each group.
        untied_human_G: pairs without a human tie.
        untied_score_G: pairs without a model tie.
        num_classes_G: the smaller number of distinct values of the two columns.
    """
    defined_G = (untied_human_G > 0) & (untied_score_G > 0)
    pairs_G = np.where(defined_G, size_G * (size_G - 1) / 2, 0.0)
    bound_G = np.where(defined_G, size_G**2 * (num_classes_G - 1) / np.maximum(num_classes_G, 1) / 2, 0.0)
    return (
        ratio(concordance_G, pairs_G),
        np.clip(ratio(concordance_G, np.sqrt(untied_human_G) * np.sqrt(untied_score_G)), -1.0, 1.0),
        ratio(concordance_G, bound_G),
        # Concordant pairs plus half of the model's ties = (S + untied pairs) / 2.
        ratio(concordance_G + untied_human_G, 2 * untied_human_G),
    )


def _stack(parts: list[RowCorrelations]) -> RowCorrelations:
    return RowCorrelations(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _short_rows(human_CN: Floats, score_CN: Floats) -> RowCorrelations:
    human_CNN, score_CNN = compare_all(human_CN), compare_all(score_CN)
    concordance_C = (human_CNN * score_CNN).sum(axis=(1, 2), dtype=np.int32) / 2
    untied_human_C = np.abs(human_CNN).sum(axis=(1, 2), dtype=np.int32) / 2
    untied_score_C = np.abs(score_CNN).sum(axis=(1, 2), dtype=np.int32) / 2
    human_ranks_CN = human_CNN.sum(axis=2, dtype=np.int32).astype(float)
    score_ranks_CN = score_CNN.sum(axis=2, dtype=np.int32).astype(float)
    norms_C = np.sqrt((human_ranks_CN**2).sum(axis=1)) * np.sqrt((score_ranks_CN**2).sum(axis=1))
    return RowCorrelations(
        _pearson(human_CN, score_CN),
        np.clip(ratio((human_ranks_CN * score_ranks_CN).sum(axis=1), norms_C), -1.0, 1.0),
        *from_counts(
            concordance_C,
            (~np.isnan(human_CN)).sum(axis=1).astype(float),
            untied_human_C,
            untied_score_C,
            np.minimum(num_distinct(human_CN), num_distinct(score_CN)),
        ),
    )


def _pearson(human_CN: Floats, score_CN: Floats) -> Floats:
    product_C: Floats = (standardise(human_CN) * standardise(score_CN)).sum(axis=1)
    return np.clip(product_C, -1.0, 1.0)


def num_distinct(values_CN: Floats) -> Floats:
    """Number of different values a row (C,); NaN is not one."""
    sorted_CN = np.sort(values_CN, axis=1)
    first_C = (~np.isnan(sorted_CN[:, :1])).sum(axis=1)
    distinct_C: Floats = (first_C + (sorted_CN[:, 1:] > sorted_CN[:, :-1]).sum(axis=1)).astype(float)
    return distinct_C


def _long_row(human_N: Floats, score_N: Floats) -> RowCorrelations:
    known_N = ~np.isnan(human_N)
    human_N, score_N = human_N[known_N], score_N[known_N]
    human_1N, score_1N = human_N[None], score_N[None]
    if len(human_N) <= MAX_COMPARED:
        return _short_rows(human_1N, score_1N)
    human_codes_N, score_codes_N = (np.unique(values_N, return_inverse=True)[1] for values_N in (human_N, score_N))
    both_codes_N = human_codes_N * (score_codes_N.max() + 1) + score_codes_N
    untied_human, untied_score, untied_either = map(_untied_pairs, (human_codes_N, score_codes_N, both_codes_N))
    # Sorted by human, then score, exactly the discordant pairs are out of order.
    discordant = _inversions(score_codes_N[np.argsort(both_codes_N, kind="stable")])
    concordance = untied_human + untied_score - untied_either - 2 * discordant
    human_1, score_1 = np.array([float(untied_human)]), np.array([float(untied_score)])
    classes_1 = np.minimum(num_distinct(human_1N), num_distinct(score_1N))
    return RowCorrelations(
        _pearson(human_1N, score_1N),
        _pearson(_sorted_ranks(human_N)[None], _sorted_ranks(score_N)[None]),
        *from_counts(np.array([float(concordance)]), np.array([float(len(human_N))]), human_1, score_1, classes_1),
    )


def _sorted_ranks(values_N: Floats) -> Floats:
    _, codes_N, counts_V = np.unique(values_N, return_inverse=True, return_counts=True)
    ranks_N: Floats = (2.0 * np.cumsum(counts_V) - counts_V - len(values_N))[codes_N]
    return ranks_N


def _untied_pairs(codes_N: npt.NDArray[np.intp]) -> int:
    counts_V = np.unique(codes_N, return_counts=True)[1]
    return (len(codes_N) ** 2 - int((counts_V**2).sum())) // 2


def _inversions(codes_N: npt.NDArray[np.intp]) -> int:
    """Pairs with the larger code first, bit by bit: they agree above the bit, and a 1 comes before a 0."""
    total = 0
    for bit in reversed(range(int(codes_N.max()).bit_length())):
        ones_N = (codes_N >> bit) & 1
        before_N = np.cumsum(ones_N) - ones_N
        prefix_N = codes_N >> (bit + 1)
        new_N = np.concatenate([[True], prefix_N[1:] != prefix_N[:-1]])
        before_prefix_N = np.maximum.accumulate(np.where(new_N, before_N, 0))
        total += int((before_N - before_prefix_N)[ones_N == 0].sum())
        codes_N = codes_N[np.argsort(codes_N >> bit, kind="stable")]
    return total
