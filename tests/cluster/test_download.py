"""Downloads from a server on this machine: whole or absent, resumed, refused; files of the hub; who gets the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import download as module
from cluster.download import GITHUB_FILES, HUB, commit_of, hub_files
from cluster.errors import JobFailed
from tests.published import Server, serving
from tests.refusals import refused

BODY = bytes(range(256)) * 40
COMMIT = "0123456789" * 4


def download(url: str, place: Path, *, what: str = "a", max_bytes: int = len(BODY)) -> None:
    module.download(url, place, what=what, max_bytes=max_bytes)


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
    download(f"{server.url}/d/a.bin", tmp_path / "x" / "a.bin")
    assert (tmp_path / "x" / "a.bin").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.bin"]
    assert "downloading a (MB): 1 of 1" in capsys.readouterr().err


def test_an_interrupted_download_is_continued(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    server.cut = 5000
    with failed("unreachable", naming="is continued"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists() and (tmp_path / ".a.bin.part").stat().st_size == 5000
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert server.asked[-1][1]["Range"] == "bytes=5000-"
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("content", "ignores_if_range"),
    # The second server answers every range, whatever If-Range says: its ETag tells that the file has changed.
    [(b"another", False), (bytes(len(BODY)), True)],
)
def test_a_file_that_changed_in_between_is_not_mixed(
    content: bytes, ignores_if_range: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    server.cut = 5000
    with failed("unreachable"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    server.files["/d/a.bin"], server.ignores_if_range = content, ignores_if_range
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == content


def test_a_file_that_is_too_large_is_refused_before_its_body(server: Server, tmp_path: Path) -> None:
    server.cut = 0  # the length is stated, the body does not come
    with failed("too_large", naming=f"/d/a.bin is larger than expected (more than {len(BODY) - 1:,} bytes)"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin", max_bytes=len(BODY) - 1)
    assert list(tmp_path.iterdir()) == [] and len(server.asked) == 1


def test_a_body_without_end_is_stopped_and_removed(server: Server, tmp_path: Path) -> None:
    server.endless.add("/d/a.bin")
    with failed("too_large", naming="1,000,000 bytes"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin", max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == [] and len(server.asked) == 1


def test_an_interrupted_download_of_a_file_that_grew_is_removed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    server.cut = 5000
    with failed("unreachable"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    server.files["/d/a.bin"] = BODY * 2
    with failed("too_large"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_disk_cannot_hold(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage._replace(free=len(BODY) - 1))
    with refused("store_unwritable", naming="a needs 1 MB"):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage._replace(free=len(BODY)))
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin")


def test_a_cut_connection_is_tried_again_at_once(server: Server, tmp_path: Path) -> None:
    server.cut = 5000
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "tries", "naming"),
    [(401, 1, "HF_TOKEN"), (403, 1, "Accept its terms"), (404, 1, "--from"), (503, 3, "Try again later")],
)
def test_a_refusal_says_the_way_out(server: Server, tmp_path: Path, status: int, tries: int, naming: str) -> None:
    server.status["/d/a.bin"] = status
    with failed("unreachable", naming=naming):
        download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    assert len(server.asked) == tries and list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there(server: Server, tmp_path: Path) -> None:
    with failed("unreachable", naming="http://127.0.0.1:9/a.bin cannot be downloaded"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin")


def test_the_token_goes_to_the_hub_alone(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download(f"{server.url}/d/a.bin", tmp_path / "a.bin")
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    server.files["/datasets/o/n/resolve/main/a.bin"] = BODY
    download(f"{HUB}/datasets/o/n/resolve/main/a.bin", tmp_path / "b.bin")
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


def test_a_list_of_files_without_end_is_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1_000_000)
    path = "/api/datasets/o/n/tree/main"
    server.files[path] = b""
    with failed("unreachable", naming="JSON"):
        hub_files(f"{HUB}/datasets/o/n/resolve/main", "*.csv")
    server.endless.add(path)
    with failed("too_large", naming=path):
        hub_files(f"{HUB}/datasets/o/n/resolve/main", "*.csv")


def test_the_commit_of_a_branch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(module, "GITHUB_API", f"{server.url}/github")
    hub, github = f"{HUB}/datasets/o/n/resolve/{{revision}}", f"{GITHUB_FILES}/o/n/{{revision}}/data"
    assert commit_of(github, COMMIT) == COMMIT and server.asked == []
    answer = json.dumps({"sha": COMMIT}).encode()
    server.files["/api/datasets/o/n/revision/a%2Fb"] = server.files["/github/repos/o/n/commits/a%2Fb?per_page=1"] = (
        answer
    )
    assert commit_of(hub, "a/b") == commit_of(github, "a/b") == COMMIT
    assert [headers.get("Authorization") for _, headers in server.asked] == ["Bearer hf_secret"] * 2


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"sha": 1}', b'{"sha": "../../other"}', b"<html>"])
def test_a_host_that_tells_no_commit(server: Server, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(module, "GITHUB_API", server.url)
    server.files["/repos/o/n/commits/main?per_page=1"] = answer
    assert commit_of(f"{GITHUB_FILES}/o/n/{{revision}}", "main") is None
    assert commit_of(f"{GITHUB_FILES}/o/gone/{{revision}}", "main") is None
    assert commit_of(f"{server.url}/o/n/{{revision}}", "main") is None


def test_a_hub_that_does_not_answer_is_not_asked_for_files(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with failed("unreachable", naming="404"):
        commit_of(f"{HUB}/datasets/o/n/resolve/{{revision}}", "main")
