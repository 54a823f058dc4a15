"""The client: what it sends, and how it says what the server refuses."""

import json

import httpx
import pytest

import inverdict
from cluster.errors import JobFailed
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
    with refused("400", naming="Set either"):
        client(400, {"error": {"message": "Set either `task` or `rubric`."}}).judge(candidate="So.")


@pytest.mark.parametrize("body", [{"error": {"message": "busy"}}, ["odd"]])
def test_a_failing_server_is_no_fault_of_the_user(body: object) -> None:
    with pytest.raises(JobFailed, match="status 503"):
        client(503, body).judge(task="qa", candidate="So.")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(JobFailed, match="Start `inverdict serve`"):
        inverdict.Client("http://127.0.0.1:9", timeout_s=5).judge(task="qa", candidate="So.")
