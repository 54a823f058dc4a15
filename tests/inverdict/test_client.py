"""The client: what it sends, and how it says what the server refuses."""

import doctest
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import numpy as np
import pytest

import inverdict
import inverdict.client
from cluster.errors import JobFailed
from tests.local_server import address_of, local_server
from tests.refusals import refused


def client(status: int = 200, body: object = None, seen: list[httpx.Request] | None = None) -> inverdict.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, json={"score": 3.0} if body is None else body)

    return inverdict.Client("http://server:1", key="k", transport=httpx.MockTransport(answer))


def test_the_request_is_that_of_the_endpoint() -> None:
    seen: list[httpx.Request] = []
    with client(seen=seen) as panel:
        assert panel.judge(task="qa", source="Why?", candidate="So.", aspects=("overall",)) == {"score": 3.0}
        panel.judge_batch([{"task": "qa", "fields": {"candidate": "So."}}])
    first, second = seen
    assert (first.url.path, first.headers["authorization"]) == ("/v1/judge", "Bearer k")
    assert json.loads(first.content) == {
        "task": "qa",
        "fields": {"candidate": "So.", "source": "Why?"},
        "aspects": ["overall"],
    }
    assert second.url.path == "/v1/judge/batch"


def test_a_refusal_says_what_the_server_says() -> None:
    with refused("unknown_task", "task", naming="No such task"):
        told = {"message": "No such task.", "type": "invalid_request_error", "param": "task", "code": "unknown_task"}
        client(400, {"error": told}).judge(candidate="So.")
    with refused("404", naming="Not Found"):
        client(404, {"detail": "Not Found"}).judge(candidate="So.")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (503, {"error": {"message": "busy", "code": "no_quorum"}}, "no_quorum"),
        (503, ["odd"], "server_error"),
        (502, {"error": "text"}, "server_error"),
        (429, {"error": {"message": "busy", "code": "overloaded"}}, "overloaded"),
        (408, {"error": {"message": "late", "code": "timeout"}}, "timeout"),
    ],
)
def test_a_failing_server_is_no_fault_of_the_user(status: int, body: object, code: str) -> None:
    with pytest.raises(JobFailed, match=f"status {status}") as caught:
        client(status, body).judge(task="qa", candidate="So.")
    assert caught.value.code == code


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1]), httpx.Response(302)]
)
def test_another_server_is_named(answer: httpx.Response) -> None:
    panel = inverdict.Client("http://server:1", transport=httpx.MockTransport(lambda request: answer))
    with pytest.raises(JobFailed, match="http://server:1/v1/judge does not answer") as caught:
        panel.judge(task="qa", candidate="So.")
    assert caught.value.code == "unknown_server"


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"candidate": float("nan")}, "candidate"),
        ({"candidate": np.float64(1)}, "candidate"),
        ({"candidate": "So.", "source": None}, "source"),
        ({"candidate": "So.", "other": 3}, "other"),
        ({"candidate": "So.", "options": {"x": np.array([1])}}, ""),
        ({"candidate": "So.", "options": {"x": float("inf")}}, ""),
        ({"candidate": "\ud83d"}, ""),
    ],
    ids=ascii,
)
def test_what_cannot_be_sent(more: dict[str, Any], key: str) -> None:
    with refused("invalid_value", key):
        client().judge(task="qa", **more)
    with refused("invalid_value", "items"):
        client().judge_batch(["text"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("url", "key", "at"),
    [
        ("127.0.0.1:8000", None, "url"),
        (5, None, "url"),
        ("http://server:port", None, "url"),
        ("http://server", "schl\u00fcssel", "key"),
    ],
    ids=ascii,
)
def test_an_address_or_key_that_is_none(url: Any, key: str | None, at: str) -> None:
    with refused("invalid_value", at):
        inverdict.Client(url, key=key)


class Answers(BaseHTTPRequestHandler):
    """A server that gives every text the same score."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"score": 2.94}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_example_of_the_docstring() -> None:
    with local_server(Answers) as server:
        found = doctest.testmod(inverdict.client, extraglobs={"url": address_of(server)})
    assert found.failed == 0 and found.attempted > 0


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(JobFailed, match="Start `inverdict serve`"):
        inverdict.Client("http://127.0.0.1:9", timeout_s=5).judge(task="qa", candidate="So.")
