"""`inverdict submission CONFIG`: the panel's scores of a finished evaluation as the CSV file of the AEOLLM task.

Columns taskId, questionId, answerId, score, in the order of subtask, question, answer; higher is better. Every text
needs a score there, so a text without one is an error for people and never a number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from cluster.artifacts import Outcome, write_text
from cluster.config import RunConfig
from evaluation.batch.config import earlier_evaluation
from evaluation.judges.aggregation import PANEL
from judging.errors import InputError
from judging.readers import AEOLLM_SUBTASKS

COLUMNS = ("taskId", "questionId", "answerId", "score")


def main(run: RunConfig) -> Outcome:
    """Write `{run}/submission.csv`. Raises InputError where the evaluation is missing, of other data, or not whole."""
    file = earlier_evaluation(run)[0].path / "scores.parquet"
    rows = pq.read_table(file, columns=["task", "dataset", "group", "system", f"{PANEL}.score"]).to_pylist()
    if strange := next((row for row in rows if not row["dataset"].startswith("aeollm_")), None):
        raise InputError(f"{file} holds texts of {strange['dataset'] or strange['task']}: set data.format to aeollm")
    lost = sum(row[f"{PANEL}.score"] is None for row in rows)
    if lost:
        raise InputError(
            f"{lost} of {len(rows)} texts have no score, and the task takes none without: run "
            "`inverdict evaluate --retry-failed`, or change the panel"
        )
    lines = sorted(
        (AEOLLM_SUBTASKS.index(row["task"]), row["group"], row["system"], f"{row[f'{PANEL}.score']:.6f}")
        for row in rows
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *lines])
    out = run.run / "submission.csv"
    write_text(out, text.getvalue())
    return Outcome(0, {"num_rows": len(lines), "num_questions": len({line[:2] for line in lines}), "file": str(out)})


def render(summary: Mapping[str, Any]) -> str:
    return f"{summary['num_rows']} scores of {summary['num_questions']} questions: {summary['file']}"
