"""The whole interface in this process: hostile texts, broken bodies, errors of one form."""

from pathlib import Path
from typing import Any

import pytest

from tests.serve.online import BODY, FIELDS, HOSTILE, Local, Noting, client, configured, post


async def test_hostile_texts_change_neither_prompt_nor_score(service: Local) -> None:
    told = (await post(service, "/v1/judge", {**BODY, "fields": {**FIELDS, "candidate": HOSTILE}})).json()
    assert told["score"] == 3
    engine = service._engines["a"]
    assert isinstance(engine, Noting)
    prompt = engine.seen[0].prompt
    assert "<|im_end|>" not in prompt
    assert prompt.count("</candidate>") == 1
    assert prompt.count(FIELDS["source"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"task": "qa", "fields": {"source": "s", "candidate": "a"}, "fields": {"source": "s", "candidate": "b"}}',
        '{"task": "qa", "fields": {"source": "s", "candidate": "a", "candidate": "b"}}',
    ],
)
async def test_a_key_that_stands_twice_is_refused(service: Local, body: str) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/judge", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "duplicate_key")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/none", 404), ("PUT", "/v1/judge", 405), ("GET", "//v1/judges", 404)]
)
async def test_unknown_places_are_errors_of_the_same_form(service: Local, method: str, path: str, status: int) -> None:
    async with client(service) as http:
        answer = await http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"task": "\\ud800"}', "invalid_value"),
        (b"\xff\xfe", "invalid_json"),
        (b"", "missing_key"),
        (b"null", "missing_key"),
        (b'{"task": NaN}', "invalid_value"),
    ],
)
async def test_broken_bodies_are_400(service: Local, body: bytes, code: str) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/judge", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", code)


async def test_what_breaks_behind_the_routes_is_503_and_says_nothing_of_the_text(tmp_path: Path) -> None:
    class Breaking(Local):
        async def judge(self, ask: Any) -> Any:
            raise RuntimeError(f"broken by {ask.record.candidate}")

    answer = await post(Breaking(configured(tmp_path)), "/v1/judge", BODY)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "RuntimeError"
    assert "scatters" not in answer.text
