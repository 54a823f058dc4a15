"""Rows in memory: the same door as for files, with the row's number as the place."""

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from judging.datasets import Rejected, read_rows
from judging.records import Record
from tests.judging.ratedfiles import GOOD, RECORD, row
from tests.refusals import refused


def found(rows: Any, **options: Any) -> list[Record]:
    read = list(read_rows(rows, **options))
    assert [str(one) for one in read if isinstance(one, Rejected)] == []
    return [one for one in read if isinstance(one, Record)]


def test_mappings_and_a_frame_give_the_same_record() -> None:
    assert found([GOOD]) == found(iter([GOOD])) == found(pd.DataFrame([dict(GOOD)])) == [RECORD]


def test_every_option_of_a_file_holds() -> None:
    rows = pd.DataFrame({"q": ["Why?"], "a": ["So."], "b": [None]})
    read = found(rows, columns={"q": "source"}, systems=("a", "b"), defaults={"task": "qa"})
    assert [(one.system, one.source, one.candidate) for one in read] == [("a", "Why?", "So.")]
    given = [row(group=None), row(id="r2", group=None, source="What?")]
    assert len({one.group for one in found(given, group_by_source=True)}) == 2


def test_what_pandas_calls_missing_is_missing() -> None:
    frame = pd.DataFrame([{**GOOD, "id": f"r{n}"} for n in range(4)])
    frame["fact"] = pd.Series(["F", np.nan, pd.NA, None], dtype=object)
    frame["day"] = pd.to_datetime(["2024-01-02", None, None, None])
    frame["group"] = [7.0, 7.0, 7.0, 7.0]  # integers beside a missing value elsewhere
    first, *others = found(frame)
    assert (first.group, first.fields) == ("7", {"fact": "F", "day": "2024-01-02T00:00:00"})
    assert [one.fields for one in others] == [{}, {}, {}]


def test_numpy_values_are_plain_ones() -> None:
    numbers = {"id": np.int64(3), "group": np.int32(7), "system": np.float64(3.5), "flag": np.bool_(True)}
    scored = {
        "scores": {"overall": np.float32(4)},
        "ratings": {"style": np.array([3.0, np.nan])},
        "scale": np.array([1, 5]),
    }
    chat = np.array([{"role": "user", "content": "Why?"}], dtype=object)  # as pandas reads a list in Parquet
    (only,) = found([{**GOOD, **numbers, **scored, "source": chat}])
    assert (only.id, only.group, only.system, only.fields) == ("3", "7", "3.5", {"flag": "true"})
    assert (only.scores, only.ratings) == ({"overall": 4, "style": 3}, {"style": (3, None)})
    assert only.source == "Why?"


def test_dates_and_spans_of_numpy_are_no_integers() -> None:
    values = {
        "day": np.datetime64("2024-01-02", "D"),
        "time": np.datetime64("2024-01-02T03:04:05", "ns"),
        "exact": np.datetime64("2024-01-02T03:04:05.000000001", "ns"),
        "span": np.timedelta64(3_000_000_000, "ns"),
        "short": np.timedelta64(3, "ns"),
        "days": np.array(["2024-01-02", "NaT"], dtype="datetime64[ns]"),
        "none": np.datetime64("NaT", "ns"),
    }
    (only,) = found([{**GOOD, **values}])
    assert only.fields == {
        "day": "2024-01-02",
        "time": "2024-01-02T03:04:05",
        "exact": "2024-01-02T03:04:05.000000001",
        "span": "0:00:03",
        "short": "3 nanoseconds",
        "days": "2024-01-02T00:00:00",
    }


def test_an_index_with_a_name_is_a_column() -> None:
    frame = pd.DataFrame([dict(GOOD), row(id="r2", system="s2")])
    assert [one.system for one in found(frame.set_index("system"))] == ["s1", "s2"]
    levels = found(frame.set_index(["system", "group"]))
    assert [(one.system, one.group) for one in levels] == [("s1", "g1"), ("s2", "g1")]
    with refused("duplicate_key", "system", naming="'system'"):
        list(read_rows(frame.set_index("system", drop=False)))


def test_names_that_are_the_same_as_text() -> None:
    (only,) = read_rows([{**GOOD, 1: "one", "1": "two"}])
    assert isinstance(only, Rejected) and (only.code, only.key) == ("duplicate_key", "1")
    (only,) = read_rows([{**GOOD, "candidate ": "Else."}])
    assert isinstance(only, Rejected) and (only.code, only.key) == ("duplicate_key", "candidate")


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (7.0, "7"), (7.5, "7.5"), (Decimal("7.0"), "7"), (True, "true"), (dt.date(2024, 1, 2), "2024-01-02")],
)
def test_a_source_or_candidate_may_be_a_number(value: Any, text: str) -> None:
    (only,) = found([{**GOOD, "source": value, "candidate": value}])
    assert (only.source, only.candidate) == (text, text)


def test_a_number_with_too_many_digits_rejects_its_row() -> None:
    (only,) = read_rows([{**GOOD, "candidate": 10**5000}])
    assert isinstance(only, Rejected) and (only.code, only.key) == ("invalid_value", "candidate")


