"""Agreement over all rows pooled: correlations, error and Krippendorff's alpha, exact and under group weights.

Legend: N rows, G groups, B resamples, K statistics; X human levels, Y score levels (codes in increasing order).
Groups are resampled; rows of one group stay together. Sums per group are enough for Pearson, error and alpha of every
resample. Ranks change with the resample, so Spearman and Kendall need one of the two methods at the end of this file.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from judging.stats.bootstrap import Floats, Resample, weigh
from judging.stats.correlation import Signs, ratio, row_correlations
from judging.stats.estimate import STATISTICS
from judging.stats.rows import Codes, Level, Rows

MAX_CELLS = 64 * 256
NUM_HUMAN_BINS, NUM_SCORE_BINS = 64, 128
# The sums over comparisons cost rows x groups a resample, and rows x rows once.
MAX_SUMS, MAX_ROWS_COMPARED = 1_000_000, 4096
MAX_ROWS_FLOAT64 = 10_000
# Within float rounding of a constant.
CONSTANT = 1e-12


def dataset_level(rows: Rows) -> Level:
    """Pearson, Spearman, Kendall's tau-b, mean absolute error and interval alpha of human and score over all rows.

    Every point estimate is exact. Under resamples all are exact too, except that with many distinct values (more than
    `MAX_CELLS` pairs of a human and a score value, and too many rows to compare them all) Spearman and Kendall are
    computed from quantile bins (64 human x 128 score at most) and moved by the difference of the binned and the exact
    point estimate: the interval's ends are then approximate. Measured against the exact resamples (tests), an end is
    off by less than 4 % of the interval's width up to a Pearson correlation of 0.98, 10 % at 0.997, 20 % at 0.9998.
    """
    exact = row_correlations(rows.human_N[None], rows.score_N[None])
    moments_GM, unit = _moments(rows)
    # NaN where the exact value is; rounding in the moments must not define a constant's correlation.
    values_K = np.concatenate([exact.pearson, exact.spearman, exact.tau_b, _errors(moments_GM.sum(0)[None], unit)[0]])
    rank_resample = _rank_resample(rows)
    binned_2 = rank_resample(np.ones((1, rows.num_groups)))[0]
    shift_2 = np.where(np.isnan(values_K[1:3]), np.nan, values_K[1:3] - binned_2)

    def resample(weights_BG: Floats) -> Floats:
        sums_BM = weigh(weights_BG, moments_GM)
        ranks_B2 = np.clip(rank_resample(weights_BG) + shift_2, -1.0, 1.0)
        return np.column_stack([_pearson(sums_BM), ranks_B2, _errors(sums_BM, unit)])

    count = len(STATISTICS["dataset"])
    return Level(STATISTICS["dataset"], values_K, (len(rows.human_N),) * count, (0,) * count, resample)


def _moments(rows: Rows) -> tuple[Floats, float]:
    """moments_GM, sums per group, and the unit (in points) in which errors and alpha are counted.

    Columns: count, x, y, x^2, y^2, xy (each column centred and scaled), then |e|, v, v^2, e^2 with e the error and v
    both values pooled (centred on their common mean).
    """
    human_N, score_N = rows.human_N, rows.score_N
    x_N, y_N = _scaled(human_N), _scaled(score_N)
    both_2N = np.stack([human_N, score_N])
    # Halves: the difference of two very large floats would leave their range.
    middle = (both_2N / 2).mean() * 2 if both_2N.size else 0.0
    unit = float(np.abs(both_2N / 2 - middle / 2).max(initial=0.0) * 2) or 1.0
    human_u_N, score_u_N = human_N / unit - middle / unit, score_N / unit - middle / unit
    error_N = human_u_N - score_u_N
    columns = [np.ones_like(x_N), x_N, y_N, x_N**2, y_N**2, x_N * y_N]
    columns += [np.abs(error_N), human_u_N + score_u_N, human_u_N**2 + score_u_N**2, error_N**2]
    sums = [np.bincount(rows.group_N, weights=column_N, minlength=rows.num_groups) for column_N in columns]
    return np.column_stack(sums), unit


def _scaled(values_N: Floats) -> Floats:
    if len(values_N) == 0 or values_N.min() == values_N.max():
        return np.zeros(len(values_N))
    half_N = values_N / 2 - (values_N / 2).mean()
    scaled_N: Floats = half_N / np.abs(half_N).max()
    return scaled_N


def _pearson(sums_BM: Floats) -> Floats:
    count_B, x_B, y_B, xx_B, yy_B, xy_B, *_ = sums_BM.T
    count_B = np.maximum(count_B, 1)
    spread_x_B, spread_y_B = xx_B - x_B**2 / count_B, yy_B - y_B**2 / count_B
    constant_B = (spread_x_B <= CONSTANT * xx_B) | (spread_y_B <= CONSTANT * yy_B)
    norm_B = np.where(constant_B, 0.0, np.sqrt(np.maximum(spread_x_B, 0)) * np.sqrt(np.maximum(spread_y_B, 0)))
    return np.clip(ratio(xy_B - x_B * y_B / count_B, norm_B), -1.0, 1.0)


def _errors(sums_BM: Floats, unit: float) -> Floats:
    """Mean absolute error in points and Krippendorff's interval alpha of two raters with no rating missing, (B, 2)."""
    count_B, error_B, pooled_B, squares_B, error_squares_B = sums_BM.T[[0, 6, 7, 8, 9]]
    total_B = 2 * count_B
    expected_B = 2 * total_B * squares_B - 2 * pooled_B**2
    expected_B = np.where(expected_B <= CONSTANT * total_B * squares_B, 0.0, expected_B)
    observed_B = ratio(error_squares_B, count_B) * total_B * (total_B - 1)
    return np.column_stack([ratio(error_B, count_B) * unit, 1 - ratio(observed_B, expected_B)])


