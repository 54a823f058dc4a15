"""The report's files: damaged ones of the evaluation, the order in which its own are written, the page's policy."""

import base64
import hashlib
from pathlib import Path

import pytest

from evaluation.reporting import report
from tests.evaluation.reporting.test_report import finished, page, rows
from tests.refusals import refused


@pytest.mark.parametrize(
    ("name", "named"), [("scores.parquet", "scores.parquet"), ("verdicts/j/part-0.parquet", "verdicts")]
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, named: str) -> None:
    two = [{**one, "scores": {"j": one["label"], "k": 6 - one["label"]}} for one in rows([1, 4, 2, 5])]
    run = finished(tmp_path / "run", two)
    file = tmp_path / "run" / "evaluate" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"PAR1 no more")
    with refused("damaged_artifact", naming=str(tmp_path / "run" / "evaluate" / named)):
        report.main(run)
    assert not (tmp_path / "run" / "report").exists()


@pytest.mark.parametrize("is_gone", [True, False])
def test_texts_that_cannot_be_read_are_missed_aloud(tmp_path: Path, is_gone: bool) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    [part] = (tmp_path / "run" / "evaluate" / "records").glob("part-*")
    part.write_bytes(b"PAR1 no more")
    if is_gone:
        part.unlink()
    assert page(run).text.count("(text cannot be read)") == 2 * 4


def test_what_tells_whose_report_it_is_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(report, "write_text", lambda path, text: written.append(path.name))
    report.main(finished(tmp_path / "run", rows([1, 4, 2, 5])))
    assert written == ["report.html", "metrics.json"]


def test_a_page_opened_as_a_file_allows_its_style_alone(tmp_path: Path) -> None:
    found = page(finished(tmp_path / "run", rows([1, 4, 2, 5])))
    policy = dict(found.attributes)["content"]
    style = found.source.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; img-src data:"
    )