def test_names_are_stripped_and_whole_numbers_have_no_point() -> None:
    spaced = row(id=" r1 ", group=Decimal("1.0"), system=" s1 ")
    (only,) = found([spaced])
    assert (only.id, only.group, only.system) == ("r1", "1", "s1")
    assert found([row(system="  ")])[0].system == ""
    # A text keeps its spelling, and a decimal with a billion digits is not written out.
    assert found([row(group="1.0")])[0].group == "1.0"
    assert found([row(group=Decimal("1E+999999999"))])[0].group == "1E+999999999"
    wide = {"id": " 7 ", "source": "Why?", "a": "So."}
    (only,) = found([wide], systems=("a",), defaults={"task": "qa"})
    assert (only.id, only.group) == ("7/a", "7")


def test_composed_letters_make_no_other_group() -> None:
    """e with an acute accent as one character and as two."""
    one, other = "caf\u00e9?", "cafe\u0301?"
    rows = [row(group=None, source=one), row(id="r2", group=None, source=other)]
    assert len({record.group for record in found(rows, group_by_source=True)}) == 1


def test_a_missing_source_is_named_before_the_group_that_it_makes() -> None:
    (only,) = read_rows([row(source=None, group=None)], group_by_source=True)
    assert isinstance(only, Rejected) and (only.code, only.key) == ("missing_key", "source")


def test_other_values_become_texts_by_the_rule_of_files() -> None:
    more = {"day": dt.date(2024, 1, 2), "tags": ("x", "y"), "span": pd.Timedelta(seconds=1), 7: "seven"}
    (only,) = found([{**GOOD, **more}])
    assert only.fields == {"day": "2024-01-02", "tags": "x\ny", "span": "0 days 00:00:01", "7": "seven"}


def test_the_place_of_a_row_is_its_number() -> None:
    rows: list[Any] = [GOOD, "text", row(id="r2", scores={"overall": 9}), row()]
    read = list(read_rows(rows))
    assert [one.line if isinstance(one, Rejected) else one.id for one in read] == ["r1", 2, 3, 4]
    kind, scale, twice = (one for one in read if isinstance(one, Rejected))
    assert str(kind) == "row 2: must be a mapping from column names to values, not str"
    assert (scale.code, scale.key, scale.file) == ("out_of_scale", "scores.overall", "")
    assert twice.reason == "duplicate id 'r1', first in row 1"
    error = scale.error()
    assert (error.code, error.key) == ("out_of_scale", "scores.overall") and str(error).startswith("row 3: ")


@pytest.mark.parametrize(
    ("cell", "naming"), [("\ud83d", "surrogate"), (["\ud83d"], "surrogate"), ({"\ud83d": 1}, "surrogate")]
)
def test_texts_that_are_not_unicode_reject_their_row(cell: Any, naming: str) -> None:
    first, second = read_rows([{**GOOD, "fact": cell}, row(id="r2")])
    assert isinstance(first, Rejected) and isinstance(second, Record)
    assert (first.code, first.key) == ("invalid_value", "fact") and naming in first.reason


def test_nesting_without_end_rejects_its_row() -> None:
    loop: list[Any] = []
    loop.append(loop)
    (only,) = read_rows([{**GOOD, "fact": loop}])
    assert isinstance(only, Rejected) and (only.code, only.key) == ("invalid_value", "fact")


def no_rows() -> Iterator[Any]:
    yield from ()


@pytest.mark.parametrize(
    ("rows", "code", "naming"),
    [
        ([], "empty_file", "no rows"),
        (no_rows(), "empty_file", "no rows"),
        (pd.DataFrame({"source": []}), "empty_file", "no rows"),
        ({"train": [GOOD], "test": [GOOD]}, "invalid_value", "train, test"),  # a DatasetDict is a mapping too
        (GOOD, "invalid_value", "id, task"),
        ("data.csv", "invalid_value", "not str"),
        (b"data", "invalid_value", "not bytes"),
        (7, "invalid_value", "not int"),
        (None, "invalid_value", "not NoneType"),
        (np.array(3), "invalid_value", "not int"),
        (pd.DataFrame([[1, 2]], columns=["task", "task"]), "duplicate_key", "'task'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_are_no_rows(rows: Any, code: str, naming: str) -> None:
    key = "task" if code == "duplicate_key" else ""
    with refused(code, key, naming=naming):
        list(read_rows(rows))


def test_a_data_set_of_hugging_face() -> None:
    datasets = pytest.importorskip("datasets")
    read = found(datasets.Dataset.from_list([dict(GOOD), row(id="r2")]))
    assert [one.id for one in read] == ["r1", "r2"] and read[0] == RECORD


def test_neither_pandas_nor_numpy_is_loaded_for_plain_rows() -> None:
    code = (
        "import sys; from judging.datasets import read_rows; "
        "rows = [{'task': 'qa', 'group': 'g', 'source': 's', 'candidate': 'c'}]; "
        "print(len(list(read_rows(rows))), sorted({'pandas', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("1 []\n", "")
