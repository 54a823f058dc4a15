"""Commands that only look at a run on an object store: what they fetch, and that they change nothing for its writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster import jobs, run_copy, run_lock
from cluster.__main__ import main
from cluster.errors import JobFailed
from cluster.run_copy import newest_copy
from cluster.run_store import opened_run
from tests.cluster.s3_server import Store
from tests.cluster.test_run_store import on_machine, write
from tests.evaluation.batch.test_evaluate import configuration
from tests.evaluation.making import row
from tests.evaluation.reporting.test_report import finished, rows

PART, MANIFEST = "evaluate/part-1.parquet", "evaluate/manifest.json"


def fetched(store: Store, first: int) -> set[str]:
    """The files of the run that the requests after the first ones have read."""
    paths = {line.removeprefix("GET /bucket/run/") for line in store.log[first:] if line.startswith("GET ")}
    return {path for path in paths if not path.startswith((".", "GET "))}


def newest(run: Path) -> Path:
    with newest_copy(run) as folder:
        return folder


def files(folder: Path) -> dict[str, str]:
    """The content of a folder's files that are not hidden."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name.as_posix(): path.read_text() for name, path in found.items() if name.name[0] != "."}


def test_a_command_looks_at_a_run_that_another_machine_is_writing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.05)
    address = store.address("bucket/run")
    (tmp_path / "c.yaml").write_text(f"run: {address}\n")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        finished(first, rows([1, 4, 2, 5] * 3, [1, 4, 2, 5] * 3))
    with opened_run(first):
        owner, signs = store.objects["bucket/run/.inverdict/mirror.json"], len(store.log)
        second = on_machine(monkeypatch, tmp_path / "second", address)
        assert main(["compare", str(tmp_path / "c.yaml")]) == 0
        assert "s1" in capsys.readouterr().out
        assert not second.exists()
        assert store.objects["bucket/run/.inverdict/mirror.json"] == owner
        [lock] = [name for name in store.objects if "lock-" in name]
        changed = [line for line in store.log[signs:] if not line.startswith(("GET", "HEAD"))]
        assert [line for line in changed if lock.removeprefix("bucket/run/") not in line] == []
        write(first / "note.txt", "one")
    assert "note.txt" in store.names("bucket/run")  # the writer's mirror is still the newest


@pytest.mark.parametrize("command", jobs.LOOKS)
def test_only_a_command_that_writes_to_the_run_opens_the_store_for_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    config = configuration(tmp_path, [row("a", "g")], {"m": {"backend": "scripted"}})
    run = (tmp_path / "store").as_uri()
    require = ["--require", "panel.coverage > 0"] if command == "gate" else []
    # There is no evaluation yet.
    assert main([command, config, "--set", f"run={run}", *require]) == (0 if command == "plan" else 2)
    assert (tmp_path / "store").exists() == (command == "submission")


def test_a_second_look_fetches_what_has_changed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = store.address("bucket/run")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        for name in (PART, "evaluate/part-2.parquet", MANIFEST, "index/part-1.parquet", "index/manifest.json"):
            write(first / name, name)
    second = on_machine(monkeypatch, tmp_path / "second", address)
    assert files(newest(second)) == files(first)
    for change in (False, True):
        on_machine(monkeypatch, tmp_path / "first", address)
        with opened_run(first):
            if change:
                write(first / PART, "another length")
                (first / "evaluate/part-2.parquet").unlink()
        on_machine(monkeypatch, tmp_path / "second", address)
        before = len(store.log)
        assert files(newest(second)) == files(first)
        assert {PART, MANIFEST} & fetched(store, before) == ({PART, MANIFEST} if change else set())
        assert "index/part-1.parquet" not in fetched(store, before)
    assert not second.exists()


def test_the_mirror_itself_is_looked_at_while_it_is_the_newest_and_else_left_as_it_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = store.address("bucket/run")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        write(first / PART, "one")
        assert newest(first) == first
    write(first / "evaluate/part-2.parquet", "not sent")
    assert newest(first) == first
    second = on_machine(monkeypatch, tmp_path / "second", address)
    with opened_run(second):
        write(second / PART, "two")
    on_machine(monkeypatch, tmp_path / "first", address)
    assert files(newest(first)) == {PART: "two"}
    assert files(first) == {PART: "one", "evaluate/part-2.parquet": "not sent"}


def test_a_place_without_a_run_is_an_empty_one(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    assert files(newest(mirror)) == {}
    with opened_run(mirror):
        write(mirror / PART, "one")
    on_machine(monkeypatch, tmp_path / "second", store.address("bucket/run"))
    assert files(newest(mirror)) == {PART: "one"}
    store.objects.clear()
    assert files(newest(mirror)) == {}
    assert newest(tmp_path) == tmp_path


@pytest.mark.parametrize("gone", [PART, MANIFEST])
def test_a_manifest_is_left_out_where_its_files_change_meanwhile(
    gone: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = store.address("bucket/run")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        for name in (PART, MANIFEST, "index/manifest.json"):
            write(first / name, name)
    kept = store.objects[f"bucket/run/{gone}"]
    fetch = run_copy._fetch

    def and_removes(*args: Any) -> bool:
        store.objects.pop(f"bucket/run/{gone}", None)
        return fetch(*args)

    mirror = on_machine(monkeypatch, tmp_path / "second", address)
    with monkeypatch.context() as patch:
        patch.setattr(run_copy, "_fetch", and_removes)
        assert MANIFEST not in files(newest(mirror))
    store.objects[f"bucket/run/{gone}"] = kept
    assert files(newest(mirror)) == files(first)


def test_a_store_that_does_not_answer_is_one_sentence(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))

    def fails(_: object) -> str:
        raise OSError("away")

    monkeypatch.setattr(run_copy, "owner_of", fails)
    with pytest.raises(JobFailed, match="away") as caught:
        newest(mirror)
    assert caught.value.code == "store_unreadable"
