"""The progress of a run: read from its files, changing none of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from cluster.artifacts import JobDir, read_json
from evaluation.reporting import progress as progress_module
from evaluation.reporting.progress import last_change, progress
from tests.evaluation.making import record, write_records, write_verdicts_file
from tests.evaluation.reporting.test_records import under_way
from tests.evaluation.reporting.test_report import finished, page, rows
from tests.refusals import refused


def begun(run: Path, job: str, *, is_done: bool) -> None:
    one = JobDir(run, job)
    with one.opened({}):
        one.claim()
        if is_done:
            one.finish({})


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_jobs_are_done_when_every_folder_of_theirs_is(tmp_path: Path) -> None:
    begun(tmp_path, "distill/a", is_done=True)
    begun(tmp_path, "distill/b", is_done=True)
    begun(tmp_path, "sft/a/inverse", is_done=True)
    begun(tmp_path, "sft/a/forward", is_done=False)
    begun(tmp_path, "fit_judge/a", is_done=True)
    begun(tmp_path, "panel", is_done=True)
    begun(tmp_path, "panel/evaluate", is_done=False)  # below a job with a folder of its own
    begun(tmp_path, "something", is_done=True)
    found = progress(tmp_path)
    assert [(one["job"], one["state"]) for one in found["jobs"]] == [
        ("distill", "done"),
        ("sft", "unfinished"),
        ("fit-judge", "done"),
        ("panel", "done"),
    ]
    assert (found["has_report"], found["judges"], found["problems"]) == (False, [], [])


def test_verdicts_of_how_many_by_judge(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j", "k")
    write_verdicts_file(folder, "j", {("a", "overall"): 3, ("b", "overall"): "timeout"})
    before = files(tmp_path)
    first = progress(tmp_path / "run")
    assert first["judges"] == [{"judge": "j", "done": 2, "of": 3}, {"judge": "k", "done": 0, "of": 3}]
    assert first["jobs"] == [{"job": "evaluate", "state": "unfinished"}]
    assert files(tmp_path) == before
    write_verdicts_file(folder, "k", {("a", "overall"): 3})
    second = progress(tmp_path / "run")["version"]
    assert second != first["version"]
    assert progress(tmp_path / "run")["version"] == second


def test_a_damaged_part_is_named_and_kept(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j")
    write_verdicts_file(folder, "j", {("a", "overall"): 3})
    broken = folder / "verdicts" / "j" / "part-1.parquet"
    broken.write_bytes(b"PAR1")
    found = progress(tmp_path / "run")
    assert found["judges"] == [{"judge": "j", "done": 1, "of": 3}]
    assert len(found["problems"]) == 1 and "j's verdicts" in found["problems"][0]
    assert broken.exists()


def test_before_the_records_are_written_the_total_is_unknown(tmp_path: Path) -> None:
    job = JobDir(tmp_path, "evaluate")
    with job.opened({"evaluate": {"judges": {"j": {}}}}):
        job.claim()
    assert progress(tmp_path)["judges"] == [{"judge": "j", "done": 0, "of": None}]


def test_a_report_of_another_evaluation_is_none(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    assert not progress(run.run)["has_report"]
    page(run)
    assert progress(run.run)["has_report"]
    metrics = run.run / "report" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"scores_sha256": "', '"scores_sha256": "0'))
    assert not progress(run.run)["has_report"]
    page(run)
    (run.run / "report" / "report.html").unlink()
    assert not progress(run.run)["has_report"]
    page(run)
    JobDir(run.run, "evaluate").reopen()
    assert not progress(run.run)["has_report"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_report_is_none_and_named(tmp_path: Path, content: bytes) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    page(run)
    (run.run / "report" / "metrics.json").write_bytes(content)
    found = progress(run.run)
    assert (found["has_report"], found["jobs"]) == (False, [{"job": "evaluate", "state": "done"}])
    assert len(found["problems"]) == 1 and "report/metrics.json is damaged" in found["problems"][0]


def test_the_metrics_are_read_when_they_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    page(run)
    read: list[str] = []

    def counting(path: Path) -> dict[str, Any] | None:
        read.append(path.name)
        return read_json(path)

    monkeypatch.setattr(progress_module, "read_json", counting)
    assert progress(run.run)["has_report"] and progress(run.run)["has_report"]
    assert read.count("metrics.json") == 1
    page(run)
    assert progress(run.run)["has_report"] and read.count("metrics.json") == 2


def test_pairs_are_a_line_of_their_own(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    pairs = JobDir(run / "evaluate", "pairs")
    with pairs.opened({"pairs": {"aspects": None}, "judges": ["j"]}):
        pairs.claim()
    write_records(pairs.path, [record("a+b"), record("b+a"), record("a+c"), record("c+a")])
    write_verdicts_file(pairs.path, "j", {("a+b", "overall"): 1, ("b+a", "overall"): 2, ("a+c", "overall"): "timeout"})
    found = progress(run)
    jobs = [{"job": "evaluate", "state": "done"}, {"job": "pairs", "state": "unfinished"}]
    assert (found["jobs"], found["pairs"]) == (jobs, [{"judge": "j", "done": 3, "of": 4}])
    with pairs.opened({"pairs": {"aspects": None}, "judges": ["j"]}):
        pairs.finish({})
    found = progress(run)
    assert (found["jobs"][1], found["pairs"]) == ({"job": "pairs", "state": "done"}, [])


def test_the_last_change_is_seen_at_every_depth(tmp_path: Path) -> None:
    assert last_change(tmp_path) is None
    begun(tmp_path, "evaluate", is_done=True)
    begun(tmp_path, "sft/a/inverse", is_done=False)
    begun(tmp_path, "something", is_done=True)
    times = {"evaluate/fingerprint.json": 1, "evaluate/manifest.json": 3, "sft/a/inverse/fingerprint.json": 5}
    for name, time in {**times, "something/manifest.json": 9}.items():
        os.utime(tmp_path / name, ns=(time, time))
    (tmp_path / "sft" / "manifest.json").symlink_to("gone")  # like a file that is replaced meanwhile
    assert last_change(tmp_path) == 5


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]"])
def test_a_damaged_fingerprint_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    folder = under_way(tmp_path / "run", "j")
    (folder / "fingerprint.json").write_bytes(content)
    with refused("damaged_artifact", naming="fingerprint.json"):
        progress(tmp_path / "run")
