"""The pages of `inverdict view`, made from a run's files when they are requested. Writes nothing.

Requests choose among five pages and name no file. Requests for another host name are refused: a foreign web page could
make its own name resolve to this address (DNS rebinding).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.terminal import say
from evaluation.reporting.progress import progress
from evaluation.reporting.records import packed_records, records_page
from judging.errors import InputError
from serve.api.web_pages import csp_of

MAX_ROWS = 20_000
HTTP_PORT = 80
REST = 10  # the rows are made again at the earliest after this many times the seconds that it took
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def server_of(run: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the run's pages that has bound its port.

    Args:
        run: the run folder.
        host: the address to bind, and the only one besides `localhost` that requests may name.
        port: the port; 0: a free one.

    Raises:
        UserError: the port cannot be bound.
    """
    try:
        return ThreadingHTTPServer((host, port), type("Handler", (_Handler,), {"pages": Pages(run), "host": host}))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "no such port"
        message = f"--port {port}: {host} cannot be bound ({why}). Choose another port."
        raise UserError(message, code="port_taken") from error


class Answer(NamedTuple):
    """The answer to a request: status, type and content, and further headers."""

    status: int
    kind: str
    content: bytes
    headers: Mapping[str, str]


class Pages:
    """The pages of one run."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._rows: tuple[str, bytes] | None = None  # version and content
        self._keeps_until = 0.0
        self._said: set[str] = set()

    def answer(self, path: str) -> Answer:
        """The page of that path, or a sentence about what went wrong."""
        pages = {
            "/": self._first,
            "/report.html": self._report,
            "/records.html": self._records,
            "/state": self._state,
            "/rows": self._packed,
        }
        if path not in pages:
            return _text(404, "Not found. The pages are /report.html and /records.html.")
        try:
            return pages[path]()
        except (UserError, InputError) as error:
            return _text(409, str(error))
        except OSError as error:
            return _text(409, f"A file of the run cannot be read: {error}.")
        except Exception as error:  # a fault of ours: the page must not take it for the end of the server
            what = f"{path} failed ({type(error).__name__}: {error})"
            if what not in self._said:  # the page asks every two seconds
                self._said.add(what)
                say(f"view: {what}")
            return _text(500, f"`inverdict view` runs on, but {what}. Its terminal has this line for a bug report.")

    def _first(self) -> Answer:
        return _see("/report.html" if progress(self._run)["has_report"] else "/records.html")

    def _report(self) -> Answer:
        if not progress(self._run)["has_report"]:  # none, or one with the numbers of an earlier evaluation
            return _see("/records.html")
        content = (self._run / "report" / "report.html").read_bytes()
        return Answer(200, "text/html; charset=utf-8", content, {"content-security-policy": REPORT_POLICY})

    def _records(self) -> Answer:
        page = records_page(self._run)
        return Answer(200, "text/html; charset=utf-8", page.encode(), {"content-security-policy": csp_of(page)})

    def _state(self) -> Answer:
        found = progress(self._run)
        if self._rows is not None and time.monotonic() < self._keeps_until:
            found["version"] = self._rows[0]
        return Answer(200, "application/json", json.dumps(found).encode(), {})

    def _packed(self) -> Answer:
        """The rows, made once for each version: one request makes them, and others wait for it."""
        with self._lock:
            start, version = time.monotonic(), progress(self._run)["version"]
            if self._rows is None or (self._rows[0] != version and start >= self._keeps_until):
                self._rows = (version, packed_records(self._run, MAX_ROWS, why="the most that `inverdict view` shows"))
                self._keeps_until = time.monotonic() + REST * (time.monotonic() - start)
            return Answer(200, "application/json", self._rows[1], {"content-encoding": "gzip"})


def _see(place: str) -> Answer:
    return Answer(302, "text/plain", b"", {"location": place})


def _text(status: int, message: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", message.encode(), {})


class _Handler(BaseHTTPRequestHandler):
    pages: Pages
    host: str
    server_version, sys_version = "inverdict", ""
    timeout = 60  # of a connection that sends nothing

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer()._replace(content=b""))

    def _answer(self) -> Answer:
        if not self._names_this_server():
            return _text(403, "This server answers only requests to its own address.")
        return self.pages.answer(self.path.partition("?")[0])

    def _names_this_server(self) -> bool:
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        ends = (f":{port}", "") if port == HTTP_PORT else (f":{port}",)  # browsers leave out the port of http
        return self.headers.get_all("host") in [[f"{name}{end}"] for name in (self.host, "localhost") for end in ends]

    def _send(self, answer: Answer) -> None:
        length = {"content-length": str(len(answer.content))} if self.command == "GET" else {}
        with suppress(ConnectionError):  # the browser has gone
            self.send_response(answer.status)
            for name, value in {**HEADERS, "content-type": answer.kind, **length, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page that follows a run sends a request every two seconds."""
