"""`evaluate`: rows of every kind, the same files as the command line, and refusals before anything runs."""

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inverdict
from cluster.__main__ import main as command
from inverdict import evaluating, run_folder
from tests.refusals import refused

SCRIPTED: dict[str, Any] = {"judges": {"fake": {"model": "fake"}}, "models": {"fake": {"backend": "scripted"}}}


def rows(labelled: int = 6) -> list[dict[str, Any]]:
    return [
        {
            "group": group,
            "system": system,
            "source": f"Question {group}?",
            "candidate": f"Answer {group} of {system}{'!' * group}",
            "scores": {"overall": 1 + group % 5} if group < labelled else None,
            "scale": [1, 5],
        }
        for group in range(12)
        for system in ("a", "b")
    ]


@pytest.mark.ray
def test_a_frame_a_list_and_a_file_are_one_evaluation(tmp_path: Path, ray_cluster: None) -> None:
    settings = {**SCRIPTED, "task": "qa", "report": {"resamples": 100}}
    found = inverdict.evaluate(rows(), run=tmp_path / "list", **settings)
    frame = inverdict.evaluate(pd.DataFrame(rows()), run=tmp_path / "frame", **settings)
    file = inverdict.evaluate(tmp_path / "list" / "rows.jsonl", run=tmp_path / "file", **settings)
    columns = ["group", "system", "label", "fake.score", "panel.score"]
    assert found.scores[columns].equals(frame.scores[columns]) and found.scores[columns].equals(file.scores[columns])
    assert len(found.scores) == 24 and found.scores["label"].notna().sum() == 12
    systems = found.systems()
    assert sorted(systems["system"]) == ["a", "b"] and {"mean", "low", "high", "rank_low", "n"} <= set(systems.columns)
    assert len(found.differences()) == 1
    assert set(found.systems(by="people")["coverage"]) == {0.5}
    assert "group.spearman" in set(found.agreement()["statistic"])
    assert found.report().is_file() and "qa / records / overall" in repr(found) and "<table" in found._repr_html_()
    with refused("invalid_value", "by"):
        found.systems(by="nobody")
    # The commands take the configuration that was written, and have nothing left to do.
    before = (tmp_path / "list" / "evaluate" / "scores.parquet").stat().st_mtime_ns
    assert command(["evaluate", str(tmp_path / "list" / run_folder.CONFIG)]) == 0
    assert (tmp_path / "list" / "evaluate" / "scores.parquet").stat().st_mtime_ns == before
    assert inverdict.load(tmp_path / "list").metrics == found.metrics


@pytest.mark.ray
def test_the_examples_of_the_docstrings(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # they write to runs/
    for module in (evaluating, inverdict):
        found = doctest.testmod(module)
        assert found.failed == 0 and found.attempted > 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ([], "no_records"),
        ([["a"]], "invalid_value"),
        ({"source": "s"}, "invalid_value"),
        (np.array(3), "invalid_value"),
        (["no/such/file.jsonl"], "missing_file"),
    ],
)
def test_rows_that_are_none(given: Any, code: str, tmp_path: Path) -> None:
    for folder in ({"run": tmp_path / "run"}, {}):
        with refused_code(code):
            inverdict.evaluate(given, task="qa", **folder, **SCRIPTED)
    assert list(tmp_path.iterdir()) == []


def test_a_public_data_set_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERDICT_DATA", str(tmp_path))
    monkeypatch.setattr("judging.public_data.places.cache_folder", lambda: tmp_path)
    for folder in ({"run": tmp_path / "run"}, {}):
        with refused("missing_dataset", naming="inverdict data fetch hanna"):
            inverdict.evaluate("dataset:hanna", **folder, **SCRIPTED)
    assert list(tmp_path.iterdir()) == []


def refused_code(code: str) -> Any:
    return pytest.raises(ValueError, check=lambda error: error.code == code)


