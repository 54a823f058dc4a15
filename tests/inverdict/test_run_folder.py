"""What `evaluate` writes: nothing over files of the user, only what its jobs accept, rows as the reader reads them."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import inverdict
from cluster.artifacts import JobDir, Outcome
from cluster.config import RunConfig
from cluster.errors import JobFailed
from evaluation.batch import evaluate as job
from evaluation.batch.config import fingerprint, prepared
from evaluation.reporting import report
from inverdict.run_folder import CONFIG, ROWS
from judging.datasets import Empty, Rejected, read_records, read_rows
from judging.records import Record
from tests.refusals import refused

SETTINGS: dict[str, Any] = {
    "judges": {"fake": {"model": "fake"}},
    "models": {"fake": {"backend": "scripted"}},
    "task": "qa",
}
GOOD: dict[str, Any] = {"group": "g", "source": "Why?", "candidate": "So."}


def accepted(run: RunConfig) -> Outcome:
    """The job `evaluate` up to the first file that it writes."""
    found = prepared(run)
    with JobDir(run.run, "evaluate").opened(fingerprint(found.evaluation, found.asked)) as opened:
        opened.claim()
    return Outcome(0, {})


@pytest.fixture
def accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "main", accepted)
    monkeypatch.setattr(report, "main", lambda run: Outcome(0, {}))


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", [CONFIG, ROWS])
def test_files_of_the_user_stay(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepting: None) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine\n")
    with refused("other_rows" if name == ROWS else "other_configuration", "run", naming=str(tmp_path / name)):
        inverdict.evaluate([GOOD], run=".", **SETTINGS)
    assert texts(tmp_path) == {name: "mine\n"} and len(list(tmp_path.iterdir())) == 1


def test_a_finished_run_keeps_the_configuration_that_it_was_made_with(tmp_path: Path, accepting: None) -> None:
    folder = tmp_path / "run"
    inverdict.evaluate([GOOD], run=folder, seed=1, **SETTINGS)
    before = texts(folder)
    assert set(before) == {CONFIG, ROWS} and yaml.safe_load(before[CONFIG])["seed"] == 1
    with refused("other_configuration", naming=str(folder)):
        inverdict.evaluate([GOOD], run=folder, seed=2, **SETTINGS)
    with refused("other_rows", "run", naming=str(folder)):
        inverdict.evaluate([GOOD, {**GOOD, "candidate": "Or so."}], run=folder, seed=1, **SETTINGS)
    assert texts(folder) == before
    inverdict.evaluate([GOOD], run=folder, seed=1, report={"resamples": 500}, **SETTINGS)  # changes no score
    assert yaml.safe_load(texts(folder)[CONFIG])["report"] == {"resamples": 500}


def test_a_run_of_another_configuration_gets_no_files(tmp_path: Path) -> None:
    other = JobDir(tmp_path, "evaluate")
    with other.opened({"seed": 5}):
        other.claim()
    with refused("other_configuration", naming=str(tmp_path)):
        inverdict.evaluate([GOOD], run=tmp_path, **SETTINGS)
    assert texts(tmp_path) == {}


@pytest.mark.parametrize("begins", [False, True])
def test_work_that_has_begun_keeps_its_files(begins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(run: RunConfig) -> Outcome:
        if begins:
            accepted(run)
        raise JobFailed("no model", code="failed")

    monkeypatch.setattr(job, "main", fails)
    with pytest.raises(JobFailed, match="no model"):
        inverdict.evaluate([GOOD], run=tmp_path / "runs" / "one", **SETTINGS)
    left = sorted(path.name for path in (tmp_path / "runs" / "one").glob("*"))
    assert left == (["evaluate", CONFIG, ROWS] if begins else [])
    assert (tmp_path / "runs").exists() == begins


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused("store_unwritable", "run", naming=str(tmp_path / "file")):
        inverdict.evaluate([GOOD], run=tmp_path / "file", **SETTINGS)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Record]]:
    """The records that the job gets of rows in memory; they are those of `read_rows`."""

    def of(rows: Any, **data: Any) -> list[Record]:
        seen: list[Record | Rejected] = []

        def reads(run: Any) -> Outcome:
            seen.extend(read_records(run.data.records, **run.data.reading()))
            direct = list(read_rows(rows, **run.data.row_options()))
            assert [key(one) for one in seen] == [key(one) for one in direct]
            return accepted(run)

        monkeypatch.setattr(job, "main", reads)
        monkeypatch.setattr(report, "main", lambda run: Outcome(0, {}))
        inverdict.evaluate(rows, run=tmp_path / "run", data=data, **SETTINGS)
        return [one.record if isinstance(one, Empty) else one for one in seen if type(one) is not Rejected]

    return of


def key(one: Record | Rejected) -> Any:
    return one if isinstance(one, Record) else (one.line, one.code, getattr(one, "record", None))


def test_values_are_the_texts_that_the_reader_makes_of_them(read: Callable[..., list[Record]]) -> None:
    more = {
        "bytes": "caf\u00e9".encode(),
        "day": dt.date(2024, 1, 2),
        "time": pd.Timestamp("2024-01-02 03:04"),
        "cost": Decimal("4.50"),
        "none": Decimal("sNaN"),
        "span": dt.timedelta(seconds=1),
        "tags": ("x", np.nan, dt.date(2024, 1, 2)),
        "deep": {"a": [Decimal("1.0"), None], "b": None},
        "flag": np.bool_(True),
        7: "seven",
    }
    (only,) = read([{**GOOD, "group": Decimal(7), "candidate": "caf\u00e9".encode(), **more}])
    assert (only.group, only.candidate) == ("7", "caf\u00e9")
    assert only.fields == {
        "bytes": "caf\u00e9",
        "day": "2024-01-02",
        "time": "2024-01-02T03:04:00",
        "cost": "4.50",
        "span": "0:00:01",
        "tags": "x\n2024-01-02",
        "deep": '{"a": ["1.0"]}',
        "flag": "true",
        "7": "seven",
    }


def test_a_missing_candidate_is_an_empty_text(read: Callable[..., list[Record]]) -> None:
    frame = pd.DataFrame([GOOD, {**GOOD, "candidate": None}, {**GOOD, "system": "b", "candidate": np.nan}])
    assert [one.candidate for one in read(frame)] == ["So.", "", ""]


def test_a_missing_text_of_wide_rows_is_no_record(read: Callable[..., list[Record]]) -> None:
    frame = pd.DataFrame({"source": ["Why?", "What?"], "a": ["So.", "That."], "b": ["Thus.", pd.NA]})
    found = read(frame, systems=["a", "b"])
    assert [(one.system, one.candidate) for one in found] == [("a", "So."), ("b", "Thus."), ("a", "That.")]


def test_scores_with_missing_values(read: Callable[..., list[Record]]) -> None:
    scored = {"scores": {"overall": Decimal("4.5"), "style": np.nan}, "ratings": {"overall": np.array([4, np.nan])}}
    (only,) = read([{**GOOD, **scored, "scale": np.array([1, 5])}])
    assert (only.scores, only.ratings) == ({"overall": 4.5}, {"overall": (4, None)})


@pytest.mark.parametrize(
    ("second", "code", "key"),
    [
        ({"fact": {1, 2}}, "invalid_value", "fact"),
        pytest.param({"fact": object()}, "invalid_value", "fact", id="a text that is an object"),
        ({"fact": float("inf")}, "invalid_value", "fact"),
        ({"fact": b"\xff"}, "unreadable_file", "fact"),
        ({"fact": "\ud83d"}, "invalid_value", "fact"),
        ({"group": dt.date(2024, 1, 2)}, "invalid_value", "group"),
        ({"scores": {"overall": 9}, "scale": [1, 5]}, "out_of_scale", "scores.overall"),
        ({"source": "Another?"}, "duplicate_group", "group"),
        ({"task": "no-such-task"}, "unknown_task", "task"),  # what the job refuses, not the reader
    ],
    ids=str,
)
def test_an_invalid_row_is_named_by_its_number(
    second: dict[str, Any], code: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [GOOD, {**GOOD, "id": "r2", **second}]
    for folder in ({"run": tmp_path / "run"}, {}):
        with refused(code, key, naming="row 2: "):
            inverdict.evaluate(given, **folder, **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_share_of_invalid_rows_may_be_accepted(read: Callable[..., list[Record]]) -> None:
    assert len(read([GOOD, {**GOOD, "id": "r2", "source": None}], max_rejected_share=0.5)) == 1
