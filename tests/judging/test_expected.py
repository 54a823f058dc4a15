import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.expected import expected_score
from judging.records import Scale

LOG = math.log
SCALES = st.sampled_from([Scale(0, 1), Scale(1, 3), Scale(1, 5), Scale(-2, 2), Scale(0.5, 4.5)])
LOGPROBS = st.none() | st.floats(max_value=0) | st.just(math.nan) | st.just(-math.inf)


def test_the_value_weighted_by_probability() -> None:
    # Masses .2 .3 .1 sum to .6; normalised 1/3 1/2 1/6; 1 * 1/3 + 2 * 1/2 + 3 * 1/6 = 11/6.
    found = expected_score([LOG(0.2), LOG(0.3), LOG(0.1)], Scale(1, 3))
    assert found.score == pytest.approx(11 / 6)
    assert found.label_mass == pytest.approx(0.6)
    assert found.probabilities == pytest.approx((1 / 3, 1 / 2, 1 / 6))


@pytest.mark.parametrize("missing", [None, math.nan, -math.inf])
def test_a_label_that_is_missing_counts_as_probability_0(missing: float | None) -> None:
    # Masses .2 0 .1: 1 * 2/3 + 3 * 1/3 = 5/3.
    found = expected_score([LOG(0.2), missing, LOG(0.1)], Scale(1, 3))
    assert found.score == pytest.approx(5 / 3)
    assert found.label_mass == pytest.approx(0.3)
    assert found.probabilities == pytest.approx((2 / 3, 0, 1 / 3))


def test_scale_from_0() -> None:
    # .1 and .3: 0 * 1/4 + 1 * 3/4.
    found = expected_score([LOG(0.1), LOG(0.3)], Scale(0, 1))
    assert found.score == pytest.approx(0.75)


def test_one_certain_label_is_the_score() -> None:
    assert expected_score([None, None, None, 0.0, None], Scale(1, 5)) == (4.0, 1.0, (0, 0, 0, 1, 0))


@pytest.mark.parametrize("nothing", [None, math.nan, -math.inf, -1e9])
def test_no_probability_at_all_is_no_score(nothing: float | None) -> None:
    assert expected_score([nothing] * 5, Scale(1, 5)) == (None, 0.0, None)


def test_a_tiny_mass_is_returned_and_still_normalised() -> None:
    # e^-700 twice: the mass is about 2e-304, the two labels share it evenly: (1 + 2) / 2.
    found = expected_score([-700, -700, None], Scale(1, 3))
    assert found.score == pytest.approx(1.5)
    assert 0 < found.label_mass < 1e-300


def test_rounding_above_1_is_cut() -> None:
    # Float noise of an engine: a log-probability just above 0 counts as probability 1, a mass just above 1 as 1.
    assert expected_score([1e-7, None], Scale(0, 1)) == (0.0, 1.0, (1.0, 0.0))
    assert expected_score([LOG(0.5) + 1e-9, LOG(0.5)], Scale(0, 1)).label_mass == 1.0


@pytest.mark.parametrize("logprobs", [[], [0.0], [0.0] * 6])
def test_another_number_of_log_probabilities_is_refused(logprobs: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(logprobs)} log-probabilities for 5 labels of the scale 1 to 5"):
        expected_score(logprobs, Scale(1, 5))


@given(st.data(), SCALES)
def test_score_stays_among_the_labels(data: st.DataObject, scale: Scale) -> None:
    labels = [int(label) for label in scale.labels()]
    logprobs = data.draw(st.lists(LOGPROBS, min_size=len(labels), max_size=len(labels)))
    found = expected_score(logprobs, scale)
    assert 0 <= found.label_mass <= 1
    if found.score is None:
        assert found.probabilities is None and found.label_mass == 0
        return
    assert labels[0] <= found.score <= labels[-1] and found.score in scale
    assert found.probabilities is not None
    assert math.fsum(found.probabilities) == pytest.approx(1)
    reported = [label for label, p in zip(labels, found.probabilities, strict=True) if p > 0]
    assert reported[0] - 1e-9 <= found.score <= reported[-1] + 1e-9
