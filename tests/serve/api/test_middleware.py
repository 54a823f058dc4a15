"""The guard: API keys, and requests that are too large, too slow or too many. No model, no Ray."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.api.api_keys import Keys, add
from serve.api.middleware import Guard
from serve.panel.config import Config
from tests.refusals import refused
from tests.serve.online import BODY, Local, client, configured

ROUTES = [
    *(
        ("GET", path)
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/v1/judges", "/v1/models", "/v1/models/a")
    ),
    *(("POST", path) for path in ("/v1/judge", "/v1/judge/batch", "/v1/retrieve", "/v1/chat/completions")),
    *(("POST", f"/v1/graders/{what}") for what in ("run", "validate")),
    *((method, "/v1/judge") for method in ("HEAD", "OPTIONS", "PUT", "TRACE")),
    *(("GET", path) for path in ("//v1/judges", "/v1/../v1/judges", "/none", "/healthz/", "/HEALTHZ", "/v1/judges/")),
]


@pytest.fixture
def keyed(tmp_path: Path) -> tuple[Local, Keys, str]:
    path = tmp_path / "keys.json"
    key = add(path, "tests")
    return Local(configured(tmp_path)), Keys(path), key


def credentials(key: str) -> list[tuple[str, list[tuple[str, str]], str]]:
    return [
        ("none", [], ""),
        ("empty", [("authorization", "")], ""),
        ("only the scheme", [("authorization", "Bearer ")], ""),
        ("wrong", [("authorization", f"Bearer {key[:-1]}x")], ""),
        ("longer", [("authorization", f"Bearer {key}x")], ""),
        ("basic", [("authorization", f"Basic {key}")], ""),
        ("in the query", [], f"?api_key={key}&key={key}&token={key}"),
        ("other header", [("x-api-key", key)], ""),
        ("two headers", [("authorization", f"Bearer {key}"), ("authorization", "Bearer other")], ""),
        ("the right one twice", [("authorization", f"Bearer {key}")] * 2, ""),
    ]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_route_opens_without_a_key(keyed: tuple[Local, Keys, str], method: str, path: str) -> None:
    service, keys, key = keyed
    async with client(service, keys) as http:
        for name, headers, query in credentials(key):
            answer = await http.request(method, path + query, headers=headers, content=b"{}")
            assert answer.status_code == 401, name
            assert answer.headers["www-authenticate"] == "Bearer"
            assert key not in answer.text + str(answer.headers)
        answer = await http.request(method, path, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code != 401


async def test_health_is_open_and_a_key_opens_the_rest(keyed: tuple[Local, Keys, str]) -> None:
    service, keys, key = keyed
    async with client(service, keys) as http:
        assert (await http.get("/healthz")).status_code == (await http.get("/readyz")).status_code == 200
        for scheme in ("Bearer", "bearer"):
            headers = {"authorization": f"{scheme} {key}"}
            assert (await http.post("/v1/judge", json=BODY, headers=headers)).status_code == 200


async def test_the_page_alone_may_be_public(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "")
    service = Local(configured(tmp_path, serve={"public_page": True}))
    async with client(service, Keys(path)) as http:
        assert (await http.get("/")).status_code == 200
        assert (await http.get("/docs")).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
async def test_without_keys_another_name_for_this_address_is_refused(tmp_path: Path, host: str) -> None:
    async with client(Local(configured(tmp_path))) as http:
        assert (await http.get("/v1/judges", headers={"host": host})).status_code == 403
        for good in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert (await http.get("/v1/judges", headers={"host": good})).status_code == 200


async def chunks(number: int, size: int, pause: float = 0) -> AsyncIterator[bytes]:
    for _ in range(number):
        await asyncio.sleep(pause)
        yield b" " * size


JSON = {"content-type": "application/json"}


async def test_a_body_that_is_too_long_is_refused_declared_or_not(tmp_path: Path) -> None:
    async with client(Local(configured(tmp_path, serve={"max_body_bytes": 10_000}))) as http:
        answer = await http.post("/v1/judge", content=b" " * 10_001, headers=JSON)
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")
        assert (await http.post("/v1/judge", content=chunks(11, 1000), headers=JSON)).status_code == 413
        assert (
            await http.post("/v1/judge", content=b"{}", headers={**JSON, "content-length": "-1"})
        ).status_code == 413


async def test_a_body_that_comes_too_slowly_is_refused(tmp_path: Path) -> None:
    async with client(Local(configured(tmp_path, serve={"body_timeout_s": 0.2}))) as http:
        answer = await http.post("/v1/judge", content=chunks(50, 1, 0.05), headers=JSON)
        assert answer.status_code == 408


async def test_compressed_bodies_and_forms_are_refused(tmp_path: Path) -> None:
    async with client(Local(configured(tmp_path))) as http:
        bomb = gzip.compress(b" " * 10_000_000)
        assert (
            await http.post("/v1/judge", content=bomb, headers={**JSON, "content-encoding": "gzip"})
        ).status_code == 415
        # What a web page elsewhere can send without asking first.
        plain = {"content-type": "text/plain"}
        assert (await http.post("/v1/judge", content=json.dumps(BODY), headers=plain)).status_code == 415


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says which headers it saw, after a while where the path asks for it."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    seen = json.dumps([name.decode() for name, _ in scope["headers"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen})


def guarded(**config: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Guard(app, Config(**config), None))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_headers_of_serve_are_not_for_clients() -> None:
    theirs = {
        "x-request-timeout-seconds": "0",
        "X-Request-Disconnect-Disabled": "?1",
        "serve_multiplexed_model_id": "x",
    }
    async with guarded() as http:
        seen = (await http.get("/", headers={**theirs, "x-other": "1"})).json()
    assert "x-other" in seen
    assert not {name.lower() for name in theirs} & set(seen)


async def test_more_than_the_bound_at_once_is_429_and_passes() -> None:
    async with guarded(max_in_flight=2) as http:
        answers = await asyncio.gather(*(http.get("/slow") for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/slow")).status_code == 200


async def test_every_answer_has_an_id() -> None:
    async with guarded() as http:
        ids = {(await http.get("/")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_other_origins_are_closed_unless_configured(tmp_path: Path) -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    async with client(Local(configured(tmp_path))) as http:
        assert "access-control-allow-origin" not in (await http.options("/v1/judge", headers=asked)).headers
    service = Local(configured(tmp_path, serve={"cors_origins": ["https://a.example"]}))
    async with client(service) as http:
        found = (await http.options("/v1/judge", headers=asked)).headers
        assert found["access-control-allow-origin"] == "https://a.example"
        other = (await http.options("/v1/judge", headers={**asked, "origin": "https://b.example"})).headers
        assert "access-control-allow-origin" not in other
    with refused("invalid_value", "serve.cors_origins"):
        configured(tmp_path, serve={"cors_origins": ["*"]})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "judge.example"])
def test_without_keys_only_loopback_is_bound(tmp_path: Path, host: str) -> None:
    with refused("missing_key", "serve.keys_file", naming=host):
        configured(tmp_path, serve={"host": host})
    assert Config(host=host, keys_file=Path("k.json")).host == host
    for own in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert Config(host=own).is_loopback
