"""`publish`: what a store is given, in which order, what again, and what it is told when it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.__main__ import main
from cluster.errors import JobFailed
from cluster.object_store import Place, address_problem, sent
from cluster.publish import Published, _is_new, check, publish
from tests.cluster.test_command_line import EVALUATION, job
from tests.refusals import refused


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        place = folder / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = write(tmp_path / "run", evaluate__manifest="{}", evaluate__records__part="rows", evaluate__scores="scores")
    for path in list(run.rglob("manifest")):
        path.rename(path.with_name("manifest.json"))
    write(run / "sft", checkpoints__step="optimiser")
    (run / "evaluate" / ".lock").write_text("")
    (run / "evaluate" / ".records.partial").mkdir()
    (run / "evaluate" / ".records.partial" / "part").write_text("half")
    return run


def there(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_store_gets_what_is_whole_and_later_what_has_changed(run: Path, tmp_path: Path) -> None:
    address = (tmp_path / "store" / "x").as_uri()
    check(run, address)
    assert publish(run, address) == (3, len("{}rowsscores"))
    whole = {"evaluate/manifest.json": "{}", "evaluate/records/part": "rows", "evaluate/scores": "scores"}
    assert there(tmp_path / "store" / "x") == whole
    assert publish(run, address) == (0, 0)
    # One of another length, one of the same length, one new; and the manifest of the two again.
    write(run, evaluate__scores="scores!", evaluate__records__part="ROWS", report__report="<html>")
    assert publish(run, address) == (4, len("scores!ROWS<html>{}"))
    assert there(tmp_path / "store" / "x") == {
        **whole,
        "evaluate/scores": "scores!",
        "evaluate/records/part": "ROWS",
        "report/report": "<html>",
    }


def test_a_manifest_comes_after_all_that_it_speaks_of(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, aaa__manifest="{}", zzz__file="x")
    (run / "aaa" / "manifest").rename(run / "aaa" / "manifest.json")
    copied: list[str] = []
    known = sent

    def noted(place: Place, name: str, file: Path) -> None:
        copied.append(file.name)
        known(place, name, file)

    monkeypatch.setattr("cluster.publish.sent", noted)
    publish(run, (tmp_path / "store").as_uri())
    assert copied == ["part", "scores", "file", "manifest.json", "manifest.json"]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("s3://bucket/runs", None),
        ("s3://bucket/x?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:9", None),
        ("gs://bucket", None),
        ("file:///mnt/store", None),
        ("runs/x", "the address must start with one of s3://, gs://, file://, not a plain path"),
        ("https://host/x", "the address must start with one of s3://, gs://, file://, not https"),
        ("s3:///runs", "the address has no bucket"),
        ("s3://bucket//x", "s3://bucket//x has an empty part"),
        ("s3://me:secret@bucket/x", "the address contains @ or #"),
        ("s3://me:se/cret@bucket/x", "the address contains @ or #"),
        ("s3://me:12#secret", "the address contains @ or #"),
        ("s3a://me:secret@bucket/x", "the address contains @ or #"),
        ("s3://bucket/x?secret_key=secret", "unknown option 'secret_key'"),
    ],
)
def test_an_address_is_looked_at_before_anything_begins(address: str, problem: str | None) -> None:
    found = address_problem(address)
    assert found is None if problem is None else str(found).startswith(problem)
    assert "=secret" not in str(found) and "cret@" not in str(found) and "#secret" not in str(found)


def test_a_folder_that_changes_has_no_manifest_until_it_is_whole_again(run: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(run, evaluate__verdicts__old="x")
    (run / "evaluate" / "verdicts" / "old").rename(run / "evaluate" / "verdicts" / "part-1.parquet")
    publish(run, store.as_uri())
    assert set(there(store)) >= {"evaluate/manifest.json", "evaluate/verdicts/part-1.parquet"}
    # As `evaluate --retry-failed` leaves it in the middle: reopened, its parts made anew under other names.
    (run / "evaluate" / "manifest.json").unlink()
    (run / "evaluate" / "verdicts" / "part-1.parquet").rename(run / "evaluate" / "verdicts" / "part-2.parquet")
    publish(run, store.as_uri())
    assert set(there(store)) == {"evaluate/records/part", "evaluate/scores", "evaluate/verdicts/part-2.parquet"}
    # Whole again, of the same length as before.
    (run / "evaluate" / "manifest.json").write_text("[]")
    assert publish(run, store.as_uri()) == (1, 2)
    (run / "evaluate" / "manifest.json").write_text("()")
    os.utime(run / "evaluate" / "manifest.json", (0, 0))
    assert publish(run, store.as_uri()) == (1, 2)
    # A change below it takes the manifest along, which comes last.
    write(run, evaluate__scores="other!")
    assert publish(run, store.as_uri()) == (2, len("other!()"))


def test_a_store_and_its_run_do_not_lie_in_one_another(run: Path) -> None:
    for place in (run / "published", run, run.parent):
        with refused("conflict", "publish", naming=str(run)):
            check(run, place.as_uri())


def test_a_store_that_fails_stops_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(EVALUATION)
    done = job(monkeypatch, evaluate=0, report=0)
    answers: list[Any] = [JobFailed("publish: away"), (1, 2)]

    def answer(run: Path, address: str) -> Any:
        one = answers.pop(0)
        if isinstance(one, JobFailed):
            raise one
        return Published(*one)

    monkeypatch.setattr("cluster.publish.publish", answer)
    words = ["run", str(config), "--set", f"run={tmp_path / 'r'}", "--set", f"publish={(tmp_path / 's').as_uri()}"]
    # What the first time could not do the second does.
    assert main(words) == 0
    assert done == ["evaluate", "report"]
    answers[:] = [(1, 2), JobFailed("publish: away")]
    assert main(words) == 1
    assert "publish: away" in capsys.readouterr().err


def test_a_store_that_refuses_is_one_line_and_the_run_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a folder is needed")
    with pytest.raises(JobFailed) as caught:
        publish(run, (tmp_path / "taken").as_uri())
    assert caught.value.code == "store_unwritable"
    assert str(tmp_path / "taken") in str(caught.value) and str(run) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (run / "evaluate" / "scores").exists()


def test_a_store_that_cannot_be_written_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a folder is needed")
    with refused("store_unwritable", "publish", naming="taken/x"):
        check(tmp_path / "run", (tmp_path / "taken" / "x").as_uri())


@pytest.mark.parametrize(("later", "is_new"), [(-0.3, False), (0.0, False), (0.4, False), (1.2, True)])
def test_a_store_that_tells_whole_seconds_has_what_was_written_in_that_second(
    tmp_path: Path, later: float, is_new: bool
) -> None:
    """As S3 does: a file of 100.5 s copied at once lies there as of 100 s."""
    place = tmp_path / "file"
    place.write_text("x")
    os.utime(place, ns=(0, int((100.5 + later) * 1e9)))
    assert _is_new(place, SimpleNamespace(size=1, mtime_ns=100_000_000_000), None) is is_new
    assert _is_new(place, SimpleNamespace(size=2, mtime_ns=200_000_000_000), None) is True


def test_each_job_of_a_run_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(EVALUATION)
    job(monkeypatch, evaluate=3, report=0)
    folder = write(tmp_path / "r", evaluate__scores="x" * 2_000_000)
    words = ["--set", f"run={folder}", "--set", f"publish={(tmp_path / 'store').as_uri()}"]
    assert main(["run", str(config), *words]) == 3
    assert (tmp_path / "store" / "evaluate" / "scores").exists()
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(", to file")[0] for line in said if "publish" in line] == [
        "publish: 1 files, 2.0 MB",
        "publish: 0 files, 0.0 MB",
    ]
    assert main(["run", str(config), "--set", f"run={folder}", "--set", "publish=runs/x"]) == 2
    assert "`publish`: " in capsys.readouterr().err
