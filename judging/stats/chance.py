"""The chance baseline: the same statistics with shuffled scores.

Legend: N rows, G groups of one size n, H offsets, S systems, T shuffles, K statistics.
Ties, group sizes and missing rows are kept; only the assignment of scores to candidates is random. Group, system and
AEOLLM statistics shuffle within the group, dataset statistics over all rows. The baseline need not be 0: absolute
values raise it, and where rows are unscored a good system still raises the mean of the groups it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from judging.stats.bootstrap import Floats
from judging.stats.correlation import (
    MAX_COMPARED,
    RowCorrelations,
    Signs,
    centred_ranks,
    from_counts,
    known_mean,
    num_distinct,
    ratio,
    standardise,
)
from judging.stats.dataset_level import quantile_bins
from judging.stats.estimate import STATISTICS
from judging.stats.group_level import SPEARMAN, TAU_B, aeollm_values, system_statistics
from judging.stats.rows import Codes, Rows

Integers = npt.NDArray[np.integer]
Number = TypeVar("Number", bound=np.generic)

# Rows longer than `MAX_COMPARED` count concordant pairs between quantile bins.
NUM_BINS = 32


def shuffled_values(rows: Rows, levels: Sequence[str], *, shuffles: int, seed: int) -> dict[str, Floats]:
    """Name of the statistic -> its values (T,) with shuffled scores.

    Args:
        rows: complete rows.
        levels: those of `estimate.LEVELS` to compute.
        shuffles: T.
        seed: of the shuffles.
    """
    found: dict[str, Floats] = {}
    if "dataset" in levels:
        whole = _Shuffler(rows, np.arange(len(rows.human_N))[None])
        values_TK = np.stack([_dataset_shuffle(rows, whole, (seed, 1, shuffle)) for shuffle in range(shuffles)])
        found |= dict(zip(STATISTICS["dataset"], values_TK.T, strict=True))
    if set(levels) & {"group", "system", "aeollm"}:
        found |= _within_groups(rows, levels, shuffles=shuffles, seed=seed)
    return found


class _Shuffler:
    """All groups of one size, prepared so that a shuffle costs three row products and one pass over the pairs."""

    def __init__(self, rows: Rows, rows_GN: Codes) -> None:
        human_GN, score_GN = rows.human_N[rows_GN], rows.score_N[rows_GN]
        human_ranks_GN, score_ranks_GN = centred_ranks(human_GN), centred_ranks(score_GN)
        num_rows = len(rows.score_N)
        self.rows_GN = rows_GN
        self.human_GN = standardise(human_GN)
        self.human_ranks_GN = standardise(human_ranks_GN)
        self.score_N = _scatter(rows_GN, standardise(score_GN), num_rows)
        self.score_ranks_N = _scatter(rows_GN, standardise(score_ranks_GN), num_rows)
        self.is_short = rows_GN.shape[1] <= MAX_COMPARED
        codes_GN = score_ranks_GN.astype(np.int8) if self.is_short else _bin_rows(score_ranks_GN)
        self.score_codes_N: Integers = _scatter(rows_GN, codes_GN, num_rows)
        self.human_signs_HNG = _offset_signs(human_ranks_GN.astype(np.int8).T) if self.is_short else []
        self.human_codes_GN = rows_GN if self.is_short else _bin_rows(human_ranks_GN)
        self.untied_human_G = _untied_pairs(human_GN)
        self.untied_score_G = _untied_pairs(score_GN)
        self.num_classes_G = np.minimum(num_distinct(human_GN), num_distinct(score_GN))

    def values(self, shuffled_GN: Codes) -> Floats:
        """values_GK, the columns of `RowCorrelations`, where row n of group g gets the score of `shuffled_GN[g, n]`."""
        size_G = np.full(len(self.rows_GN), float(self.rows_GN.shape[1]))
        counts = self.untied_human_G, self.untied_score_G, self.num_classes_G
        correlations = RowCorrelations(
            np.einsum("gn,gn->g", self.human_GN, self.score_N[shuffled_GN]),
            np.einsum("gn,gn->g", self.human_ranks_GN, self.score_ranks_N[shuffled_GN]),
            *from_counts(self._concordance(self.score_codes_N[shuffled_GN]), size_G, *counts),
        )
        return np.column_stack(correlations)

    def _concordance(self, codes_GN: Integers) -> Floats:
        if not self.is_short:
            return _binned_concordance(self.human_codes_GN, codes_GN)
        # At most 64 offsets, each adding -1, 0 or 1: 8 bits are enough.
        total_NG = np.zeros(codes_GN.shape[::-1], np.int8)
        for human_NG, score_NG in zip(self.human_signs_HNG, _offset_signs(codes_GN.T), strict=True):
            score_NG *= human_NG
            total_NG[: len(score_NG)] += score_NG
        concordance_G: Floats = total_NG.sum(axis=0, dtype=np.int32).astype(float)
        return concordance_G


def _offset_signs(codes_NG: Integers) -> list[Signs]:
    """Comparisons of row i with row i + 1, i + 2, ... (round the end): every pair once, in long contiguous arrays."""
    size = len(codes_NG)
    twice_NG = np.concatenate([codes_NG, codes_NG])
    signs = []
    for offset in range(1, size // 2 + 1):
        # With an even size the last offset meets every pair from both ends.
        length = size // 2 if 2 * offset == size else size
        left_NG, right_NG = twice_NG[:length], twice_NG[offset : offset + length]
        signs.append((left_NG > right_NG).view(np.int8) - (left_NG < right_NG).view(np.int8))
    return signs


def _binned_concordance(human_GN: Codes, score_GN: Integers) -> Floats:
    """Concordant minus discordant pairs (G,) between bins of human and score."""
    num_groups = len(human_GN)
    cells_GN = (np.arange(num_groups)[:, None] * NUM_BINS + human_GN) * NUM_BINS + score_GN
    counts = np.bincount(cells_GN.ravel(), minlength=num_groups * NUM_BINS**2)
    table_GXY = counts.reshape(num_groups, NUM_BINS, NUM_BINS).astype(float)
    lower_GXY = np.cumsum(table_GXY, axis=1) - table_GXY
    balance_GXY = 2 * np.cumsum(lower_GXY, axis=2) - lower_GXY - lower_GXY.sum(axis=2, keepdims=True)
    concordance_G: Floats = np.einsum("gxy,gxy->g", table_GXY, balance_GXY)
    return concordance_G


def _bin_rows(ranks_GN: Floats) -> Codes:
    bins = [quantile_bins(np.unique(ranks_N, return_inverse=True)[1], NUM_BINS) for ranks_N in ranks_GN]
    return np.array(bins, dtype=np.intp).reshape(ranks_GN.shape)


def _scatter(rows_GN: Codes, values_GN: npt.NDArray[Number], num_rows: int) -> npt.NDArray[Number]:
    values_N = np.zeros(num_rows, values_GN.dtype)
    values_N[rows_GN] = values_GN
    return values_N


def _untied_pairs(values_GN: Floats) -> Floats:
    """Pairs of unequal values a row: all pairs minus those within each run of equal sorted values."""
    sorted_GN = np.sort(values_GN, axis=1)
    new_GN = np.ones(sorted_GN.shape, bool)
    new_GN[:, 1:] = sorted_GN[:, 1:] > sorted_GN[:, :-1]
    runs_N = np.cumsum(new_GN.ravel()) - 1
    squares_N = np.bincount(runs_N).astype(float) ** 2
    first_row = np.nonzero(new_GN)[0]
    ties_G = np.bincount(first_row, weights=squares_N, minlength=len(values_GN))
    untied_G: Floats = (values_GN.shape[1] ** 2 - ties_G) / 2
    return untied_G


def _dataset_shuffle(rows: Rows, whole: _Shuffler, seed: tuple[int, ...]) -> Floats:
    order_N = np.random.default_rng(seed).permutation(len(rows.human_N))
    values_K = whole.values(order_N[None])[0]
    score_N = rows.score_N[order_N]
    both = np.concatenate([rows.human_N, score_N])
    error_N = rows.human_N - score_N
    # Two raters without missing ratings: observed and expected squared differences (see judging/stats/krippendorff.py).
    expected = 2 * both.var() * len(both) / max(len(both) - 1, 1)
    alpha = 1 - (error_N**2).mean() / expected if both.min() < both.max() else np.nan
    pearson = RowCorrelations._fields.index("pearson")
    return np.array([values_K[pearson], values_K[SPEARMAN], values_K[TAU_B], np.abs(error_N).mean(), alpha])


def _within_groups(rows: Rows, levels: Sequence[str], *, shuffles: int, seed: int) -> dict[str, Floats]:
    groups = [(groups_G, _Shuffler(rows, rows_GN)) for groups_G, rows_GN in rows.groups_by_size().values()]
    compared_G = rows.group_sizes() >= 2
    num_systems = rows.num_systems if "system" in levels else 0
    named_N = rows.has_system_N
    system_N = rows.system_N[named_N] if rows.system_N is not None else named_N

    def one(shuffle: int) -> Floats:
        random = np.random.default_rng((seed, 2, shuffle))
        values_GK = np.full((rows.num_groups, len(RowCorrelations._fields)), np.nan)
        order_N = np.arange(len(rows.score_N))
        for groups_G, shuffler in groups:
            order_N[shuffler.rows_GN] = random.permuted(shuffler.rows_GN, axis=1)
            values_GK[groups_G] = shuffler.values(order_N[shuffler.rows_GN])
        sums_S: Floats = np.zeros(0)
        if rows.system_N is not None and num_systems:
            sums_S = np.bincount(system_N, weights=rows.score_N[order_N][named_N], minlength=num_systems).astype(float)
        aeollm_K = known_mean(aeollm_values(values_GK[compared_G]))
        return np.concatenate([known_mean(values_GK), aeollm_K, sums_S])

    values_TK = np.stack([one(shuffle) for shuffle in range(shuffles)])
    names = STATISTICS["group"] + STATISTICS["aeollm"]
    found = dict(zip(names, values_TK.T[: len(names)], strict=True))
    if rows.system_N is not None and num_systems:
        count_S = np.bincount(system_N, minlength=num_systems).astype(float)
        human_S = np.bincount(system_N, weights=rows.human_N[named_N], minlength=num_systems) / count_S
        score_TS = ratio(values_TK[:, len(names) :], count_S[None])
        system_TK = system_statistics(np.broadcast_to(human_S, score_TS.shape), score_TS)
        found |= dict(zip(STATISTICS["system"], system_TK.T, strict=True))
    return {name: values_T for name, values_T in found.items() if name.split(".")[0] in levels}
