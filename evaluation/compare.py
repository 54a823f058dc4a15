"""`inverdict compare CONFIG`: which system of a finished evaluation is better, without writing a report.

Reads `{run}/evaluate` and certificates, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.artifacts import Outcome
from cluster.config import RunConfig, section_or_default
from cluster.parts import readable
from evaluation.batch.config import earlier_evaluation
from evaluation.measure.slices import measure
from evaluation.measure.system_comparison import compare_systems
from evaluation.reporting.answer_section import answer_text, answers
from evaluation.reporting.certificates_section import current_certificates
from evaluation.reporting.pages import label_name
from evaluation.reporting.report import Config


def main(run: RunConfig) -> Outcome:
    """Compare the systems with the `report` section's settings. Raises InputError where `evaluate` has not finished."""
    config = section_or_default(run, "report", Config)
    _, done = earlier_evaluation(run)
    labels = done["fingerprint"]["data"]["labels"]
    scores = run.run / "evaluate" / "scores.parquet"
    with readable(scores, scores.parent, "evaluate"):
        slices = measure(scores, resamples=config.resamples, seed=run.seed, interval=config.interval)
        parts = compare_systems(scores, resamples=config.resamples, seed=run.seed)
    found = answers(parts, slices, current_certificates(run.run), labels)
    text = "\n\n".join(answer_text(answer, label_name(labels)) for answer in found)
    return Outcome(0, {"systems": [answer.to_json() for answer in found], "answer": text})


def render(summary: Mapping[str, Any]) -> str:
    """What was found, as in the report."""
    return str(summary["answer"])
