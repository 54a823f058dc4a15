"""Health and metrics in this process."""

from pathlib import Path

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


async def test_metrics_count_by_our_own_names_alone(service: Local) -> None:
    async with client(service) as http:
        await http.post("/v1/judge", json=BODY)
        await http.get("/secret")
        text = (await http.get("/metrics")).text
    assert 'inverdict_requests_total{route="/v1/judge",status="200"} 1.0' in text
    assert 'inverdict_requests_total{route="none",status="404"} 1.0' in text
    assert 'inverdict_votes_total{judge="first"} 1.0' in text
    assert 'inverdict_tokens_total{judge="first",kind="prompt"} 10.0' in text
    assert "secret" not in text
