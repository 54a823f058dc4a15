"""`inverdict submission CONFIG`: the panel's scores of a finished evaluation as the CSV file of the AEOLLM task.

Columns taskId, questionId, answerId, score, sorted by subtask, question, answer; higher is better. The task requires
a score for every text, so a missing score is an error and never imputed.
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
    """Write `{run}/submission.csv`. Raises InputError where the evaluation is missing, incomplete or of other data."""
    file = earlier_evaluation(run)[0].path / "scores.parquet"
    rows = pq.read_table(file, columns=["task", "dataset", "group", "system", f"{PANEL}.score"]).to_pylist()
    if strange := next((row for row in rows if not row["dataset"].startswith("aeollm_")), None):
        raise InputError(
            f"{file} has texts of {strange['dataset'] or strange['task']}, which are not AEOLLM data. Set "
            "data.format to aeollm.",
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