@pytest.mark.parametrize(
    ("more", "code", "key"),
    [
        ({"sed": 1}, "unknown_key", "sed"),
        ({"data": {"records": ["mine.jsonl"]}}, "conflict", "data.records"),
        ({"data": {"task": "story"}}, "conflict", "data.task"),
        ({"evaluate": {"judges": {"big": {"model": "fake"}}}}, "conflict", "evaluate.judges"),
        ({"data": "x"}, "invalid_value", "data"),
        ({"evaluate": "x"}, "invalid_value", "evaluate"),
        ({"models": ["fake"]}, "invalid_value", "models"),
        ({"run": 5}, "invalid_value", "run"),
        ({"run": ""}, "invalid_value", "run"),
        ({"judges": None}, "invalid_value", "judges"),
        ({"judges": 5}, "invalid_value", "judges"),
        ({"judges": ["fake", None]}, "invalid_value", "judges"),
        ({"judges": {"a": None}}, "invalid_value", "judges"),
        ({"judges": []}, "invalid_value", "evaluate.judges"),
        pytest.param({"seed": object()}, "invalid_value", "", id="a seed that is an object"),
        ({"seed": {(1, 2): 3}}, "invalid_value", ""),
    ],
    ids=str,
)
def test_settings_that_are_refused(more: dict[str, Any], code: str, key: str, tmp_path: Path) -> None:
    with refused(code, key):
        inverdict.evaluate(rows(), **{**SCRIPTED, "task": "qa", "run": tmp_path / "run", **more})
    assert list(tmp_path.iterdir()) == []


def test_a_setting_may_be_none_or_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(evaluating, "_run", lambda config, *more: seen.append(config))
    inverdict.evaluate(
        rows(), run=tmp_path, data=None, evaluate=None, task="qa", seed=np.int64(3), **{**SCRIPTED, "models": None}
    )
    assert seen[0]["seed"] == 3 and seen[0]["data"] == {"records": [str(tmp_path / "rows.jsonl")], "task": "qa"}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The name of the folder that a call without `run` takes; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)

    def of(given: Any, **settings: Any) -> str:
        seen: list[str] = []
        monkeypatch.setattr(evaluating, "_run", lambda config, *more: seen.append(Path(config["run"]).name))
        inverdict.evaluate(given, **{**SCRIPTED, **settings})
        return seen[0]

    return of


def test_the_default_folder_follows_the_content(folders: Callable[..., str], tmp_path: Path) -> None:
    for place in ("rows.jsonl", "many/rows.jsonl", "pool.jsonl", "dev.jsonl"):
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        found = []
        for content in ("a", "b", "a"):
            for name in ("rows.jsonl", "pool.jsonl", "dev.jsonl"):
                (tmp_path / name).write_text("same")
            file.write_text(content)
            given = "many" if place.startswith("many") else "rows.jsonl"
            found.append(folders(given, data={"pool": ["pool.jsonl"], "dev": ["dev.jsonl"]}))
        assert found[0] == found[2] != found[1], place
    assert folders(rows(), task="qa") == folders(rows(), task="qa") != folders(rows(5), task="qa")


def test_the_default_folder_follows_the_settings(folders: Callable[..., str]) -> None:
    whole = folders(rows(), task="qa", seed=1)
    assert whole == folders(rows(), task="qa", seed=1.0) == folders(rows(), task="qa", seed=np.int64(1))
    assert whole != folders(rows(), task="qa", seed=2)


def test_judges_by_source_by_name_and_by_settings() -> None:
    models, asked = evaluating._judges(["embedded:smollm2-135m-instruct", "/models/big"], {})
    assert asked == {"smollm2-135m-instruct": {"model": "smollm2-135m-instruct"}, "big": {"model": "big"}}
    assert models["big"] == {"source": "/models/big"}
    with refused("duplicate_name", "judges", naming="model-7b"):
        evaluating._judges(["org1/model-7b", "org2/model-7b"], {})
    with refused("duplicate_name", "judges", naming="small"):
        evaluating._judges({"small": "embedded:x"}, {"small": {"source": "mine"}})
    assert evaluating._judges(Path("/models/big"), {})[0] == {"big": {"source": "/models/big"}}
    models, asked = evaluating._judges({"x": "known", "y": {"model": "known", "prompt": "p"}}, {"known": {}})
    assert asked == {"x": {"model": "known"}, "y": {"model": "known", "prompt": "p"}} and list(models) == ["known"]


def test_two_judges_of_one_source_are_one_model() -> None:
    models, asked = evaluating._judges({"p1": "embedded:x", "p2": "embedded:x", "x": "p1"}, {})
    assert models == {"p1": {"source": "embedded:x"}, "x": {"source": "p1"}}
    assert asked == {"p1": {"model": "p1"}, "p2": {"model": "p1"}, "x": {"model": "x"}}
