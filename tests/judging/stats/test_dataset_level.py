"""Statistics over all rows: replicates against brute force, binned intervals against exact ones."""

import numpy as np
import pytest
import scipy.stats

from judging.stats import dataset_level as pooled
from judging.stats.bootstrap import weight_chunk
from judging.stats.dataset_level import dataset_level, quantile_bins
from judging.stats.krippendorff import krippendorff_alpha
from judging.stats.rows import Columns, Rows
from tests.judging.stats.making import simulated, sorted_rows


def brute_force(rows: Rows, weights: np.ndarray) -> np.ndarray:
    """The five dataset statistics of each resample by repeating its rows."""
    found = []
    for weights_G in weights.astype(int):
        repeated = np.repeat(np.arange(len(rows.human_N)), weights_G[rows.group_N])
        human, score = rows.human_N[repeated], rows.score_N[repeated]
        found.append(
            [
                scipy.stats.pearsonr(human, score).statistic,
                scipy.stats.spearmanr(human, score).statistic,
                scipy.stats.kendalltau(human, score).statistic,
                np.abs(human - score).mean(),
                krippendorff_alpha(np.column_stack([human, score])),
            ]
        )
    return np.array(found)


@pytest.mark.parametrize("case", ["comparisons", "table", "float32 table"])
def test_dataset_replicates_are_exact(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = simulated(20, 6, levels=None if case == "comparisons" else 5)
    if case != "comparisons":
        columns = Columns(columns.group, columns.human, np.round(np.asarray(columns.score, float)), columns.system)
    rows = sorted_rows(columns)
    if case == "comparisons":
        monkeypatch.setattr(pooled, "MAX_CELLS", 4)
    if case == "float32 table":
        monkeypatch.setattr(pooled, "MAX_ROWS_FLOAT64", 0)
    weights = weight_chunk(20, 100, (1,))
    tolerance = 1e-5 if case == "float32 table" else 1e-10
    np.testing.assert_allclose(dataset_level(rows).resample(weights), brute_force(rows, weights), atol=tolerance)


# Share of the interval's width by which an end may be off; Pearson is about .9998, .997, .98, .83 and .45.
@pytest.mark.parametrize(("noise", "tolerance"), [(0.03, 0.2), (0.1, 0.1), (0.3, 0.04), (1.0, 0.04), (3.0, 0.04)])
@pytest.mark.parametrize("seed", range(4))
def test_binned_interval_is_close_to_the_exact_one(
    noise: float, tolerance: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sorted_rows(simulated(60, 5, seed=seed, noise=noise))
    weights = weight_chunk(60, 1000, (1,))
    exact = dataset_level(rows).resample(weights)
    monkeypatch.setattr(pooled, "MAX_SUMS", 0)
    level = dataset_level(rows)
    np.testing.assert_allclose(level.resample(np.ones((1, 60)))[0], level.values, atol=1e-10)
    exact_ends, ends = (
        np.quantile(values[:, 1:3], [0.025, 0.975], axis=0) for values in (exact, level.resample(weights))
    )
    width = exact_ends[1] - exact_ends[0]
    assert (np.abs(ends - exact_ends) < tolerance * width).all(), np.abs(ends - exact_ends) / width


def test_quantile_bins_keep_order_and_ties() -> None:
    codes = np.sort(np.random.default_rng(0).integers(0, 500, 2000))
    codes = np.unique(codes, return_inverse=True)[1]
    bins = quantile_bins(codes, 64)
    assert bins.min() == 0 and bins.max() == len(np.unique(bins)) - 1 <= 63
    assert (np.diff(bins) >= 0).all() and (np.diff(bins)[np.diff(codes) == 0] == 0).all()
