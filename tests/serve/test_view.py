"""`inverdict view`: which run, what it refuses, and pages that follow a run until its report is there."""

import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from cluster.__main__ import main
from cluster.artifacts import JobDir
from serve import view_pages
from serve.view import check_run, latest_run
from serve.view_pages import server_of
from tests.browsing import chromium, needs_chromium, new_page
from tests.evaluation.making import write_verdicts_file
from tests.evaluation.reporting.test_progress import begun, files
from tests.evaluation.reporting.test_records import under_way
from tests.evaluation.reporting.test_report import finished, page, rows
from tests.refusals import refused


@contextmanager
def viewing(run: Path) -> Iterator[int]:
    """The port of a server of that run."""
    with server_of(run, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            thread.join()


class Found(NamedTuple):
    status: int
    headers: Message
    content: bytes


def answer(port: int, path: str, *, method: str = "GET", host: str | None = "") -> Found:
    """`host`: of the Host header; empty: the right one; None: no such header."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    got = connection.getresponse()
    return Found(got.status, got.headers, got.read())


def content(port: int, path: str) -> bytes:
    return answer(port, path).content


def test_a_finished_run_shows_its_report_and_its_records(tmp_path: Path) -> None:
    config = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    page(config)
    run = config.run
    before = files(run)
    with viewing(run) as port:
        first = answer(port, "/")
        assert (first.status, first.headers["location"]) == (302, "/report.html")
        whole = answer(port, "/report.html")
        assert b"Evaluation report" in whole.content
        assert whole.headers["content-security-policy"].startswith("default-src 'none'; style-src")
        assert "script-src" not in whole.headers["content-security-policy"]
        records = answer(port, "/records.html")
        assert "sha256-" in records.headers["content-security-policy"]
        assert "unsafe" not in records.headers["content-security-policy"]
        assert json.loads(content(port, "/state"))["has_report"] is True
        shown = answer(port, "/rows")
        assert shown.headers["content-encoding"] == "gzip"
        assert json.loads(gzip.decompress(shown.content))["num_rows"] == 4
        for one in (first, whole, records, shown):
            assert one.headers["x-content-type-options"] == "nosniff"
            assert one.headers["cache-control"] == "no-store"
    assert files(run) == before


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", None]
)
def test_another_host_name_is_refused(tmp_path: Path, host: str | None) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    with viewing(run) as port:
        found = answer(port, "/state", host=host and host.format(port=port))
        assert found.status == 403
        assert b"jobs" not in found.content
        assert answer(port, "/state", host=f"localhost:{port}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/report.html/../../secret.txt",
        "/report/report.html",
        "/evaluate/manifest.json",
        "http://127.0.0.1/state",
        "/report.html%00",
    ],
)
def test_no_path_leads_out_of_the_five_pages(tmp_path: Path, path: str) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    (tmp_path / "secret.txt").write_text("secret")
    with viewing(run) as port:
        found = answer(port, path)
        assert found.status == 404
        assert b"secret" not in found.content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(tmp_path: Path, method: str) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    with viewing(run) as port:
        assert answer(port, "/state", method=method).status == 501
        head = answer(port, "/state", method="HEAD")
        assert (head.status, head.content) == (200, b"")


def test_a_report_of_an_earlier_evaluation_is_not_shown(tmp_path: Path) -> None:
    config = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    page(config)
    with viewing(config.run) as port:
        assert answer(port, "/report.html").status == 200
        JobDir(config.run, "evaluate").reopen()
        found = answer(port, "/report.html")
        assert (found.status, found.headers["location"]) == (302, "/records.html")


def test_an_error_of_ours_is_told_from_the_end_of_the_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    (run / "evaluate" / "fingerprint.json").write_text('{"evaluate": [1]}')
    with viewing(run) as port:
        for _ in range(2):
            found = answer(port, "/rows")
            assert (found.status, found.headers["content-type"]) == (500, "text/plain; charset=utf-8")
            assert b"runs on" in found.content and b"AttributeError" in found.content
    said = capfd.readouterr().err
    assert said.count("view: /rows failed (AttributeError") == 1 and "Traceback" not in said


def test_a_manifest_without_a_summary_is_read(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    (run / "evaluate" / "manifest.json").write_text('{"files": {}}')
    with viewing(run) as port:
        assert json.loads(gzip.decompress(content(port, "/rows")))["num_rows"] == 4


def test_at_port_80_browsers_leave_the_port_out(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    with server_of(run, "127.0.0.1", 0) as server:
        port, server.server_port = server.server_port, 80
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        hosts = ("127.0.0.1", "localhost", "127.0.0.1:80", "evil.example", "127.0.0.1:81")
        found = [answer(port, "/state", host=host).status for host in hosts]
        server.shutdown()
        thread.join()
    assert found == [200, 200, 200, 403, 403]


def test_rows_are_made_again_after_a_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = under_way(tmp_path / "run", "j", "k")
    write_verdicts_file(folder, "j", {("a", "overall"): 3})
    pages = view_pages.Pages(tmp_path / "run")

    def shown() -> tuple[str, int]:
        version = json.loads(pages.answer("/state").content)["version"]
        return version, json.loads(gzip.decompress(pages.answer("/rows").content))["num_rows"]

    monkeypatch.setattr(view_pages, "REST", 1e9)
    shown()
    write_verdicts_file(folder, "k", {("a", "overall"): 3, ("b", "overall"): 3})
    # The rows and the version that a page compares stay those of before.
    assert shown() == ("0-1-0", 1)
    pages._keeps_until = 0
    assert shown() == ("0-1-2", 2)


def test_the_rows_left_out_are_those_of_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of `report.records`, which the view does not follow."""
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]), records=0).run
    monkeypatch.setattr(view_pages, "MAX_ROWS", 3)
    note = json.loads(gzip.decompress(view_pages.Pages(run).answer("/rows").content))["note"]
    assert note.endswith("(the most that `inverdict view` shows).") and "report.records" not in note


