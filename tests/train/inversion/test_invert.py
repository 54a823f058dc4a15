"""The job `invert` with scripted models: what it leaves, how it chooses, and which work is not its own."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from judging.template_io import load_templates
from tests.train.inversion.making import (
    ONIONS,
    asking,
    configuration,
    files,
    lines,
    place,
    rated,
    scripted,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """Two tasks, two sources, two examples of the one and one of the other; tests only read it."""
    folder = tmp_path_factory.mktemp("done")
    assert main(["invert", configuration(folder, examples=["a", "b", "s"])]) == 0
    return folder


def test_every_task_and_source_has_its_template_and_every_candidate_its_file(done: Path) -> None:
    assert files(done) == [
        "candidates/forward/qa.000.txt",
        "candidates/forward/qa.001.txt",
        "candidates/forward/summarisation.000.txt",
        "candidates/inverse/qa.000.txt",
        "candidates/inverse/qa.001.txt",
        "candidates/inverse/summarisation.000.txt",
        "forward/qa.txt",
        "forward/summarisation.txt",
        "inverse/qa.txt",
        "inverse/summarisation.txt",
    ]
    templates = load_templates(place(done) / "inverse" / "qa.txt")
    assert list(templates) == ["overall", "utility"]
    text = asking("bravo", ("{{source}}", "{{candidate}}"))
    assert {one.text for one in templates.values()} == {f"{text}\n\n{{{{reply_format}}}}"}
    assert {one.origin for one in templates.values()} == {"inverse"}
    assert load_templates(place(done) / "forward" / "qa.txt")["utility"].origin == "forward"
    (fluency,) = load_templates(place(done) / "inverse" / "summarisation.txt").values()
    assert (fluency.task, fluency.aspect, fluency.several) == ("summarisation", "fluency", False)


def test_the_judges_own_probability_decides(done: Path) -> None:
    about = load_templates(place(done) / "inverse" / "qa.txt")["overall"].about
    # People gave 4 and 2, 2 and 4. Alpha: (-0.5 - 1.5 - 1.5 - 0.5) / 4; bravo: (-0.25 - 0.75 - 0.75 - 0.25) / 4.
    assert about["ranking"] == ["1: -0.5000", "0: -1.0000"]
    assert about == {
        "judge": "judge",
        "judge_fingerprint": "none",
        "writer_fingerprint": "none",
        "examples": ["a", "b"],
        "groups": ["qa//g-a", "qa//g-b"],
        "chosen_by": "mean log-probability of the human score",
        "num_candidates": 2,
        "num_verified": 2,
        "ranking": about["ranking"],
        "candidate": 1,
        "example": "b",
        "rank": 1,
        "value": -0.5,
        "slots": {"source": "exact", "candidate": "exact"},
    }
    second = load_templates(place(done) / "candidates" / "inverse" / "qa.000.txt")["overall"]
    assert "alpha manner" in second.text
    assert (second.about["rank"], second.about["value"], second.about["candidate"]) == (2, -1.0, 0)
    # What is chosen stands among the candidates too, word by word.
    chosen = (place(done) / "candidates" / "inverse" / "qa.001.txt").read_bytes()
    assert (place(done) / "inverse" / "qa.txt").read_bytes() == chosen


def test_a_key_that_came_later_leaves_finished_work_valid(done: Path) -> None:
    identity = json.loads((place(done) / "fingerprint.json").read_text())["invert"]
    assert "inversion_prompt" not in identity and identity["num_candidates"] == 1


def test_of_equal_candidates_the_first_is_taken(done: Path) -> None:
    # The baseline wrote one and the same prompt for both examples.
    about = load_templates(place(done) / "forward" / "qa.txt")["overall"].about
    assert about["ranking"] == ["0: -2.0000", "1: -2.0000"]
    assert (about["candidate"], about["slots"]) == (0, {"source": "appended", "candidate": "appended"})


def test_every_candidate_has_a_line(done: Path) -> None:
    found = lines(done)
    shape = [(one["source"], one["task"], one["number"], one["example"], one["rank"]) for one in found]
    assert shape == [
        ("inverse", "qa", 0, "a", 2),
        ("inverse", "qa", 1, "b", 1),
        ("inverse", "summarisation", 0, "s", 1),
        ("forward", "qa", 0, "a", 1),
        ("forward", "qa", 1, "b", 2),
        ("forward", "summarisation", 0, "s", 1),
    ]
    assert all(one["verified"] and one["problems"] == [] for one in found)
    assert found[0]["raw"] == asking("alpha", ONIONS)
    assert found[2]["value"] == pytest.approx(-0.125)


def test_the_summary_says_what_was_chosen(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((place(done) / "manifest.json").read_text())
    first = manifest["summary"]["templates"][0]
    assert first == {
        "source": "inverse",
        "task": "qa",
        "aspects": ["overall", "utility"],
        "examples": ["a", "b"],
        "num_candidates": 2,
        "num_verified": 2,
        "num_quoted": 2,
        "refused": {},
        "fallback": False,
        "value": -0.5,
    }
    assert "candidates.jsonl" in manifest["files"]
    before = {path: path.stat().st_mtime_ns for path in place(done).rglob("*")}
    # A setting that changes no template is no other work.
    assert main(["invert", str(done / "c.yaml"), "--set", "invert.fallback=false"]) == 0
    said = capsys.readouterr()
    assert said.err == f"invert: judge: done before, {place(done)} is up to date\n"
    assert said.out.splitlines() == [
        f"judge: {place(done)}",
        "  inverse  qa (overall, utility): 2 of 2 prompts verified, 2 of them quote every text; best -0.500",
        "  inverse  summarisation (fluency): 1 of 1 prompts verified, 1 of them quote every text; best -0.125",
        "  forward  qa (overall, utility): 2 of 2 prompts verified, 0 of them quote every text; best -2.000",
        "  forward  summarisation (fluency): 1 of 1 prompts verified, 0 of them quote every text; best -1.000",
    ]
    assert {path: path.stat().st_mtime_ns for path in place(done).rglob("*")} == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("invert.temperature=0.5", "invert.temperature (0.95, now 0.5)"),
        ("invert.num_candidates=2", "invert.num_candidates (1, now 2)"),
        ("invert.examples=[a]", "invert.examples"),
        ("models.judge.garbage_share=0.5", "judge.garbage_share (0.0, now 0.5)"),
        ("models.inv.garbage_share=0.5", "inversion.garbage_share (0.0, now 0.5)"),
        ("seed=1", "seed (0, now 1)"),
    ],
)
def test_other_work_in_the_same_place_is_refused_by_key(
    done: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    assert main(["invert", str(done / "c.yaml"), "--set", setting]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_another_pool_in_the_same_place_is_refused_by_file(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = done / "pool.jsonl"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept + b"\n")
        assert main(["invert", str(done / "c.yaml")]) == 2
    finally:
        file.write_bytes(kept)
    assert f"files.{file}" in capsys.readouterr().err


def test_a_changed_task_file_is_other_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = {
        "name": "emails",
        "intro": "You judge e-mails.",
        "fields": [{"name": "source", "title": "Request"}, {"name": "candidate", "title": "E-mail"}],
        "aspects": {"tone": {"question": "Kind?", "scale": [1, 3], "labels": {1: "no", 2: "so-so", 3: "yes"}}},
    }
    path = tmp_path / "emails.yaml"
    path.write_text(yaml.safe_dump(task))
    pool = [{**rated("a", ONIONS, tone=2), "task": None, "scale": [1, 3]}]
    # People's scale and the task's are one; the prompt states no scale.
    judge = scripted(
        {"contains": "Rate the tone", "label_logprobs": {"2": -0.5}},
        {"contains": "the judge was given", "reply": "Rate the tone of the e-mail. Say whether it is kind."},
    )
    config = configuration(tmp_path, judge=judge, pool=pool, sources=["forward"], examples=["a"], require_scale=False)
    options = ["--set", f"data.task={path}"]
    assert main(["invert", config, *options]) == 0
    assert files(tmp_path) == ["candidates/forward/emails.000.txt", "forward/emails.txt"]
    (template,) = load_templates(place(tmp_path) / "forward" / "emails.txt").values()
    assert (template.task, template.about["value"], template.about["groups"]) == (str(path), -0.5, [f"{path}//g-a"])
    capsys.readouterr()
    path.write_text(yaml.safe_dump({**task, "intro": "You judge letters."}))
    assert main(["invert", config, *options]) == 2
    assert f"files.{path}" in capsys.readouterr().err


def test_one_template_an_aspect_where_they_are_not_together(tmp_path: Path) -> None:
    # The scores are left out, and a model that would see one fails.
    blind = scripted(
        {"contains": '_score"', "error": "error"}, {"contains": ONIONS[0], "reply": asking("alpha", ONIONS)}
    )
    options: dict[str, Any] = {"aspects_together": False, "with_score": False, "num_candidates": 2}
    config = configuration(tmp_path, inversion=blind, examples=["a"], sources=["inverse"], **options)
    assert main(["invert", config]) == 0
    assert files(tmp_path) == [
        *(
            f"candidates/inverse/qa.{aspect}.{number}.txt"
            for aspect in ("overall", "utility")
            for number in ("000", "001")
        ),
        "inverse/qa.overall.txt",
        "inverse/qa.utility.txt",
    ]
    for aspect, value in (("overall", -0.5), ("utility", -1.5)):
        templates = load_templates(place(tmp_path) / "inverse" / f"qa.{aspect}.txt")
        assert list(templates) == [aspect]
        # Its own aspect alone decides: people gave a 4 and a 2.
        assert templates[aspect].about["value"] == value
        assert not templates[aspect].several
