"""Health and metrics in this process."""

from pathlib import Path

from tests.serve.api.conftest import Counted
from tests.serve.online import BODY, Local, client, configured


async def test_ready_is_a_quorum_of_judges(tmp_path: Path) -> None:
    judges = {"first": {"model": "a"}, "second": {"model": "b"}}
    service = Local(configured(tmp_path, evaluate={"judges": judges, "vote": {"min_votes": 2}}))
    async with client(service) as http:
        assert (await http.get("/readyz")).json() == {"status": "ready", "judges": 2}
        service.alive = ["first"]
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_metrics_count_by_our_own_names_alone(service: Local, counted: Counted) -> None:
    async with client(service) as http:
        await http.post("/v1/judge", json=BODY)
        await http.get("/secret")
    assert counted["inverdict_requests_total", "/v1/judge", "200"] == 1
    assert counted["inverdict_requests_total", "none", "404"] == 1
    assert counted["inverdict_request_seconds", "/v1/judge"] == 1
    assert counted[("inverdict_requests_in_flight",)] == 0
    assert counted["inverdict_votes_total", "first"] == counted["inverdict_judge_seconds", "first"] == 1
    assert counted["inverdict_tokens_total", "first", "prompt"] == 10  # of `Noting`
    assert not [key for key in counted if "secret" in str(key)]


async def test_metrics_are_those_of_the_service(service: Local) -> None:
    async with client(service) as http:
        answer = await http.get("/metrics")
    assert (answer.status_code, answer.text) == (200, "# no replicas here\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
