"""The statistics for data frames: the same numbers as the functions below them, and refusals of bad columns."""

import doctest
from decimal import Decimal
from typing import Any

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
    alone = inverdict.compare(scores(system=["a"] * 6, group=range(6)))
    assert list(alone.differences["difference"]) == []


def test_names_are_escaped_in_html() -> None:
    found = inverdict.compare(scores(system=["<script>", "b"] * 3))
    assert "<script>" not in found._repr_html_()


DAYS = pd.date_range("2024-01-01", periods=6)


@pytest.mark.parametrize(
    ("frame", "code", "key", "naming"),
    [
        (scores().drop(columns="group"), "missing_column", "group", "human"),
        (scores(system=["a", None] * 3), "missing_value", "system", "row 2"),
        (scores(system=["a", ""] * 3), "missing_value", "system", "row 2"),
        (scores(group=[1, 1, pd.NA, 2, 3, 3]), "missing_value", "group", "row 3"),
        (scores(group=DAYS), "invalid_value", "group", "row 1"),
        (scores(score=[1, "two"] * 3), "invalid_value", "score", "row 2"),
        (scores(score=DAYS), "invalid_value", "score", "row 1"),
        (scores(score=[True] * 6), "invalid_value", "score", "row 1"),
        (scores(score=[np.inf] * 6), "invalid_value", "score", "row 1"),
        (scores(score=[np.nan] * 6), "no_scores", "score", ""),
        (scores(length=[1, 2, None, 4, 5, 6]), "missing_value", "length", "row 3"),
        (scores(Length=[3] * 6), "unknown_key", "Length", "length"),
        (scores(group=[1, 1, 1.0, "1", 3, 3]), "duplicate_record", "group", "row 3"),
        (scores()[:0], "no_scores", "", ""),
        ([["a"]], "invalid_value", "", "row 1"),
        (3, "invalid_value", "", "int"),
        (pd.concat([scores(), scores()[["group"]]], axis=1), "duplicate_key", "group", ""),
    ],
    ids=lambda value: None if isinstance(value, pd.DataFrame) else str(value),
)
def test_bad_columns_are_refused(frame: Any, code: str, key: str, naming: str) -> None:
    with refused(code, key, naming=naming):
        inverdict.compare(frame)


@pytest.mark.parametrize(
    ("frame", "code", "key"),
    [
        (scores(human=[1, 2, None, 4, 5, 6]), "missing_value", "human"),
        (scores(system=["a"] * 6), "duplicate_record", "group"),
        (scores(System="a").drop(columns="system"), "unknown_key", "System"),
        (scores(human=DAYS), "invalid_value", "human"),
    ],
)
def test_what_agreement_refuses(frame: pd.DataFrame, code: str, key: str) -> None:
    with refused(code, key):
        inverdict.agreement(frame)


def test_a_column_that_is_named_must_exist() -> None:
    with refused("missing_column", "sys"):
        inverdict.agreement(scores(), system="sys")
    with refused("missing_column", "lenght"):
        inverdict.compare(scores(), length="lenght")


@pytest.mark.parametrize(("name", "value"), [("resamples", 0), ("resamples", 2.5), ("seed", -1), ("seed", True)])
def test_counts_are_whole_numbers(name: str, value: Any) -> None:
    for function in (inverdict.agreement, inverdict.compare):
        with refused("invalid_value", name):
            function(scores(), **{name: value})


def test_one_group_may_be_written_as_a_number_or_a_text() -> None:
    found = inverdict.agreement(scores(group=[1, 1.0, "2", 2, Decimal(3), np.int64(3)]))
    assert found.equals(inverdict.agreement(scores()))
    nameless = inverdict.agreement(scores(system=["a", "", "a", None, "a", np.nan])).set_index("statistic")
    assert "system.spearman" in nameless.index and nameless.loc["system.spearman", "n"] == 1  # the system a


def test_mappings_are_rows_too() -> None:
    assert inverdict.agreement(scores().to_dict("records")).equals(inverdict.agreement(scores()))
    assert repr(inverdict.compare(scores().to_dict("records"))) == repr(inverdict.compare(scores()))
