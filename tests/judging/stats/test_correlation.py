import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from judging.stats import correlation
from judging.stats.correlation import LAST_BITS, ROUNDING, RowCorrelations, centred_ranks, equalised, row_correlations

LEVELS = st.integers(-3, 3).map(float)
FLOATS = st.floats(-1e300, 1e300, allow_nan=False)


def pair(elements: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    shapes = st.tuples(st.integers(1, 4), st.integers(0, 9))
    return shapes.flatmap(lambda shape: st.tuples(*(arrays(float, shape, elements=elements) for _ in range(2))))


def scipy_row(human: np.ndarray, score: np.ndarray) -> list[float]:
    tied = np.ptp(human) == 0 or np.ptp(score) == 0
    i, j = np.triu_indices(len(human), 1)
    signs = np.sign(human[i] - human[j]) * np.sign(score[i] - score[j])
    untied = human[i] != human[j]
    accuracy = ((signs[untied] + 1) / 2).mean() if untied.any() else np.nan
    if tied:
        return [np.nan] * 5 + [accuracy]
    return [
        scipy.stats.pearsonr(human, score).statistic,
        scipy.stats.spearmanr(human, score).statistic,
        signs.mean(),
        scipy.stats.kendalltau(human, score, variant="b").statistic,
        scipy.stats.kendalltau(human, score, variant="c").statistic,
        accuracy,
    ]


def test_by_hand() -> None:
    # Pairs of people 1 1 2 3 and model 1 2 2 3: four concordant, none discordant, one tie each (1-2 and 2-3).
    # tau_a = 4/6, tau_b = 4/sqrt(5*5), tau_c = 2*4 / (16 * 2/3), accuracy = (4 + 0.5) / 5.
    # Centred ranks -1 -1 .5 1.5 and -1.5 0 0 1.5: product 3.75, squares 4.5 each. Pearson: -.75 -.75 .25 1.25 and
    # -1 0 0 1: product 2, squares 2.75 and 2.
    found = row_correlations([[1, 1, 2, 3]], [[1, 2, 2, 3]])
    expected = RowCorrelations(2 / np.sqrt(2.75 * 2), 3.75 / 4.5, 4 / 6, 0.8, 0.75, 0.9)
    np.testing.assert_allclose(np.ravel(found), expected)


@pytest.mark.parametrize("size", [2, 3, 10, 50, 128, 129, 300])
@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_same_as_scipy(size: int, levels: int) -> None:
    random = np.random.default_rng(size * levels)
    human, score = random.integers(0, levels, (2, 6, size)).astype(float)
    found = np.column_stack(row_correlations(human, score))
    np.testing.assert_allclose(found, [scipy_row(*rows) for rows in zip(human, score, strict=True)], atol=1e-12)


def test_long_rows_and_short_rows_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    human, score = np.random.default_rng(0).integers(0, 4, (2, 3, 60)).astype(float)
    human[1, ::3] = np.nan
    short = row_correlations(human, score)
    monkeypatch.setattr(correlation, "MAX_COMPARED", 10)
    np.testing.assert_allclose(row_correlations(human, score), short, atol=1e-12)


def test_chunks_do_not_change_values(monkeypatch: pytest.MonkeyPatch) -> None:
    human, score = np.random.default_rng(0).normal(size=(2, 50, 7))
    whole = row_correlations(human, score)
    monkeypatch.setattr(correlation, "CHUNK_CELLS", 100)
    np.testing.assert_array_equal(row_correlations(human, score), whole)


@pytest.mark.parametrize("row", [[], [1.0], [2.0, 2.0, 2.0], [0.1, 0.1, 0.1], [np.nan, 1.0], [1e300, 1e300]])
def test_undefined(row: list[float]) -> None:
    found = row_correlations([row], [list(range(len(row)))])
    assert np.isnan(np.ravel(found)).all()


def test_constant_model_row() -> None:
    found = row_correlations([[1, 2, 3]], [[0.1, 0.1, 0.1]])
    assert found.pairwise_accuracy[0] == 0.5
    assert np.isnan(np.ravel(found)[:5]).all()


def test_missing_positions_are_left_out() -> None:
    found = row_correlations([[1, 9, 1, 2, np.nan, 3]], [[1, np.nan, 2, 2, 7, 3]])
    np.testing.assert_allclose(found, row_correlations([[1, 1, 2, 3]], [[1, 2, 2, 3]]))


def test_no_rows_and_wrong_shapes() -> None:
    assert row_correlations(np.zeros((0, 3)), np.zeros((0, 3))).pearson.shape == (0,)
    with pytest.raises(ValueError, match="same shape"):
        row_correlations([[1, 2]], [[1, 2, 3]])


@pytest.mark.parametrize("size", [5, 200])
def test_centred_ranks(size: int) -> None:
    values = np.random.default_rng(1).integers(0, 4, (3, size)).astype(float)
    np.testing.assert_array_equal(centred_ranks(values), 2 * scipy.stats.rankdata(values, axis=1) - size - 1)


@given(pair(st.one_of(FLOATS, st.just(np.nan), LEVELS)))
def test_range(rows: tuple[np.ndarray, np.ndarray]) -> None:
    found = row_correlations(*rows)
    for values in found:
        assert ((np.abs(values) <= 1 + 1e-12) | np.isnan(values)).all()
    assert not (found.pairwise_accuracy < 0).any()


@given(pair(LEVELS))
def test_monotone_transforms_keep_ranks_and_reversal_turns_them(rows: tuple[np.ndarray, np.ndarray]) -> None:
    human, score = rows
    plain, bent, turned = (row_correlations(human, other) for other in (score, np.exp(score), -score))
    for name in ("spearman", "tau_a", "tau_b", "tau_c", "pairwise_accuracy"):
        np.testing.assert_array_equal(getattr(bent, name), getattr(plain, name))
    np.testing.assert_allclose(turned.tau_b, -plain.tau_b)
    np.testing.assert_allclose(turned.pairwise_accuracy, 1 - plain.pairwise_accuracy)


@given(pair(LEVELS), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_order_of_positions_does_not_matter(rows: tuple[np.ndarray, np.ndarray], random: object) -> None:
    order = list(range(rows[0].shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_allclose(row_correlations(*(row[:, order] for row in rows)), row_correlations(*rows), atol=1e-12)


def test_values_equal_within_rounding_become_one() -> None:
    third = 0.1 + 0.2
    assert third != 0.3
    rows = np.array([[third, 0.3, 1.0, np.nan], [1.0, 1.0 + 1e-8, 2.0, -1.0], [-1.0, -1.0 - 1e-12, 0.0, 1e-300]])
    found = equalised(rows)
    assert found[0, 0] == found[0, 1] == 0.3
    assert np.isnan(found[0, 3])
    # Farther apart than the tolerance, or of any distance relative to 0: they stay.
    assert (found[1] == rows[1]).all()
    # What is left of a difference that should be 0 ties with 0.
    assert found[2].tolist() == [-1.0 - 1e-12, -1.0 - 1e-12, 0.0, 0.0]
    residue = 0.1 + 0.2 - 0.3
    assert residue > 0 and equalised(np.array([[residue, 0.0, -1.0]])).tolist() == [[0.0, 0.0, -1.0]]


@given(arrays(float, st.tuples(st.integers(1, 3), st.integers(0, 8)), elements=st.floats(-1e6, 1e6)))
def test_equalised_moves_no_value_far_and_keeps_the_order(rows: np.ndarray) -> None:
    found = equalised(rows)
    # At most seven steps of the tolerance from the largest to the smallest of a chain.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    assert np.all(np.abs(found - rows) <= 8 * np.maximum(ROUNDING * np.abs(rows), LAST_BITS * largest))
    for one, other in zip(found, rows, strict=True):
        assert np.all(np.diff(one[np.argsort(other, kind="stable")]) >= 0)
    assert np.array_equal(equalised(found), found)
