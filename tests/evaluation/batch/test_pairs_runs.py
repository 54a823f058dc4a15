"""Runs with pairs: added to a finished evaluation, killed, retried, over Ray, and what is said of the records."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from cluster.__main__ import main
from evaluation.batch import pairs
from judging import request_templates
from judging.tasks import load_task
from tests.evaluation.batch.comparing import BIASED, FAIR, FIRST, asked, compared, run, scripted, texts
from tests.evaluation.batch.running import configuration
from tests.evaluation.certification.certifying import without_ray
from tests.evaluation.making import row


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("ray") is None:
        without_ray(monkeypatch)


def test_pairs_are_added_to_a_finished_evaluation_and_nothing_is_asked_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"m": scripted(FAIR)}
    config = Path(configuration(tmp_path, texts(), models))
    assert main(["evaluate", str(config)]) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    plain = yaml.safe_load(config.read_text())
    plain["evaluate"]["pairs"] = {"against": "good"}
    config.write_text(yaml.safe_dump(plain))
    assert main(["evaluate", str(config)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(compared(tmp_path)) == 12
    capsys.readouterr()
    assert main(["evaluate", str(config)]) == 0
    assert capsys.readouterr().err.count("done before") == 2
    # Other pairs in the same place are refused by key, and the scores stay.
    assert main(["evaluate", str(config), "--set", "evaluate.pairs.against=all"]) == 2
    assert "pairs.against (good, now all)" in capsys.readouterr().err
    assert main(["report", str(config), "--set", "evaluate.pairs.against=all"]) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_killed_run_resumes_from_its_verdicts(tmp_path: Path) -> None:
    assert run(tmp_path, models={"m": scripted(FAIR)}, block_rows=6) == 0
    folder = tmp_path / "run" / "evaluate" / "pairs"
    whole, parts = compared(tmp_path), sorted((folder / "verdicts" / "m").glob("part-*.parquet"))
    for lost in (folder / "manifest.json", folder / "pairs.parquet", parts[0]):
        lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in parts[1:]}
    assert main(["evaluate", str(tmp_path / "c.yaml")]) == 0
    assert compared(tmp_path) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_killed_run_does_not_go_on_with_another_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, models={"m": scripted(FAIR)}) == 0
    (tmp_path / "run" / "evaluate" / "pairs" / "manifest.json").unlink()
    worded = dataclasses.replace(request_templates.pair_template(load_task("qa"), "overall"), text="Which is better?")
    monkeypatch.setattr(pairs, "pair_template", lambda *_, **__: worded)
    assert main(["evaluate", str(tmp_path / "c.yaml")]) == 2
    assert "prompt" in capsys.readouterr().err


def test_unscored_pairs_exit_3_and_are_asked_again_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = {"contains": "<candidate>\ngood answer 0.\n</candidate>\nText 2", "error": "error"}
    assert run(tmp_path, models={"m": scripted([lost, *FAIR])}) == 3
    rows = compared(tmp_path)
    # One order of two pairs of group 0 failed.
    failed = {key for key, one in rows.items() if one["m.unscored"] == "error"}
    assert failed == {("bad0", "good0"), ("good0", "mid0")}
    one = rows["good0", "mid0"]
    assert (one["m.given"], one["m.turned"], one["m.winner"]) == (None, pytest.approx(0.9), None)
    assert (one["panel.winner"], one["panel.unscored"]) == (None, "no_quorum")
    assert "2 error" in capsys.readouterr().out
    num_asked = len(asked(tmp_path, "m"))
    assert main(["evaluate", str(tmp_path / "c.yaml"), "--retry-failed"]) == 3
    assert len(asked(tmp_path, "m")) == num_asked == 36
    assert main(["evaluate", str(tmp_path / "c.yaml"), "--set", "evaluate.max_unscored_share=1"]) == 0


@pytest.mark.ray
def test_features_and_repeated_judges_are_left_out_with_a_word(
    tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"m": scripted(FAIR), "words": {"backend": "features", "feature": "length"}}
    judges = {
        "m": {"model": "m"},
        "shown": {"model": "m", "examples": ["e"]},
        "said": {"model": "m", "min_label_mass": 0.2},
        "words": {"model": "words"},
    }
    config = Path(configuration(tmp_path, texts(), models, judges=judges, pairs={}))
    plain = yaml.safe_load(config.read_text())
    pool = tmp_path / "pool.jsonl"
    pool.write_text(json.dumps(row("e", "elsewhere")) + "\n")
    config.write_text(yaml.safe_dump({**plain, "data": {**plain["data"], "pool": [str(pool)]}}))
    assert main(["evaluate", str(config)]) == 0
    assert "evaluate: pairs: without shown, words: " in capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "evaluate" / "pairs" / "manifest.json").read_text())["summary"]
    assert set(summary["judges"]) == {"m", "said", "panel"}


def test_what_the_records_lack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        *texts(num_groups=2),
        row("nameless", "g0", source="A tricky question 0?"),
        row("alone", "h", system="good"),
    ]
    assert run(tmp_path, rows, pairs={"against": {"sample": 2}}) == 0
    said = capsys.readouterr().err
    assert "1 records without a system are in no pair" in said and "1 groups have no pair to compare" in said
    assert len(compared(tmp_path)) == 4


@pytest.mark.ray
def test_over_ray_the_pairs_are_the_same(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "here"):
        (tmp_path / name).mkdir()
    assert run(tmp_path / "ray", block_rows=6) == 0
    without_ray(monkeypatch)
    assert run(tmp_path / "here") == 0
    assert compared(tmp_path / "ray") == compared(tmp_path / "here")


def test_the_selection_of_a_panel_compares_no_pairs(tmp_path: Path) -> None:
    models = {"biased": scripted(BIASED), "first": scripted(FIRST)}
    config = Path(configuration(tmp_path, texts(8), models, pairs={}))
    plain = yaml.safe_load(config.read_text())
    plain["data"]["dev_share"] = 0.6
    config.write_text(yaml.safe_dump(plain))
    main(["panel", str(config)])
    assert (tmp_path / "run" / "panel" / "evaluate" / "scores.parquet").exists()
    assert not (tmp_path / "run" / "panel" / "evaluate" / "pairs").exists()
