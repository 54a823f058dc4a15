"""`inverdict submission CONFIG`: the panel's scores of a finished evaluation as a submission to the AEOLLM task.

A text file without a header: `taskId questionId answerId score rank` with blanks between them, a line per text, in the
order of subtask, question and answer; integer ids by value. Rank 1 is the best answer to its question; answers of equal
score are ranked in the order of their ids. The task requires a score for every text, so a missing score is an error and
never imputed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from cluster.artifacts import Outcome, write_text
from cluster.config import RunConfig
from evaluation.batch.config import earlier_evaluation
from evaluation.judges.aggregation import PANEL
from judging.errors import InputError
from judging.readers import AEOLLM_SUBTASKS

FILE = "submission.txt"


class Line(NamedTuple):
    """A text's line without its rank. `score`: as it is written."""

    task: int
    question: str
    answer: str
    score: str


def main(run: RunConfig) -> Outcome:
    """Write `{run}/submission.txt`. Raises InputError where the evaluation is missing, incomplete or of other data."""
    file = earlier_evaluation(run)[0].path / "scores.parquet"
    rows = pq.read_table(file, columns=["task", "dataset", "group", "system", f"{PANEL}.score"]).to_pylist()
    if strange := next((row for row in rows if not row["dataset"].startswith("aeollm_")), None):
        raise InputError(
            f"{file} has texts of {strange['dataset'] or strange['task']}, which are not AEOLLM data. Set "
            "data.records to dataset:aeollm_test, or data.format to aeollm.",
            code="unsupported",
            key="data.format",
        )
    lost = sum(row[f"{PANEL}.score"] is None for row in rows)
    if lost:
        raise InputError(
            f"{lost} of {len(rows)} texts have no score, but the task requires all. Run `inverdict evaluate "
            "--retry-failed`, or change the panel.",
            code="no_scores",
        )
    lines = [
        Line(AEOLLM_SUBTASKS.index(row["task"]), row["group"], row["system"], f"{row[f'{PANEL}.score']:.6f}")
        for row in rows
    ]
    _check_ids(lines)
    out = run.run / FILE
    write_text(out, "".join(f"{' '.join(map(str, line))} {rank}\n" for line, rank in ranked(lines)))
    questions = {(line.task, line.question) for line in lines}
    return Outcome(0, {"num_rows": len(lines), "num_questions": len(questions), "file": str(out)})


def ranked(lines: Sequence[Line]) -> list[tuple[Line, int]]:
    """The lines in their order in the file, each with its rank among the answers to its question, 1 for the best."""
    in_order = sorted(lines, key=lambda line: (line.task, _by_value(line.question), _by_value(line.answer)))
    found = []
    for _, answers in groupby(in_order, key=lambda line: (line.task, line.question)):
        members = list(answers)
        best_first = sorted(members, key=lambda line: -float(line.score))  # stable: ties in the order of the ids
        ranks = {line.answer: rank for rank, line in enumerate(best_first, 1)}
        found += [(line, ranks[line.answer]) for line in members]
    return found


def _by_value(id: str) -> tuple[int, int, str]:
    """Integers first, by value; other ids as texts."""
    return (0, int(id), id) if id.isascii() and id.isdigit() else (1, 0, id)


def _check_ids(lines: Sequence[Line]) -> None:
    """Raises InputError for an id that is empty or has a blank in it, and for two answers of one id to a question."""
    ids = {id: name for line in lines for id, name in ((line.question, "questionId"), (line.answer, "answerId"))}
    strange = next((id for id in ids if id.split() != [id]), None)
    if strange is not None:
        raise InputError(
            f"{ids[strange]} {strange!r}: the columns of a submission are separated by blanks, so an id must be one "
            "word. Change the id in the data.",
            code="invalid_value",
            key=ids[strange],
        )
    if len({line[:3] for line in lines}) < len(lines):
        raise InputError(
            "Two texts have one taskId, questionId and answerId. Keep one of them in the data.",
            code="duplicate_id",
            key="answerId",
        )


def render(summary: Mapping[str, Any]) -> str:
    return f"{summary['num_rows']} scores of {summary['num_questions']} questions: {summary['file']}"