def _rank_resample(rows: Rows) -> Resample:
    """W_BG -> (Spearman, Kendall's tau-b) as values_B2, by whichever of the two ways is exact and cheap."""
    human_levels, human_N = np.unique(rows.human_N, return_inverse=True)
    score_levels, score_N = np.unique(rows.score_N, return_inverse=True)
    num_cells = len(human_levels) * len(score_levels)
    num_rows = len(rows.human_N)
    if num_cells > MAX_CELLS // 4 and num_rows <= MAX_ROWS_COMPARED and num_rows * rows.num_groups <= MAX_SUMS:
        return _by_comparisons(rows)
    if num_cells > MAX_CELLS:
        human_N = quantile_bins(human_N, NUM_HUMAN_BINS)
        score_N = quantile_bins(score_N, NUM_SCORE_BINS)
    return _by_table(rows, human_N, score_N)


def quantile_bins(codes_N: Codes, num_bins: int) -> Codes:
    """Codes 0, 1, ... in at most `num_bins` bins of about equal size; order is kept and equal values stay together."""
    counts_V = np.bincount(codes_N)
    if len(counts_V) <= num_bins:
        return codes_N
    share_V = (np.cumsum(counts_V) - counts_V / 2) / len(codes_N)
    _, bin_V = np.unique((share_V * num_bins).astype(np.intp), return_inverse=True)
    return bin_V[codes_N]


def _by_table(rows: Rows, human_N: Codes, score_N: Codes) -> Resample:
    """From the contingency table of each resample: how often each human level met each score level."""
    shape_XY = (int(human_N.max(initial=0)) + 1, int(score_N.max(initial=0)) + 1)
    # Counts are exact in either; their products only need the digits of an interval when there are many rows.
    dtype = np.float64 if len(human_N) <= MAX_ROWS_FLOAT64 else np.float32
    cells_N = human_N * shape_XY[1] + score_N
    table_CG = scipy.sparse.csr_array(
        (np.ones(len(cells_N), dtype), (cells_N, rows.group_N)), shape=(shape_XY[0] * shape_XY[1], rows.num_groups)
    )
    table_CG.sum_duplicates()

    def resample(weights_BG: Floats) -> Floats:
        step = 64
        chunks = [weights_BG[i : i + step] for i in range(0, len(weights_BG), step)]
        tables = [table_CG @ np.ascontiguousarray(chunk_BG.T, dtype=dtype) for chunk_BG in chunks]
        return np.concatenate([_table_statistics(table.reshape(*shape_XY, -1)) for table in tables])

    return resample


