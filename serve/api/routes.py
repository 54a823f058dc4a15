"""The HTTP interface as one ASGI application over a `Service`: routes, errors, guard. Knows no Ray but its counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from judging import strictjson
from serve.api.api_keys import Keys
from serve.api.error_handlers import add_errors
from serve.api.errors import BadRequest
from serve.api.judging_routes import add_judging
from serve.api.metrics import Telemetry
from serve.api.middleware import Guard
from serve.api.openai_routes import add_openai
from serve.api.page_routes import add_health, add_pages
from serve.api.service import Service


def make_app(service: Service, keys: Keys | None, report: Path | None = None) -> Any:
    """The whole interface as an ASGI application.

    Args:
        service: the panel and the evaluators.
        keys: the API keys; None: only requests to localhost are accepted.
        report: a report.html to serve, or None.
    """
    app = FastAPI(title="Inverdict", version="1", docs_url=None, redoc_url=None)
    app.router.route_class = _StrictRoute
    telemetry = Telemetry()
    add_judging(app, service, telemetry)
    add_openai(app, service, telemetry)
    add_health(app, service)
    add_pages(app, service, report)
    add_errors(app)
    _hide_default_errors(app)
    guarded: Any = Guard(app, service.offer.config, keys)
    if service.offer.config.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=list(service.offer.config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "idempotency-key"],
        )
    return _Counted(guarded, telemetry)


class _StrictRequest(Request):
    """A body with a duplicate key is rejected: otherwise one of two texts would be ignored unnoticed."""

    async def json(self) -> Any:
        try:
            return strictjson.loads((await self.body()).decode("utf-8"))
        except strictjson.TwiceError as error:
            raise BadRequest("Duplicate key in the request body.", code="duplicate_key") from error


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return handled


def _hide_default_errors(app: FastAPI) -> None:
    """Remove FastAPI's own 422 from the schema: an invalid body is a 400 here."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        found = original()
        for operations in found["paths"].values():
            for operation in operations.values():
                operation.get("responses", {}).pop("422", None)
        return found

    app.openapi = openapi  # type: ignore[method-assign]


class _Counted:
    """Counts and times responses by route and status. The labels are our routes, never a client's path."""

    def __init__(self, app: Any, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = asyncio.get_running_loop().time()
        status = 0

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._telemetry.begin()
        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._telemetry.end(route, status, asyncio.get_running_loop().time() - began)
