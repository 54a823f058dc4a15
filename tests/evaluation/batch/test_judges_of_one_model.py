"""Several judges of one model in one `evaluate`: learned prompts, what they have seen, starts of the engine, resume."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main
from evaluation.batch import evaluate as batch
from evaluation.judges.prompt_sources import FALLBACK
from tests.evaluation.batch.running import configuration, scores, verdicts
from tests.evaluation.making import inverted, row, template_at

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
GROUPED = [row(f"r{number:02d}", f"g{number % 5}", scores={"overall": 3, "utility": 2}) for number in range(20)]


def learned(folder: Path) -> Path:
    """What `inverdict invert` leaves for the model `m`: one prompt for both aspects, and a fallback of their own."""
    invert = inverted(folder / "run", "m")
    both = "Rate both: {{source}} {{candidate}}"
    template_at(invert / "inverse" / "qa.txt", "overall", "utility", text=both, groups=["qa//g1", "qa//g3"])
    for aspect in ("overall", "utility"):
        template_at(invert / "forward" / f"qa.{aspect}.txt", aspect, fallback=True, groups=["qa//g3"])
    return invert


JUDGES = {name: {"model": "m", "prompt": name} for name in ("rubric", "inverse", "forward")}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A folder where three prompts of one model have been compared; tests that change it put it back."""
    folder = tmp_path_factory.mktemp("compared")
    learned(folder)
    models = {"m": {"backend": "scripted"}}
    config = configuration(folder, GROUPED, models, judges=JUDGES, block_rows=4)
    with (
        (folder / "out.txt").open("w") as out,
        (folder / "err.txt").open("w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        assert main(["run", config]) == 0
    return folder


def test_judges_of_one_model_share_a_start(compared: Path) -> None:
    said = (compared / "err.txt").read_text()
    assert said.count("starting the model") == 1
    assert "evaluate: forward, inverse, rubric: starting the model\n" in said
    # 12 records of three groups, two aspects, three judges.
    assert "evaluate: forward, inverse, rubric: 72 of 72 in " in said


def test_each_judge_is_asked_with_its_own_prompt(compared: Path) -> None:
    wanted = sorted((one["id"], aspect) for one in GROUPED for aspect in ("overall", "utility"))
    kept = [(id, aspect) for id, aspect in wanted if int(id[1:]) % 5 not in (1, 3)]
    by_key: dict[str, dict[tuple[str, str], float]] = {}
    for judge in JUDGES:
        found = {(one["id"], one["aspect"]): one["score"] for one in verdicts(compared, judge)}
        assert sorted(found) == kept
        by_key[judge] = found
    # The scripted score is a hash of the prompt: another prompt, another score; and each aspect has its own prompt.
    assert all(len({by_key[judge][key] for judge in JUDGES}) == 3 for key in kept)
    assert by_key["inverse"]["r00", "overall"] != by_key["inverse"]["r00", "utility"]
    assert {one["id"]: one["inverse.score"] for one in scores(compared) if one["aspect"] == "overall"} == {
        id: score for (id, aspect), score in by_key["inverse"].items() if aspect == "overall"
    }
    templates = compared / "run" / "evaluate" / "templates"
    assert "aspects:\n  overall: [1, 5]\n  utility: [1, 5]\n" in (templates / "inverse" / "qa.overall.txt").read_text()


def test_what_a_prompt_has_seen_is_left_out_for_all_judges(compared: Path) -> None:
    assert {one["group"] for one in scores(compared)} == {"g0", "g2", "g4"}
    assert "evaluate: 8 records are excluded for all judges" in (compared / "err.txt").read_text()
    summary = json.loads((compared / "run" / "evaluate" / "manifest.json").read_text())["summary"]
    assert (summary["num_records"], summary["num_left_out"]) == (12, 8)
    assert "24 scores of 12 records, 8 excluded\n" in batch.render(summary)
    report = (compared / "run" / "report" / "report.html").read_text()
    assert "8 further records were excluded for all judges" in report


def test_a_fallback_is_told_while_judging_and_in_the_report(compared: Path) -> None:
    line = f"WARNING: forward, qa: {FALLBACK}\n"
    assert (compared / "err.txt").read_text().count(f"evaluate: {line}") == 1
    assert (compared / "out.txt").read_text().count(line) == 1
    assert "inverse minus rubric (rubric)" in (compared / "out.txt").read_text()


def test_one_judge_is_resumed_and_the_others_are_left_alone(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = compared / "run" / "evaluate"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("verdicts/*/part-*.parquet")}
    whole = scores(compared)
    lost = sorted(folder.glob("verdicts/inverse/part-*.parquet"))[0]
    # As a kill leaves it.
    lost.unlink()
    (folder / "manifest.json").unlink()
    (folder / "scores.parquet").unlink()
    assert main(["evaluate", str(compared / "c.yaml")]) == 0
    after = {path: path.stat().st_mtime_ns for path in folder.glob("verdicts/*/part-*.parquet")}
    assert before.items() - after.items() == {(lost, before[lost])}
    assert after.keys() == before.keys()
    assert scores(compared) == whole
    said = capsys.readouterr()
    assert "evaluate: inverse: starting the model\n" in said.err
    assert "evaluate: inverse: 24 of 24 in " in said.err
    # The number of records left out is remembered with the records.
    assert "8 excluded" in said.out


def test_another_learned_prompt_in_the_same_place_is_refused_by_judge(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = compared / "run" / "invert" / "m" / "inverse" / "qa.txt"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept + b" ")
        assert main(["evaluate", str(compared / "c.yaml")]) == 2
    finally:
        file.write_bytes(kept)
    assert "prompts.inverse (" in capsys.readouterr().err
    assert main(["evaluate", str(compared / "c.yaml")]) == 0


def test_judges_that_are_sampled_otherwise_have_a_start_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judges: dict[str, Any] = {name: {"model": "m", "score_mode": "parsed"} for name in ("a", "b", "c", "d")}
    judges["hot"] = {"model": "m", "score_mode": "parsed", "temperature": 0.7}
    config = configuration(tmp_path, GROUPED, {"m": {"backend": "scripted"}}, judges=judges)
    assert main(["evaluate", config]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "starting" in line]
    assert said == ["evaluate: m: 4 prompts: starting the model", "evaluate: hot: starting the model"]
    found = [{one["id"]: one["reason"] for one in verdicts(tmp_path, judge)} for judge in judges]
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[4]) == 20
    # Judges that said the same of the same rows have parts of the same name, each in its own folder.
    assert {one["panel.num_votes"] for one in scores(tmp_path)} == {5}