def _table_statistics(table_XYB: Floats) -> Floats:
    """Spearman and tau-b (B, 2) of contingency tables."""
    human_XB, score_YB = table_XYB.sum(axis=1, dtype=float), table_XYB.sum(axis=0, dtype=float)
    total_B = human_XB.sum(axis=0)
    human_ranks_XB, score_ranks_YB = _table_ranks(human_XB), _table_ranks(score_YB)
    ranks_YB = score_ranks_YB.astype(table_XYB.dtype)
    product_B, concordance_B = np.zeros_like(total_B), np.zeros_like(total_B)
    lower_YB = np.zeros_like(table_XYB[0])
    for cells_YB, ranks_B in zip(table_XYB, human_ranks_XB, strict=True):
        product_B += ranks_B * np.einsum("yb,yb->b", cells_YB, ranks_YB)
        # Of the rows with a lower human score: those with a lower score minus those with a higher one.
        balance_YB = 2 * np.cumsum(lower_YB, axis=0) - lower_YB - lower_YB.sum(axis=0)
        concordance_B += np.einsum("yb,yb->b", cells_YB, balance_YB)
        lower_YB += cells_YB
    norms_B = np.sqrt((human_XB * human_ranks_XB**2).sum(axis=0)) * np.sqrt((score_YB * score_ranks_YB**2).sum(axis=0))
    untied_human_B = (total_B**2 - (human_XB**2).sum(axis=0)) / 2
    untied_score_B = (total_B**2 - (score_YB**2).sum(axis=0)) / 2
    tau_b_B = ratio(concordance_B, np.sqrt(untied_human_B) * np.sqrt(untied_score_B))
    return np.column_stack([ratio(product_B, norms_B), tau_b_B])


def _table_ranks(counts_XB: Floats) -> Floats:
    ranks_XB: Floats = np.cumsum(counts_XB, axis=0) - counts_XB / 2 - counts_XB.sum(axis=0) / 2
    return ranks_XB


def _by_comparisons(rows: Rows) -> Resample:
    """From sums of comparisons between groups: exact for any values, at a cost of rows x groups a resample.

    With s_ij the comparison of rows i and j, row i's centred midrank is half the weighted sum of s_ij over j, and S of
    Kendall is half the weighted sum of products of human and score comparisons.
    """
    human_NG, score_NG, product_GG, human_GG, score_GG = _comparison_sums(rows)

    def resample(weights_BG: Floats) -> Floats:
        weights_BN = weights_BG[:, rows.group_N]
        human_BN, score_BN = weights_BG @ human_NG.T, weights_BG @ score_NG.T
        norm_B = np.sqrt(np.einsum("bn,bn,bn->b", weights_BN, human_BN, human_BN))
        norm_B *= np.sqrt(np.einsum("bn,bn,bn->b", weights_BN, score_BN, score_BN))
        spearman_B = ratio(np.einsum("bn,bn,bn->b", weights_BN, human_BN, score_BN), norm_B)
        sums = [np.einsum("bg,bg->b", weights_BG @ sums_GG, weights_BG) for sums_GG in (product_GG, human_GG, score_GG)]
        return np.column_stack([spearman_B, ratio(sums[0], np.sqrt(sums[1]) * np.sqrt(sums[2]))])

    return resample


def _comparison_sums(rows: Rows) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Comparisons summed over groups: human_NG, score_NG, and over both rows' groups product_GG, human_GG, score_GG."""
    num_rows, num_groups = len(rows.human_N), rows.num_groups
    member_NG = scipy.sparse.csr_array(
        (np.ones(num_rows, np.float32), (np.arange(num_rows), rows.group_N)), shape=(num_rows, num_groups)
    )
    human_NG, score_NG = np.zeros((num_rows, num_groups)), np.zeros((num_rows, num_groups))
    totals = [np.zeros((num_groups, num_groups)) for _ in range(3)]
    step = max(1, 2_000_000 // max(num_rows, 1))
    for start in range(0, num_rows, step):
        part = slice(start, start + step)
        human_MN, score_MN = _compare(rows.human_N, part), _compare(rows.score_N, part)
        human_NG[part] = (human_MN.astype(np.float32)) @ member_NG
        score_NG[part] = (score_MN.astype(np.float32)) @ member_NG
        products = (human_MN * score_MN, np.abs(human_MN), np.abs(score_MN))
        for total_GG, product_MN in zip(totals, products, strict=True):
            total_GG += member_NG[part].T @ (product_MN.astype(np.float32) @ member_NG)
    return human_NG, score_NG, totals[0], totals[1], totals[2]


def _compare(values_N: Floats, part: slice) -> Signs:
    left, right = values_N[part, None], values_N[None, :]
    return (left > right).view(np.int8) - (left < right).view(np.int8)
