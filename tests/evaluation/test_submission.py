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
    # Five columns with blanks between them and no header, as the organisers' eval.py splits them.
    assert (tmp_path / "run" / "submission.txt").read_text() == (
        "2 q9 a1 1.000000 1\n3 q1 a1 2.250000 2\n3 q1 a2 4.500000 1\n"
    )
    assert "3 scores of 2 questions" in capsys.readouterr().out


def test_integer_ids_are_sorted_by_value_and_written_as_given(tmp_path: Path) -> None:
    scores = rows(t3_10_2=1.0, t3_9_10=2.0, t3_9_9=3.0, t3_9_007=1.0, t3_9_x=4.0, t2_10_1=1.0)
    submission.main(evaluated(tmp_path, scores))
    lines = [line.split() for line in (tmp_path / "run" / "submission.txt").read_text().splitlines()]
    assert [" ".join(line[:3]) for line in lines] == ["2 10 1", "3 9 007", "3 9 9", "3 9 10", "3 9 x", "3 10 2"]
    # Within question 9: x 4, 9 3, 10 2, 007 1.
    assert [line[4] for line in lines] == ["1", "4", "2", "3", "1", "1"]


def test_ties_are_ranked_in_the_order_of_the_ids(tmp_path: Path) -> None:
    # 1 and 2 differ by less than what is written.
    submission.main(evaluated(tmp_path, rows(t3_q_10=2.0, t3_q_2=2.0000001, t3_q_1=2.0, t3_q_3=5.0, t3_q_11=1.0)))
    lines = [line.split() for line in (tmp_path / "run" / "submission.txt").read_text().splitlines()]
    assert {line[2]: line[4] for line in lines} == {"3": "1", "1": "2", "2": "3", "10": "4", "11": "5"}


@pytest.mark.parametrize(
    ("named", "key"),
    [({"group": "q 1"}, "questionId"), ({"system": "a\t1"}, "answerId"), ({"system": ""}, "answerId")],
)
def test_an_id_that_would_move_the_columns(tmp_path: Path, named: dict[str, str], key: str) -> None:
    run = evaluated(tmp_path, [{**rows(t3_q1_a1=2.0)[0], **named}])
    with refused("invalid_value", key, naming=repr(*named.values())):
        submission.main(run)
    assert not (tmp_path / "run" / "submission.txt").exists()


def test_two_answers_of_one_id(tmp_path: Path) -> None:
    (one,) = rows(t3_q1_a1=2.0)
    run = evaluated(tmp_path, [one, {**one, "id": "another"}])
    with refused("duplicate_id", "answerId"):
        submission.main(run)


def test_a_missing_score_is_an_error_and_no_number(tmp_path: Path) -> None:
    run = evaluated(tmp_path, rows(t3_q1_a2=None, t3_q1_a1=2.0))
    with refused("no_scores", naming="1 of 2 texts"):
        submission.main(run)
    assert not (tmp_path / "run" / "submission.txt").exists()


def test_other_data_and_no_evaluation(tmp_path: Path) -> None:
    with refused("missing_job", naming=f"{tmp_path}/run/evaluate"):
        submission.main(configured(tmp_path))
    run = evaluated(tmp_path, [{**rows(t3_q1_a1=2.0)[0], "dataset": "mine"}])
    with refused("unsupported", "data.format", naming="mine"):
        submission.main(run)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_four_subtasks_from_csv_to_submission(tmp_path: Path) -> None:
    """The organisers' files, one a subtask and split, with columns of other names than those that are assumed."""

    def tables(split: str, first: int, number: int, with_score: bool) -> list[str]:
        paths = [tmp_path / f"{split}_{name}.csv" for name in ("dialog", "story", "Xsum", "NFCATS")]
        for task, path in enumerate(paths):
            with path.open("w", newline="") as file:
                out = csv.writer(file)
                out.writerow(["questionId", "query", "answerId", "response", *(["human"] if with_score else [])])
                for question in range(first, first + number):
                    for answer in range(9, 12):
                        text = f"Answer {answer} to {task}.{question}."
                        values = [question, f"Question {task}.{question}?", answer, text]
                        out.writerow([*values, *([answer - 8] if with_score else [])])
        return list(map(str, paths))

    labelled, test = tables("train", 0, 16, True), tables("test", 14, 6, False)  # 14 and 15 are in both
    columns = {"query": "source", "response": "candidate", "human": "scores.overall"}
    config = {
        "run": str(tmp_path / "run"),
        "data": {"format": "aeollm", "columns": columns, "scale": [1, 5], "records": test, "dev": labelled},
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
    lines = [line.split() for line in (tmp_path / "run" / "submission.txt").read_text().splitlines()]
    # Four subtasks, four questions that are not in the labelled files, three answers.
    assert [line[:3] for line in lines] == [
        [str(task), str(question), str(answer)]
        for task in range(4)
        for question in range(16, 20)
        for answer in (9, 10, 11)
    ]
    assert all(len(line) == 5 for line in lines)
    assert {tuple(sorted(line[4] for line in lines[n : n + 3])) for n in range(0, 48, 3)} == {("1", "2", "3")}