def test_a_client_that_sends_rubbish_or_goes_away_stops_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    with viewing(run) as port:
        for text in (b"\0\xff\r\n\r\n", b"GET", b"GET /rows HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port):
            with socket.create_connection(("127.0.0.1", port)) as one:
                one.sendall(text)
        assert answer(port, "/state").status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_under_way_says_what_is_done(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j")
    with viewing(tmp_path / "run") as port:
        for path in ("/", "/report.html"):
            assert answer(port, path).headers["location"] == "/records.html"
        first = json.loads(content(port, "/state"))
        assert first["judges"] == [{"judge": "j", "done": 0, "of": 3}]
        write_verdicts_file(folder, "j", {("a", "overall"): 3})
        second = json.loads(content(port, "/state"))
        assert second["version"] != first["version"]
        assert json.loads(gzip.decompress(content(port, "/rows")))["num_rows"] == 1
        (folder / "fingerprint.json").write_text("{")
        damaged = answer(port, "/rows")
        assert (damaged.status, damaged.headers["content-type"]) == (409, "text/plain; charset=utf-8")
        assert b"fingerprint.json is damaged" in content(port, "/state")


@needs_chromium
def test_in_a_browser_rows_appear_as_they_are_judged_and_then_the_report(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j")
    with viewing(tmp_path / "run") as port, chromium() as any_browser, new_page(any_browser) as (browser, problems):
        browser.goto(f"http://127.0.0.1:{port}/")
        browser.wait_for_selector("#progress:has-text('j: 0 of 3 verdicts')")
        write_verdicts_file(folder, "j", {("a", "overall"): 3, ("b", "overall"): 1})
        browser.wait_for_selector("#records tr.row:nth-child(2)")
        browser.fill("#search", "answer b")
        browser.focus("#records tbody tr .toggle")
        browser.keyboard.press("Enter")
        assert "j on b" in browser.inner_text("td.detail")
        more = folder / "verdicts" / "j"
        (more / "part-0.parquet").rename(tmp_path / "kept.parquet")
        more.rmdir()
        write_verdicts_file(folder, "j", {(id, "overall"): 3 for id in "abc"})
        browser.wait_for_selector("#progress:has-text('3 of 3')")
        # The filter, the open row and the focus are kept.
        browser.wait_for_selector("#status:has-text('1 of 3 rows')")
        assert "j on b" in browser.inner_text("td.detail")
        assert browser.evaluate("document.activeElement.className") == "toggle"
        made = tmp_path / "run" / "report"
        made.mkdir()
        (made / "report.html").write_text("<h1>The report</h1>")
        (made / "metrics.json").write_text('{"scores_sha256": "0"}')
        (folder / "manifest.json").write_text('{"files": {"scores.parquet": "0"}}')
        browser.wait_for_selector("h1:has-text('The report')")
        assert browser.url.endswith("/report.html")
    assert problems == []


def test_the_most_recent_run_is_shown(tmp_path: Path) -> None:
    for name in ("old", "new"):
        begun(tmp_path / name, "distill/m", is_done=True)
        begun(tmp_path / name, "evaluate", is_done=False)
    begun(tmp_path / "old", "index", is_done=True)
    assert latest_run(tmp_path) == tmp_path / "old"


def test_a_run_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("missing_run", naming=str(tmp_path)):
        latest_run(tmp_path)
    with refused("missing_run", naming="nothing"):
        check_run(tmp_path / "nothing")
    with refused("empty_run", naming=str(tmp_path)):
        check_run(tmp_path)
    (tmp_path / "c.yaml").write_text("run: x")
    with refused("not_a_folder", naming="c.yaml"):
        check_run(tmp_path / "c.yaml")
    monkeypatch.chdir(tmp_path)
    assert main(["view"]) == main(["view", "nothing"]) == 2


def test_a_port_that_is_taken_or_none(tmp_path: Path) -> None:
    with server_of(tmp_path, "127.0.0.1", 0) as server:
        for port in (server.server_port, 70_000, -1):
            with refused("port_taken", naming=str(port)):
                server_of(tmp_path, "127.0.0.1", port)


def test_the_command_prints_its_address_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    command = [sys.executable, "-m", "cluster", "view", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        port = int(address.strip("/").rpartition(":")[2])
        assert answer(port, "/state").status == 200
        # Another address of this machine: a server on all of them would answer.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.parametrize("options", [[], ["--open"]])
def test_a_page_is_opened_where_that_is_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", lambda _: None)
    assert main(["view", str(run), *options]) == 0
    assert opened == ([capsys.readouterr().out.strip()] if options else [])
