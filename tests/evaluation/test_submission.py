"""The AEOLLM task from its CSV files to a submission."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from cluster.config import RunConfig, load
from cluster.jobs import sections
from evaluation import submission
from tests.evaluation.making import scores_file
from tests.evaluation.reporting.test_report import finished
from tests.refusals import refused


def rows(**score: float | None) -> list[dict[str, Any]]:
    """Texts named task-question-answer with the panel's score."""
    made = []
    for name, value in score.items():
        task, question, answer = name.split("_")
        known = {"t2": ("summarisation", "aeollm_2"), "t3": ("qa", "aeollm_3")}[task]
        about = {"task": known[0], "dataset": known[1], "group": question, "system": answer}
        made.append({"id": name, "label": None, "scores": {"j": value}, **about})
    return made


def configured(folder: Path) -> RunConfig:
    (folder / "c.yaml").write_text(yaml.safe_dump({"run": str(folder / "run")}))
    return load(folder / "c.yaml", [], sections())


def evaluated(folder: Path, given: list[dict[str, Any]]) -> RunConfig:
    """A finished evaluation with these scores."""
    finished(folder / "run", [{**one, "label": 3.0} for one in given])
    scores_file(folder / "run" / "evaluate", given)
    return configured(folder)


def test_every_text_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(tmp_path, rows(t3_q1_a2=4.5, t2_q9_a1=1.0, t3_q1_a1=2.25))
    assert main(["submission", str(tmp_path / "c.yaml")]) == 0
    lines = list(csv.reader((tmp_path / "run" / "submission.csv").open()))
    assert lines == [
        ["taskId", "questionId", "answerId", "score"],
        ["2", "q9", "a1", "1.000000"],
        ["3", "q1", "a1", "2.250000"],
        ["3", "q1", "a2", "4.500000"],
    ]
    assert "3 scores of 2 questions" in capsys.readouterr().out


def test_a_missing_score_is_an_error_and_no_number(tmp_path: Path) -> None:
    run = evaluated(tmp_path, rows(t3_q1_a2=None, t3_q1_a1=2.0))
    with refused("no_scores", naming="1 of 2 texts"):
        submission.main(run)
    assert not (tmp_path / "run" / "submission.csv").exists()


def test_other_data_and_no_evaluation(tmp_path: Path) -> None:
    with refused("missing_job", naming=f"{tmp_path}/run/evaluate"):
        submission.main(configured(tmp_path))
    run = evaluated(tmp_path, [{**rows(t3_q1_a1=2.0)[0], "dataset": "mine"}])
    with refused("unsupported", "data.format", naming="mine"):
        submission.main(run)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_four_subtasks_from_csv_to_submission(tmp_path: Path) -> None:
    def table(name: str, first: int, number: int, with_score: bool) -> str:
        path = tmp_path / name
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["taskId", "questionId", "question", "answerId", "answer", *(["score"] if with_score else [])])
            for task in range(4):
                for question in range(first, first + number):
                    for answer in range(1, 4):
                        text = f"Answer {answer} to {task}.{question}."
                        values = [task, f"q{question}", f"Question {task}.{question}?", f"a{answer}", text]
                        out.writerow([*values, *([answer] if with_score else [])])
        return str(path)

    labelled, test = table("train.csv", 0, 16, True), table("test.csv", 14, 6, False)  # q14 and q15 are in both
    config = {
        "run": str(tmp_path / "run"),
        "data": {"format": "aeollm", "scale": [1, 5], "records": [test], "dev": [labelled]},
        "models": {"m": {"backend": "scripted"}, "n": {"backend": "scripted", "garbage_share": 0.0, "delay_s": 0.001}},
        "panel": {"resamples": 100},
        "evaluate": {
            "aspects": ["overall"],
            "judges": {"a": {"model": "m"}, "b": {"model": "n"}},
            "vote": {"rule": "best"},
        },
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    for job in ("panel", "evaluate", "submission"):
        assert main([job, str(tmp_path / "c.yaml")]) == 0
    lines = list(csv.DictReader((tmp_path / "run" / "submission.csv").open()))
    # Four subtasks, four questions that are not in the labelled file, three answers.
    assert len(lines) == 48 and {line["questionId"] for line in lines} == {"q16", "q17", "q18", "q19"}
    assert {line["taskId"] for line in lines} == {"0", "1", "2", "3"}
