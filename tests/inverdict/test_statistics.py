"""The statistics for data frames: the same numbers as the functions below them, and refusals of bad columns."""

import doctest

import numpy as np
import pandas as pd
import pytest

import inverdict
from inverdict import statistics
from tests.refusals import refused


def scores(**more: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "group": [1, 1, 2, 2, 3, 3],
            "system": ["a", "b"] * 3,
            "human": [1.0, 2, 3, 5, 2, 4],
            "score": [1.0, 3, 2, 4, 2, np.nan],
            **more,
        }
    )


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(statistics).failed == 0


def test_agreement_has_n_coverage_interval_and_chance() -> None:
    found = inverdict.agreement(scores()).set_index("statistic")
    row = found.loc["group.spearman"]
    # Groups 1 and 2 have the same order; of group 3 one score is missing.
    assert (row["value"], row["n"], row["coverage"]) == pytest.approx((1, 2, 5 / 6))
    assert {"low", "high", "chance"} <= set(found.columns)
    assert "system.spearman" in found.index
    assert "system.spearman" not in set(inverdict.agreement(scores().drop(columns="system"))["statistic"])


def test_compare_ranks_the_systems() -> None:
    found = inverdict.compare(scores(length=["x" * 3] * 6))
    # Paired in groups 1 and 2: b is 2 and 2 points better; the additive model puts b 2 points above a.
    assert found.systems["system"].tolist() == ["b", "a"]
    assert found.differences["difference"].tolist() == pytest.approx([2])
    assert found.systems["coverage"].tolist() == pytest.approx([2 / 3, 1])
    assert "b" in repr(found) and "<table" in found._repr_html_()


def test_what_a_reader_has_to_know_is_said() -> None:
    apart = scores(group=range(6), length=[3] * 6)
    found = inverdict.compare(apart)
    assert found.notes[0].startswith("No two systems answer the same group") and found.notes[0] in repr(found)
    alone = inverdict.compare(scores(system=["a"] * 6))
    assert list(alone.differences["difference"]) == []


def test_names_are_escaped_in_html() -> None:
    found = inverdict.compare(scores(system=["<script>", "b"] * 3))
    assert "<script>" not in found._repr_html_()


@pytest.mark.parametrize(
    ("frame", "code", "key"),
    [
        (scores().drop(columns="group"), "missing_column", "group"),
        (scores(system=["a", None] * 3), "missing_value", "system"),
        (scores(score=["1", "two"] * 3), "wrong_type", "score"),
        (scores(score=[np.inf] * 6), "invalid_value", "score"),
        (scores(score=[np.nan] * 6), "no_scores", "score"),
        (scores(length=[1, 2, None, 4, 5, 6]), "missing_value", "length"),
    ],
)
def test_bad_columns_are_refused(frame: pd.DataFrame, code: str, key: str) -> None:
    with refused(code, key):
        inverdict.compare(frame)


def test_missing_human_scores_are_refused() -> None:
    with refused("missing_value", "human"):
        inverdict.agreement(scores(human=[1, 2, None, 4, 5, 6]))
