"""OpenAI's endpoints: `/v1/models`, `/v1/chat/completions`, `/v1/graders`, also under the path that its client uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from cluster.exchange import Reply, Request
from serve.api import openai_graders
from serve.api.error_handlers import ERRORS, error_answer
from serve.api.errors import BadRequest, NotFound
from serve.api.judging_routes import judged
from serve.api.metrics import Telemetry
from serve.api.openai_chat import PANEL_MODEL, ChatBody, judged_conversation
from serve.api.service import Service, in_time
from serve.engines.engine_server import chat_answer

CLIENT_GRADERS = "/v1/fine_tuning/alpha/graders"
UNKNOWN_MODEL = "Unknown model. GET /v1/models lists them."


def add_openai(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    """Add the endpoints.

    Args:
        app: the application.
        service: the evaluators and the panel.
        telemetry: the metrics.
    """
    _add_models(app, service)
    _add_chat(app, service, telemetry)
    _add_graders(app, service)


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses=ERRORS, tags=["openai"])
    async def models() -> dict[str, Any]:
        """The evaluators, and the panel."""
        names = [*service.about.models, PANEL_MODEL]
        return {"object": "list", "data": [_model_card(name) for name in names]}

    @app.get("/v1/models/{model}", responses=ERRORS, tags=["openai"])
    async def model_card(model: str) -> dict[str, Any]:
        """One of the models."""
        if model not in (*service.about.models, PANEL_MODEL):
            raise NotFound(UNKNOWN_MODEL, code="unknown_model", key="model")
        return _model_card(model)


def _add_chat(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    @app.post("/v1/chat/completions", responses=ERRORS, tags=["openai"], response_model=None)
    async def chat(body: ChatBody) -> Any:
        """Chat with an evaluator, or let the panel judge the conversation's last answer."""
        if body.model == PANEL_MODEL:
            found = await judged(service, telemetry, judged_conversation(body))
            parts = chat_answer(body.passed_on(), found.model_dump_json(), "stop", found.usage.model_dump())
            return StreamingResponse(_each(parts), media_type="text/event-stream") if body.stream else parts[0]
        if body.model not in service.about.models:
            raise NotFound(UNKNOWN_MODEL, code="unknown_model", key="model")
        stream = service.chat(body.model, body.passed_on())
        first = await in_time(anext(stream), service.offer.config.timeout_s)
        if isinstance(first, dict):
            if "error" in first:
                status = first["error"].get("code")
                status = status if isinstance(status, int) and 400 <= status < 500 else 503
                return error_answer(status, "The model returned an error for this request.", code="model_error")
            return first
        return StreamingResponse(_then(first, stream), media_type="text/event-stream")


def _add_graders(app: FastAPI, service: Service) -> None:
    async def ask(model: str, request: Request) -> Reply:
        if model not in service.about.models:
            raise BadRequest(UNKNOWN_MODEL, code="unknown_model", key="grader.model")
        reply: Reply = await in_time(service.answer(model, request), service.offer.config.timeout_s)
        return reply

    @app.post(f"{CLIENT_GRADERS}/run", include_in_schema=False)
    @app.post("/v1/graders/run", responses=ERRORS, tags=["openai"])
    async def run_grader(body: openai_graders.RunBody) -> dict[str, Any]:
        """Grade a text with one of OpenAI's graders (string_check, label_model, score_model, multi)."""
        return await openai_graders.run(body, ask)

    @app.post(f"{CLIENT_GRADERS}/validate", include_in_schema=False)
    @app.post("/v1/graders/validate", responses=ERRORS, tags=["openai"])
    async def validate_grader(body: openai_graders.ValidateBody) -> dict[str, Any]:
        """Validate a grader and return it with its defaults."""
        return {"grader": body.grader.model_dump()}


def _model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "inverdict"}


async def _each(parts: list[str]) -> AsyncIterator[str]:
    for part in parts:
        yield part


async def _then(first: str, rest: AsyncIterator[dict[str, Any] | str]) -> AsyncIterator[str]:
    yield first
    async for part in rest:
        if isinstance(part, str):
            yield part
