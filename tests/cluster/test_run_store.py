"""A run directory on an object store: what is brought in, what is sent and in which order, and who may use it."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster import run_lock, run_store
from cluster.__main__ import main
from cluster.config import RunConfig
from cluster.errors import JobFailed, UserError
from cluster.run_store import address_of, mirror_of, opened_run
from tests.cluster.s3_server import Store
from tests.evaluation.batch.test_evaluate import configuration
from tests.evaluation.making import row
from tests.refusals import refused


def on_machine(monkeypatch: pytest.MonkeyPatch, cache: Path, address: str) -> Path:
    """The mirror on a machine with a cache of its own."""
    monkeypatch.setenv("INVERDICT_CACHE", str(cache))
    return mirror_of(address)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_an_address_and_its_mirror_name_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "s3://bucket/a/b?region=eu-west-1"
    assert mirror_of("s3://bucket/a/b/?region=eu-west-1") == mirror_of(address) != mirror_of("s3://bucket/a/b")
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path))
    run = RunConfig.model_validate({"run": address, "models": {"m": {"source": "run:sft/m/merged"}}})
    assert run.run.parent == tmp_path / "runs"
    assert address_of(run.run) == address
    assert run.models["m"].source == "s3://bucket/a/b/sft/m/merged?region=eu-west-1"  # type: ignore[union-attr]
    assert [address_of(tmp_path / name) for name in ("runs", "runs/mine", "s3:/bucket")] == [None, None, None]


@pytest.mark.parametrize("address", ["s3://key@bucket/x", "s3:///x", "s3://bucket/x?access_key=1", "s3:/bucket/x"])
def test_an_invalid_address_is_refused_with_the_configuration(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        RunConfig.model_validate({"run": address})


def test_another_machine_goes_on_with_what_the_store_has(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = store.address("bucket/run")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        write(first / "evaluate" / "part-1.parquet", "one")
        write(first / "evaluate" / ".part-2.parquet", "half")
        write(first / "evaluate" / "manifest.json", "{}")
    assert store.names("bucket/run") == {"evaluate/part-1.parquet", "evaluate/manifest.json"}
    second = on_machine(monkeypatch, tmp_path / "second", address)
    with opened_run(second):
        assert (second / "evaluate" / "part-1.parquet").read_text() == "one"
        (second / "evaluate" / "part-1.parquet").unlink()
        write(second / "evaluate" / "part-3.parquet", "three")
    assert store.names("bucket/run") == {"evaluate/part-3.parquet", "evaluate/manifest.json"}
    # The first machine has older files, which must not come back.
    on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        assert {path.name for path in (first / "evaluate").iterdir()} == {"part-3.parquet", "manifest.json"}


def test_what_could_not_be_sent_goes_on_from_the_same_machine(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    with pytest.raises(JobFailed, match="the same command on this machine") as caught, opened_run(mirror):
        write(mirror / "part-1.parquet", "one")
        store.refuses.set()
    assert caught.value.code == "store_unwritable"
    assert store.names("bucket/run") == set()
    store.refuses.clear()
    with opened_run(mirror):
        assert (mirror / "part-1.parquet").read_text() == "one"
    assert store.names("bucket/run") == {"part-1.parquet"}


def test_a_manifest_is_sent_last_and_goes_before_its_files_change(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    monkeypatch.setattr(run_store, "SECONDS_BETWEEN_LOOKS", 60)
    with opened_run(mirror):
        write(mirror / "evaluate" / "manifest.json", "{}")
        write(mirror / "evaluate" / "part-1.parquet", "one")
    first = len(store.log)
    with opened_run(mirror):
        write(mirror / "evaluate" / "part-1.parquet", "ONE")
    sent = [line.partition("?")[0] for line in store.log if not line.startswith(("GET", "HEAD")) and "evaluate" in line]
    done = [line for line in sent if not line.startswith("PUT")]  # a file: POST (begin), PUT (content), POST (end)
    once = ["POST /bucket/run/evaluate/part-1.parquet"] * 2 + ["POST /bucket/run/evaluate/manifest.json"] * 2
    assert done == [*once, "DELETE /bucket/run/evaluate/manifest.json", *once]
    assert len(store.log) > first


def test_a_part_is_sent_while_the_command_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    monkeypatch.setattr(run_store, "SECONDS_BETWEEN_LOOKS", 0.05)
    with opened_run(mirror):
        write(mirror / "evaluate" / "part-1.parquet", "one")
        arrived = threading.Event()
        for _ in range(600):
            if "evaluate/part-1.parquet" in store.names("bucket/run"):
                arrived.set()
                break
            arrived.wait(0.05)
        assert arrived.is_set()


def test_a_second_process_is_refused_while_the_first_gives_signs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.05)
    address = store.address("bucket/run")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        second = on_machine(monkeypatch, tmp_path / "second", address)
        with pytest.raises(UserError, match=f"process {os.getpid()} on ") as caught, opened_run(second):
            pass
        assert (caught.value.code, caught.value.key) == ("in_use", "run")
    with opened_run(second):
        pass
    assert not [name for name in store.objects if "lock-" in name]


def test_a_process_that_gives_no_sign_is_taken_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.05)
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.3)
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    elsewhere = {"host": "gone", "machine": "another", "pid": 1, "count": 7}
    here = {"host": "here", "machine": run_lock._machine(), "pid": 2**22 + 1, "count": 7}  # above the highest number
    with opened_run(mirror):
        [name] = [name for name in store.objects if "lock-" in name]
    for number, holder in enumerate((elsewhere, here)):
        other = name.replace("lock-", f"lock-{number}")
        store.objects[other] = store.objects["bucket/run/.inverdict/mirror.json"]._replace(
            content=json.dumps(holder).encode()
        )
        with opened_run(mirror):
            assert other not in store.objects


def test_an_error_of_the_store_ends_no_signs_of_life(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.01)
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    written, write_once = [], run_lock.RunLock._write

    def fails_twice(lock: run_lock.RunLock) -> None:
        written.append(lock)
        if len(written) in (2, 3):
            raise pa.ArrowException("no OSError")
        write_once(lock)

    monkeypatch.setattr(run_lock.RunLock, "_write", fails_twice)
    with opened_run(mirror):
        for _ in range(1000):
            if len(written) > 4:
                break
            threading.Event().wait(0.01)
    assert len(written) > 4


def test_sigterm_sends_the_rest_and_leaves_no_lock(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = store.address("bucket/run")
    on_machine(monkeypatch, tmp_path / "cache", address)
    monkeypatch.setattr(run_store, "SECONDS_BETWEEN_LOOKS", 60)

    def job(run: RunConfig, **_: Any) -> None:
        write(run.run / "report" / "part-1.parquet", "one")
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the job went on")

    monkeypatch.setattr("evaluation.reporting.report.main", job)
    config = configuration(tmp_path, [row("a", "g")], {"m": {"backend": "scripted"}})
    others: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: others.append(number))  # also protects this process
    try:
        assert main(["report", config, "--set", f"run={address}"]) == 143
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert others == [signal.SIGTERM]  # that of afterwards
    assert capsys.readouterr().err == "inverdict report: terminated; the same command resumes\n"
    assert store.names("bucket/run") == {"report/part-1.parquet"}
    assert not [name for name in store.objects if "lock-" in name]


def test_what_an_older_mirror_had_not_sent_is_kept_beside_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = store.address("bucket/run")
    first = on_machine(monkeypatch, tmp_path / "first", address)
    with opened_run(first):
        write(first / "evaluate" / "part-1.parquet", "sent")
    # A killed command of this machine: the store has none of these.
    write(first / "evaluate" / "part-1.parquet", "changed")
    write(first / "evaluate" / "part-2.parquet", "new here")
    write(first / "evaluate" / "part-3.parquet", "the same elsewhere")
    second = on_machine(monkeypatch, tmp_path / "second", address)
    with opened_run(second):
        write(second / "evaluate" / "part-3.parquet", "the same elsewhere")
    capsys.readouterr()
    on_machine(monkeypatch, tmp_path / "first", address)
    for _ in range(2):
        with opened_run(first):
            assert {path.name for path in (first / "evaluate").iterdir()} == {"part-1.parquet", "part-3.parquet"}
            assert (first / "evaluate" / "part-1.parquet").read_text() == "sent"
    [kept] = first.parent.glob("unsent-*")
    assert {path.name: path.read_text() for path in (kept / "evaluate").iterdir()} == {
        "part-1.parquet": "changed",
        "part-2.parquet": "new here",
    }
    assert address_of(kept) is None
    assert [line for line in capsys.readouterr().err.splitlines() if f": 2, kept in {kept}" in line]
    assert store.names("bucket/run") == {"evaluate/part-1.parquet", "evaluate/part-3.parquet"}


def test_a_store_that_cannot_be_read_costs_a_mirror_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    with opened_run(mirror):
        write(mirror / "part-1.parquet", "one")
    write(mirror / "part-2.parquet", "two")
    owner = store.objects["bucket/run/.inverdict/mirror.json"]
    store.objects["bucket/run/.inverdict/mirror.json"] = owner._replace(content=b'{"id": "another"}')

    def fails(*_: Any) -> dict[str, Any]:
        raise OSError("away")

    monkeypatch.setattr(run_store, "listed", fails)
    with pytest.raises(JobFailed, match="away"), opened_run(mirror):
        pass
    assert (mirror / "part-2.parquet").read_text() == "two"


def test_a_process_that_was_taken_over_stops(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.05)
    mirror = on_machine(monkeypatch, tmp_path, store.address("bucket/run"))
    with pytest.raises(JobFailed, match="has taken over") as caught, opened_run(mirror):
        [name] = [name for name in store.objects if "lock-" in name]
        for _ in range(2000):  # a sign that is being given writes the object once more
            store.objects.pop(name, None)
            threading.Event().wait(0.01)
    assert caught.value.code == "in_use"


@pytest.mark.parametrize("job", ["sft", "fit", "serve"])
def test_a_job_whose_nodes_share_the_run_folder_is_refused(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, [row("a", "g")], {"m": {"backend": "scripted"}})
    assert main([job, config, "--set", f"run={(tmp_path / 'store').as_uri()}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"inverdict {job}: `run`: {job} needs the run directory on every node")
    assert said.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_a_command_on_a_folder_as_a_store_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    config = configuration(tmp_path, [row("a", "g")], {"m": {"backend": "scripted"}})
    assert main(["report", config, "--set", f"run={(tmp_path / 'store').as_uri()}"]) == 2
    assert "`inverdict evaluate" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["mirror.json"]


def test_a_run_on_a_mounted_folder_is_opened_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = on_machine(monkeypatch, tmp_path, (tmp_path / "store").as_uri())
    for text in ("once", "twice"):
        with opened_run(mirror):
            (mirror / "evaluate").mkdir(exist_ok=True)
            (mirror / "evaluate" / "note.txt").write_text(text)
        assert (tmp_path / "store" / "evaluate" / "note.txt").read_text() == text


def test_a_place_with_other_files_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("mine")
    mirror = on_machine(monkeypatch, tmp_path, (tmp_path / "store").as_uri())
    with refused("conflict", "run", naming="thesis.txt"), opened_run(mirror):
        pass
    assert (tmp_path / "store" / "thesis.txt").read_text() == "mine"
