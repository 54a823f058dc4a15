"""Calibration of one judge: knots by hand, few labels, judges that tell nothing, values that are missing or wrong."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from judging.records import Scale
from judging.voting.calibration import CONSTANT, FALLING, MAX_BINS, Calibration, bin_scores, calibrate

FIVE = Scale(1, 5)


def test_line_and_steps_are_mixed_by_the_number_of_labels() -> None:
    # 10 rows at 2 with mean label 2, 10 at 3 with 1.5, 10 at 4 with 4. Means 3 and 2.5; slope sum(x y) / sum(x x) =
    # 10 (2 - -1 * ... ): (-1)(2 - 2.5) + 0 + (1)(4 - 2.5) = 2 over 2 -> 1. Line: 1.5, 2.5, 3.5; ends 0.5 and 4.5.
    # Steps: 2 and 1.5 fall and are pooled: 1.75, 1.75, 4. Share of the steps 30 / 230.
    scores = [2.0] * 10 + [3.0] * 10 + [4.0] * 10
    labels = [2.0] * 10 + [1.5] * 10 + [4.0] * 10
    found = calibrate(scores, labels, FIVE)
    share = 30 / 230
    expected = [
        (1, 1.0),  # 0.5 (1 - share) + 1.75 share = 0.66 lies off the scale
        (2, 1.5 + share * 0.25),
        (3, 2.5 - share * 0.75),
        (4, 3.5 + share * 0.5),
        (5, 4.5 - share * 0.5),
    ]
    assert (found.kind, found.num_rows, found.note) == ("isotonic", 30, None)
    assert np.array(found.knots) == pytest.approx(np.array(expected))
    # Half-way between two knots is half-way between their values.
    assert found.apply([2.5]) == pytest.approx([(expected[1][1] + expected[2][1]) / 2])


def test_many_labels_draw_the_true_curve() -> None:
    # The judge says the square root of what people say: 64 bins of 1,000 rows know that within a tenth of a point.
    labels = np.linspace(1, 5, 64_000)
    found = calibrate(1 + 4 * np.sqrt((labels - 1) / 4), labels, FIVE)
    assert len(found.knots) <= MAX_BINS + 2
    asked = np.array([2.0, 3.0, 4.0, 4.9])
    assert found.apply(asked) == pytest.approx(1 + 4 * ((asked - 1) / 4) ** 2, abs=0.1)


def test_few_labels_leave_the_scores_as_they_are() -> None:
    found = calibrate([1.0, 2, 3, 4, 5, 5, 4, 3, 2], [5.0, 5, 5, 5, 5, 1, 1, 1, 1], FIVE)
    assert found.kind == "identity"
    assert found.note == "too few labels to calibrate: 9 of at least 10"
    assert found.apply([0.0, 1.5, 9.0]).tolist() == [1, 1.5, 5]  # off the scale: cut off at its ends
    assert calibrate([], [], FIVE).kind == "identity"


@pytest.mark.parametrize(
    ("scores", "labels", "note"),
    [
        ([3.0] * 12, [1.0, 2, 3, 4] * 3, CONSTANT),
        ([4.0, 3, 2, 1] * 3, [1.0, 2, 3, 4] * 3, FALLING),  # against people
        ([1.0, 1, 2, 2] * 3, [1.0, 4, 1, 4] * 3, FALLING),  # no relation: the line is level
        ([1.0, 2, 3, 4] * 3, [2.5] * 12, FALLING),  # constant labels
    ],
)
def test_a_judge_that_tells_nothing_is_flat(scores: list[float], labels: list[float], note: str) -> None:
    found = calibrate(scores, labels, FIVE)
    assert (found.kind, found.note) == ("flat", note)
    assert found.apply([1, 3, 5, None])[:3].tolist() == [2.5, 2.5, 2.5]  # the mean of the labels, in each of the four
    assert math.isnan(found.apply([None])[0])


def test_rows_without_a_score_or_a_label_are_left_out() -> None:
    scores, labels = [1.0, 2, 3, 4, 5] * 4, [1.0, 1, 2, 4, 4] * 4
    gaps = calibrate([*scores, None, 3.0, math.nan], [*labels, 5.0, None, 1.0], FIVE)
    assert gaps == calibrate(scores, labels, FIVE)


def test_no_score_stays_no_score() -> None:
    found = calibrate([1.0, 2, 3, 4, 5] * 4, [1.0, 1, 2, 4, 4] * 4, FIVE)
    applied = found.apply([None, 2.0, math.nan])
    assert np.isnan(applied).tolist() == [True, False, True]
    assert len(found.apply([])) == 0


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        ([1.0], [1.0, 2.0], "1 and 2"),
        ([math.inf], [1.0], "finite"),
        ([1.0], [-math.inf], "finite"),
        ([1.0], [6.0], "6 lies outside the scale 1 to 5"),
    ],
)
def test_what_cannot_be_calibrated(scores: list[float], labels: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        calibrate(scores, labels, FIVE)
    with pytest.raises(ValueError, match="finite"):
        calibrate([1.0], [1.0], FIVE).apply([math.inf])


def test_json_and_back() -> None:
    found = calibrate(np.linspace(1, 5, 500), np.linspace(1, 2.2, 500) ** 2, FIVE)
    assert Calibration.model_validate_json(found.model_dump_json(), strict=True) == found


@pytest.mark.parametrize(
    "change",
    [
        {"knots": []},
        {"knots": [[1, 2], [1, 3]]},
        {"knots": [[1, 2], [2, 1]]},
        {"knots": [[1, 2], [2, math.inf]]},
        {"kind": "cubic"},
        {"num_rows": -1},
        {"more": 1},
    ],
)
def test_a_calibration_that_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Calibration.model_validate({"kind": "isotonic", "num_rows": 12, "knots": [[1, 2], [2, 3]], **change})


def test_bins_hold_about_the_same_number_and_keep_the_order() -> None:
    # 6,400 different scores: 100 a bin. The most common score alone fills several bins' worth and is one bin.
    score_N = np.concatenate([np.linspace(1, 5, 6400), [np.nan]])
    bins = bin_scores(score_N)
    assert bins.bin_N[-1] == -1
    counts = np.bincount(bins.bin_N[:-1])
    assert len(counts) == MAX_BINS and counts.min() >= 99 and counts.max() <= 101
    assert (np.diff(bins.bin_N[:-1]) >= 0).all() and (np.diff(bins.score_B) > 0).all()
    lumped = bin_scores(np.concatenate([np.full(5000, 3.0), np.linspace(1, 5, 100)]))
    assert np.bincount(lumped.bin_N).max() >= 5000 and (np.diff(lumped.score_B) > 0).all()


ROWS = st.lists(st.tuples(st.none() | st.floats(1, 5), st.floats(1, 5)), max_size=80)


@given(ROWS)
def test_always_monotone_and_on_the_scale(rows: list[tuple[float | None, float]]) -> None:
    found = calibrate([score for score, _ in rows], [label for _, label in rows], FIVE)
    applied = found.apply(np.linspace(0, 6, 200))
    assert (np.diff(applied) >= 0).all()
    assert applied.min() >= 1 and applied.max() <= 5
