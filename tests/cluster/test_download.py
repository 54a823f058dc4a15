"""Downloads from a server on this machine: whole or absent, resumed, refused; files of the hub; who gets the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import download as module
from cluster.download import HUB, download, hub_files
from cluster.errors import JobFailed
from tests.published import Server, serving

BODY = bytes(range(256)) * 40


@contextmanager
def failed(code: str, *, naming: str = "") -> Iterator[None]:
    """The block must raise a `JobFailed` of that code whose message holds `naming`."""
    with pytest.raises(JobFailed) as caught:
        yield
    assert caught.value.code == code and naming in str(caught.value), str(caught.value)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module, "_hub_token", lambda: "hf_secret")
    with serving() as one:
        one.files["/d/a.bin"] = BODY
        yield one


def test_a_file_appears_whole(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(f"{server.url}/d/a.bin", tmp_path / "x" / "a.bin", what="a")
    assert (tmp_path / "x" / "a.bin").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.bin"]
    assert "downloading a (MB): 1 of 1" in capsys.readouterr().err


def test_an_interrupted_download_is_continued(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    server.cut = 5000
    with failed("unreachable", naming="is continued"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    assert not (tmp_path / "a.bin").exists() and (tmp_path / ".a.bin.part").stat().st_size == 5000
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    assert server.asked[-1][1]["Range"] == "bytes=5000-"
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_file_that_changed_in_between_is_not_mixed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    server.cut = 5000
    with failed("unreachable"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    server.files["/d/a.bin"] = b"another"
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    assert (tmp_path / "a.bin").read_bytes() == b"another"


def test_a_cut_connection_is_tried_again_at_once(server: Server, tmp_path: Path) -> None:
    server.cut = 5000
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "tries", "naming"),
    [(401, 1, "HF_TOKEN"), (403, 1, "Accept its terms"), (404, 1, "--from"), (503, 3, "Try again later")],
)
def test_a_refusal_says_the_way_out(server: Server, tmp_path: Path, status: int, tries: int, naming: str) -> None:
    server.status["/d/a.bin"] = status
    with failed("unreachable", naming=naming):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    assert len(server.asked) == tries and list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there(server: Server, tmp_path: Path) -> None:
    with failed("unreachable", naming="http://127.0.0.1:9/a.bin cannot be downloaded"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", what="a")


def test_the_token_goes_to_the_hub_alone(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin", what="a")
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    server.files["/datasets/o/n/resolve/main/a.bin"] = BODY
    download(f"{HUB}/datasets/o/n/resolve/main/a.bin", tmp_path / "b.bin", what="a")
    assert [headers.get("Authorization") for _, headers in server.asked] == [None, "Bearer hf_secret"]
    assert (tmp_path / "b.bin").read_bytes() == BODY


def test_files_of_the_hub_by_pattern(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    names = ["0625/train-1.parquet", "0625/train-0.parquet", "0625/README.md"]
    listed = [{"type": "file", "path": name, "size": 1} for name in names] + [{"type": "directory", "path": "0625/x"}]
    server.files["/api/datasets/o/n/tree/main/0625"] = json.dumps(listed).encode()
    at = f"{HUB}/datasets/o/n/resolve/main"
    assert hub_files(at, "0625/*.parquet") == ["0625/train-0.parquet", "0625/train-1.parquet"]
    with failed("missing_file", naming=r"has no file 0625/*.csv"):
        hub_files(at, "0625/*.csv")
