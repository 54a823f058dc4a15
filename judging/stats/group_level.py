"""Agreement within groups, of system means, and as defined by AEOLLM: exact and under group weights.

Legend: G groups, S systems, B resamples, K statistics.
Groups are compared once; a resample only weights the values of the groups. It knows no files and no intervals.
"""

from __future__ import annotations

import numpy as np

from judging.stats.bootstrap import Floats, weigh
from judging.stats.correlation import RowCorrelations, equalised, ratio, row_correlations
from judging.stats.estimate import STATISTICS
from judging.stats.rows import Level, Rows

ACCURACY = RowCorrelations._fields.index("pairwise_accuracy")
TAU_B = RowCorrelations._fields.index("tau_b")
SPEARMAN = RowCorrelations._fields.index("spearman")


def group_values(rows: Rows) -> Floats:
    """values_GK of all groups: the columns of `RowCorrelations`, NaN where undefined."""
    values_GK = np.full((rows.num_groups, len(RowCorrelations._fields)), np.nan)
    for groups_G, rows_GN in rows.groups_by_size().values():
        values_GK[groups_G] = np.column_stack(row_correlations(rows.human_N[rows_GN], rows.score_N[rows_GN]))
    return values_GK


def group_level(rows: Rows, values_GK: Floats) -> Level:
    """Mean over groups of the correlation within the group; groups where it is undefined are left out and counted."""
    defined_GK = ~np.isnan(values_GK)
    known_GK = np.where(defined_GK, values_GK, 0.0)

    def resample(weights_BG: Floats) -> Floats:
        return ratio(weigh(weights_BG, known_GK), weigh(weights_BG, defined_GK.astype(float)))

    counts = tuple(int(count) for count in defined_GK.sum(axis=0))
    undefined = tuple(rows.num_groups - count for count in counts)
    return Level(STATISTICS["group"], resample(np.ones((1, rows.num_groups)))[0], counts, undefined, resample)


def aeollm_values(values_GK: Floats) -> Floats:
    """The five AEOLLM statistics of each group, from the columns of `RowCorrelations` (last axis).

    Accuracy over the pairs without a human tie, a model tie counting 0.5, and 1 where every pair is a human tie;
    Kendall's tau-b and Spearman, NaN counting 0. `official` takes the absolute value of both correlations, as the
    organisers' code does; `signed` keeps the sign. Source: NTCIR-18 AEOLLM, evaluation code of the organisers.
    """
    accuracy_G = np.where(np.isnan(values_GK[..., ACCURACY]), 1.0, values_GK[..., ACCURACY])
    kendall_G, spearman_G = np.nan_to_num(values_GK[..., TAU_B]), np.nan_to_num(values_GK[..., SPEARMAN])
    return np.stack([accuracy_G, np.abs(kendall_G), np.abs(spearman_G), kendall_G, spearman_G], axis=-1)


def aeollm_level(rows: Rows, values_GK: Floats) -> Level:
    """Mean over groups (questions) of `aeollm_values`; groups with fewer than two scored rows are left out and counted.

    A group that a constant model makes undefined counts 0; a group that unscored rows leave without a pair does not.
    """
    compared_G = rows.group_sizes() >= 2
    known_GK = np.where(compared_G[:, None], aeollm_values(values_GK), 0.0)

    def resample(weights_BG: Floats) -> Floats:
        return ratio(weigh(weights_BG, known_GK), weigh(weights_BG, compared_G[:, None].astype(float)))

    names, count = STATISTICS["aeollm"], int(compared_G.sum())
    undefined = (rows.num_groups - count,) * len(names)
    values_K = resample(np.ones((1, rows.num_groups)))[0]
    return Level(names, values_K, (count,) * len(names), undefined, resample)


def system_statistics(human_BS: Floats, score_BS: Floats) -> Floats:
    """Pearson, Spearman and tau-b (B, 3) of system means; NaN: the system is absent. Equal within rounding is a tie."""
    rows = row_correlations(equalised(human_BS), equalised(score_BS))
    return np.column_stack([rows.pearson, rows.spearman, rows.tau_b])


def system_level(rows: Rows) -> Level:
    """Correlation of the systems' mean human score with their mean score, over the scored rows.

    Under a resample of groups a system may lose all its rows; it is left out of that resample. A row that names no
    system is left out.
    """
    assert rows.system_N is not None
    shape_GS = (rows.num_groups, rows.num_systems)
    named_N = rows.has_system_N
    cell_N = (rows.group_N * rows.num_systems + rows.system_N)[named_N]
    columns = (column_N[named_N] for column_N in (np.ones_like(rows.human_N), rows.human_N, rows.score_N))
    count_GS, human_GS, score_GS = (
        np.bincount(cell_N, weights=column_N, minlength=shape_GS[0] * shape_GS[1]).reshape(shape_GS).astype(float)
        for column_N in columns
    )

    def resample(weights_BG: Floats) -> Floats:
        count_BS, human_BS, score_BS = (weigh(weights_BG, sums_GS) for sums_GS in (count_GS, human_GS, score_GS))
        return system_statistics(ratio(human_BS, count_BS), ratio(score_BS, count_BS))

    names = STATISTICS["system"]
    values_K = resample(np.ones((1, rows.num_groups)))[0]
    return Level(names, values_K, (rows.num_systems,) * len(names), (0,) * len(names), resample)
