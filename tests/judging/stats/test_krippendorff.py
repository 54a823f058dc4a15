import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from judging.stats.krippendorff import krippendorff_alpha

N = np.nan
# Krippendorff 2011, section C: four observers, twelve units, missing values.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T


@pytest.mark.parametrize(("metric", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_published_example(metric: str, expected: float) -> None:
    assert krippendorff_alpha(PUBLISHED, metric) == pytest.approx(expected, abs=5e-4)


def test_by_hand() -> None:
    # Units (1, 1), (1, 2). Observed: mean squared difference (0 + 1) / 2 = 1/2. Expected: of the values 1 1 1 2,
    # 6 of 12 ordered pairs differ by 1: 1/2. So alpha = 0, nominal the same. A lone rating (9) changes nothing.
    for metric in ("nominal", "interval"):
        assert krippendorff_alpha([[1, 1], [1, 2], [9, N]], metric) == pytest.approx(0)


@pytest.mark.parametrize("ratings", [np.zeros((0, 2)), [[1, N], [N, 2]], [[3, 3], [3, 3]]])
def test_undefined(ratings: object) -> None:
    for metric in ("nominal", "ordinal", "interval"):
        assert np.isnan(krippendorff_alpha(ratings, metric))


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="shape"):
        krippendorff_alpha([1, 2])
    with pytest.raises(ValueError, match="nominal, ordinal, interval"):
        krippendorff_alpha([[1, 2]], "ratio")  # type: ignore[arg-type]


@given(arrays(float, (6, 3), elements=st.one_of(st.integers(1, 4).map(float), st.just(N))))
def test_properties(ratings: np.ndarray) -> None:
    for metric in ("nominal", "ordinal", "interval"):
        alpha = krippendorff_alpha(ratings, metric)
        assert np.isnan(alpha) or alpha <= 1 + 1e-12
        assert krippendorff_alpha(ratings[::-1, ::-1], metric) == pytest.approx(alpha, nan_ok=True)
        assert krippendorff_alpha(ratings * 2 + 7, metric) == pytest.approx(alpha, nan_ok=True)
    assert krippendorff_alpha(np.exp(ratings), "ordinal") == pytest.approx(
        krippendorff_alpha(ratings, "ordinal"), nan_ok=True
    )
