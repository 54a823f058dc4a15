"""The report's section on certificates: its content, escaping and warnings."""

import json
from pathlib import Path

import pytest

from evaluation.reporting import report
from judging.certificates.certificate import Certificate, ProbeResult
from tests.evaluation.reporting.test_report import HOSTILE, check_self_contained, finished, page, rows
from tests.judging.certificates.making import certificate, figure, probe
from tests.refusals import refused

SKIPPED = ProbeResult(name="own_family", unit="u", limit=0.05, skipped=f"none of {HOSTILE}")
PROBES = (probe("length", 0.31, biased=True), SKIPPED, probe("injection", 0.02))


def certify(run: Path, *ones: Certificate, scores: str = "") -> None:
    """The output of the job `certify`. `scores`: sha256 of another evaluation than the one in the run folder."""
    evaluated = json.loads((run / "evaluate" / "manifest.json").read_text())["files"]
    for number, one in enumerate(ones):
        path = run / "certify" / "certificates" / f"n{number}" / "qa.overall.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.to_text())
    known = {**evaluated, "scores.parquet": scores} if scores else evaluated
    (run / "certify" / "manifest.json").write_text(json.dumps({"fingerprint": {"scores": known}}))


def test_a_run_without_certificates_has_no_section(tmp_path: Path) -> None:
    assert "Certificates" not in page(finished(tmp_path / "run", rows([1, 4, 2, 5]))).text


@pytest.mark.draws
def test_criteria_probes_and_what_was_tested(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    plain = page(run)
    certify(run.run, certificate("j", probes=PROBES), certificate("k", num_groups=7, probes=PROBES[2:]))
    found = page(run)
    check_self_contained(found)
    # The plot of the probes is the only new image.
    assert found.tags.count("img") == plain.tags.count("img") + 1
    assert "✗ probe length 0.31 [0.21, 0.41]: no bias above 0.05" in found.text
    assert "✓ probe injection 0.02" in found.text
    assert "✗ 7 groups, at least 20" in found.text
    assert "<td class=biased>.31" in found.source
    assert "another evaluation" not in found.text
    assert "data.pool (1 groups)" in found.text and "qa / d / overall" in found.text


def test_names_are_escaped(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    one = certificate(HOSTILE, task=HOSTILE, dataset=HOSTILE, aspect=HOSTILE, probes=PROBES, date=HOSTILE)
    certify(run.run, one)
    found = page(run)
    check_self_contained(found)
    assert found.text.count(HOSTILE) >= 5


def test_certificates_of_another_evaluation_are_marked(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    certify(run.run, certificate("j"), scores="0" * 64)
    assert "another evaluation" in page(run).text


def test_without_a_probe_there_is_no_picture(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    plain = page(run)
    certify(run.run, certificate("j", probes=(SKIPPED,), human_ceiling={"group.spearman": figure(0.77)}))
    found = page(run)
    assert found.tags.count("img") == plain.tags.count("img")
    assert "No probes were run." in found.text and ".77" in found.text


def test_an_edited_certificate_stops_the_report(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    certify(run.run, certificate("j", coverage=0.5).model_copy(update={"coverage": 1.0}))
    with refused("damaged_artifact", naming="qa.overall.json"):
        report.main(run)
