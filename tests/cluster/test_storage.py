"""A full disk and a closed one: one sentence, nothing half-written that a reader would take for whole, and resumed."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import artifacts, parts
from cluster.__main__ import main
from cluster.errors import storage_problem
from tests.evaluation.batch.test_evaluate import configuration
from tests.evaluation.making import row


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Errno 28] No space left on device: '/shared/r/x'", "written (/shared/r/x): No space left on device"),
        (
            "ray::MapBatches()\nOSError: [Errno 28] Error writing bytes. Detail: [errno 28] No space left on device",
            "written: No space left on device",
        ),
        ("[Errno 30] Read-only file system: '/r/.lock'", "written (/r/.lock): Read-only file system"),
        (
            "[Errno 13] Permission denied: '/r/a'\n...\n[Errno 122] Disk quota exceeded: '/r/b'",
            "written (/r/b): Disk quota",
        ),
    ],
)
def test_what_the_storage_refuses_is_one_line(text: str, said: str) -> None:
    found = storage_problem(RuntimeError(text))
    assert found is not None
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize("text", ["", "[Errno 2] No such file or directory: 'x'", "errno 28", "[Errno 280] x"])
def test_other_errors_are_ours_to_mend(text: str) -> None:
    assert storage_problem(RuntimeError(text)) is None


def test_a_part_and_a_text_that_did_not_fit_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.json").write_text("before")

    def half(path: Path) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(pq, "write_table", lambda _, path, **__: half(path))
    with pytest.raises(OSError, match="No space left"):
        parts.write_part(tmp_path, [{"id": "a"}], pa.schema([("id", pa.string())]), ["a"])
    monkeypatch.setattr(Path, "write_text", lambda path, *_, **__: half(path))
    with pytest.raises(OSError, match="No space left"):
        artifacts.write_text(tmp_path / "manifest.json", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_text() == "before"


def mount(place: Path, *options: str) -> bool:
    """Whether this user may mount, which is what the tests with a disk of their own need."""
    return subprocess.run(["mount", *options, str(place)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 KiB."""
    place = tmp_path / "run"
    place.mkdir()
    if not mount(place, "-t", "tmpfs", "-o", "size=160k", "tmpfs"):
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], capture_output=True, check=True)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_ends_the_job_in_one_line_and_room_lets_it_go_on(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 60 parts take a page of 4 KiB each at least: more than the disk has.
    rows = [row(f"r{number:02d}", f"g{number}") for number in range(60)]
    config = configuration(tmp_path, rows, {"m": {"backend": "scripted"}}, block_rows=1)
    assert main(["evaluate", config]) == 1
    said = capsys.readouterr().err
    told = [line for line in said.splitlines() if line.startswith("inverdict")]
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert "Traceback" not in said
    assert not (disk / "evaluate" / "manifest.json").exists()
    for part in disk.rglob("*.parquet"):
        assert pq.read_table(part).num_rows  # none is half
    assert mount(disk, "-o", "remount,size=8m")
    before = {path: path.stat().st_mtime_ns for path in disk.glob("evaluate/records/part-*")}
    assert main(["evaluate", config]) == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in disk.glob("evaluate/records/part-*")}.items()
    found = [one["id"] for one in pq.read_table(disk / "evaluate" / "scores.parquet").to_pylist()]
    assert sorted(found) == [one["id"] for one in rows]
    assert not [path for path in disk.rglob(".*") if path.name != ".lock"]


def test_a_disk_for_reading_alone_is_refused_before_any_work(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, [row("a")], {"m": {"backend": "scripted"}})
    (disk / "evaluate").mkdir()
    assert mount(disk, "-o", "remount,ro")
    assert main(["evaluate", config]) == 2
    said = capsys.readouterr().err
    assert f"{disk}/evaluate cannot be written: Read-only file system" in said
    assert said.count("\n") == 1
    assert main(["evaluate", config, "--set", f"run={disk}/inner/run"]) == 2
    assert "Read-only file system" in capsys.readouterr().err
