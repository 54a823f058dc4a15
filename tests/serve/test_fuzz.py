"""Requests made from `/openapi.json` itself, good and bad: never an error of the server's, always OpenAI's form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.serve.online import Local, configured, listening

NUM_CASES = int(os.environ.get("INVERDICT_FUZZ_CASES", "60"))  # of a route
ROUTES = [
    *(("POST", f"/v1/{path}") for path in ("judge", "judge/batch", "retrieve", "chat/completions")),
    *(("POST", f"/v1/graders/{what}") for what in ("run", "validate")),
    *(("GET", path) for path in ("/v1/judges", "/v1/models", "/v1/models/{model}", "/healthz", "/readyz", "/metrics")),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with listening(Local(configured(tmp_path_factory.mktemp("fuzz")))) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def test_every_documented_route_is_tried(api: Any) -> None:
    found = {(one.ok().method.upper(), one.ok().path) for one in api.get_all_operations()}
    assert found == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_breaks_the_server(api: Any, method: str, path: str) -> None:
    strategy = api[path][method].as_strategy()

    @given(strategy)
    @settings(max_examples=NUM_CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: Any) -> None:
        answer = case.call()
        assert answer.status_code < 500
        if answer.status_code >= 400 and answer.content:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    holds()
