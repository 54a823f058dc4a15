"""`evaluate` and `load`: rows of every kind, the same files as the command line, and refusals before anything runs."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inverdict
from cluster.__main__ import main as command
from inverdict import evaluating
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
    assert sorted(systems["system"]) == ["a", "b"] and {"value", "low", "high", "rank_low", "n"} <= set(systems.columns)
    assert len(found.differences()) == 1
    assert set(found.systems(by="people")["coverage"]) == {0.5}
    assert "group.spearman" in set(found.agreement()["statistic"])
    assert found.report().is_file() and "qa / records / overall" in repr(found) and "<table" in found._repr_html_()
    with refused("invalid_value", "by"):
        found.systems(by="nobody")
    # The commands take the configuration that was written, and have nothing left to do.
    before = (tmp_path / "list" / "evaluate" / "scores.parquet").stat().st_mtime_ns
    assert command(["evaluate", str(tmp_path / "list" / evaluating.CONFIG)]) == 0
    assert (tmp_path / "list" / "evaluate" / "scores.parquet").stat().st_mtime_ns == before
    assert inverdict.load(tmp_path / "list").metrics == found.metrics


@pytest.mark.ray
def test_the_example_of_the_docstring(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes to runs/
    assert doctest.testmod(evaluating).failed == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ([], "no_records"),
        ([["a"]], "invalid_value"),
        ({"source": "s"}, "invalid_value"),
        (["no/such/file.jsonl"], "missing_file"),
    ],
)
def test_rows_that_are_none(given: Any, code: str, tmp_path: Path) -> None:
    with refused_code(code):
        inverdict.evaluate(given, task="qa", run=tmp_path / "run", **SCRIPTED)
    assert not (tmp_path / "run" / "evaluate").exists()


def refused_code(code: str) -> Any:
    return pytest.raises(ValueError, check=lambda error: error.code == code)


def test_a_misspelt_setting_is_refused_by_its_name(tmp_path: Path) -> None:
    with refused("unknown_key", "sed", naming="seed"):
        inverdict.evaluate(rows(), task="qa", run=tmp_path / "run", sed=1, **SCRIPTED)


def test_a_finished_run_keeps_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "evaluate").mkdir(parents=True)
    (folder / "rows.jsonl").write_text("old\n")
    with refused("unknown_key", "sed"):
        inverdict.evaluate(rows(), task="qa", run=folder, sed=1, **SCRIPTED)
    with refused("other_rows", "run", naming=str(folder)):
        inverdict.evaluate(rows(), task="qa", run=folder, **SCRIPTED)
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["rows.jsonl"]
    assert (folder / "rows.jsonl").read_text() == "old\n"


def test_the_default_folder_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    monkeypatch.setattr(evaluating, "_run", lambda config, text: seen.append(config["run"]))
    file = tmp_path / "rows.jsonl"
    for content in ("a", "b", "a"):
        file.write_text(content)
        inverdict.evaluate(file, **SCRIPTED, seed=np.int64(3))
    assert seen[0] == seen[2] != seen[1]


def test_a_run_without_a_report(tmp_path: Path) -> None:
    with refused("no_report", naming=str(tmp_path)):
        inverdict.load(tmp_path)


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


def test_missing_values_of_pandas_are_left_out() -> None:
    frame = pd.DataFrame([{"a": 1.0, "t": pd.NaT}, {"a": None, "t": pd.Timestamp("2026-01-02")}])
    files, text = evaluating._files(frame)
    assert files == [] and text == '{"a": 1.0}\n{"t": "2026-01-02 00:00:00"}\n'
