"""The HTTP interface: routes over a `Service`, errors in OpenAI's form. Knows no Ray; app.py puts it behind Serve."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Header, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from cluster.exchange import Reply
from cluster.exchange import Request as EngineRequest
from evaluation.judges.aggregation import PANEL
from judging import strictjson
from judging.records import Record
from serve.api import openai_graders as graders
from serve.api.api_keys import Keys
from serve.api.conversion import Offer, judgement, to_ask, to_count
from serve.api.error_handlers import ERRORS, add_errors, error_answer, explained
from serve.api.errors import BadRequest, NoQuorum
from serve.api.metrics import Telemetry
from serve.api.middleware import Guard
from serve.api.openai_chat import PANEL_MODEL, ChatBody, judged_conversation
from serve.api.schemas import BatchBody, JudgeBody, Judgement, RetrieveBody
from serve.api.web_pages import csp_of, docs_page, web_page
from serve.engines.engine_server import chat_answer
from serve.panel.panel import Ask, Judged

GRACE_S = 5.0  # beyond the panel's own deadline: then the panel itself hangs
KEPT_ANSWERS = 256  # of batches with an Idempotency-Key
MAX_KEY_CHARS = 200


class About(BaseModel):
    """What is served: for the lists of judges and models, and in every answer."""

    judges: list[dict[str, Any]]
    tasks: dict[str, list[str]]
    models: list[str]
    versions: dict[str, Any]
    min_votes: int


class Service(Protocol):
    """What stands behind the routes. Every method may raise Unavailable."""

    about: About
    offer: Offer

    async def judge(self, ask: Ask) -> list[Judged]: ...
    async def retrieve(self, judge: str, record: Record, aspect: str) -> list[dict[str, Any]]: ...
    async def answer(self, model: str, request: EngineRequest) -> Reply: ...
    def chat(self, model: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]: ...
    async def judges_alive(self) -> list[str]: ...


def make_app(service: Service, keys: Keys | None, report: Path | None = None) -> Any:
    """The whole interface as an ASGI application: routes, errors, guard. `report`: a report.html to serve."""
    app = FastAPI(title="Inverdict", version="1", docs_url=None, redoc_url=None)
    app.router.route_class = _StrictRoute
    telemetry = Telemetry()
    _add_judging(app, service, telemetry)
    _add_openai(app, service, telemetry)
    _add_looks(app, service, telemetry, report)
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
    """A body in which a key stands twice is refused: of two texts none must count unseen."""

    async def json(self) -> Any:
        try:
            return strictjson.loads((await self.body()).decode("utf-8"))
        except strictjson.TwiceError as error:
            raise HTTPException(400, "a key stands twice in the body") from error


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return handled


# ---------------------------------------------------------------------------- judging


async def _judged(service: Service, telemetry: Telemetry, body: JudgeBody) -> Judgement:
    """The panel's answer, counted. Raises NoQuorum."""
    ask = to_count(body, service.offer)
    answers = await _in_time(service.judge(ask), ask.timeout_s)
    told = judgement(body, ask, answers, service.about.versions, service.offer.certified)
    telemetry.count(told)
    if any(answer.may_be_mended for answer in answers):
        raise NoQuorum(told)
    return told


def _add_judging(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    kept = _Kept()

    @app.post("/v1/judge", responses=ERRORS, response_model=Judgement, tags=["judging"])
    async def judge(body: JudgeBody) -> Response:
        """Rate a text, or compare two, with the panel."""
        # Already checked: FastAPI would build and check the whole answer once more.
        return Response((await _judged(service, telemetry, body)).model_dump_json(), media_type="application/json")

    @app.post("/v1/judge/batch", responses=ERRORS, tags=["judging"])
    async def batch(
        body: BatchBody, idempotency_key: str | None = Header(None, max_length=MAX_KEY_CHARS)
    ) -> dict[str, Any]:
        """Several items at once; each has a judgement or an error, in the order given.

        With an `Idempotency-Key` the same body gets the same answer again and is not judged twice.
        """
        config = service.offer.config
        if len(body.items) > config.max_items:
            raise BadRequest(f"a batch has at most {config.max_items} items", "items")
        slots = asyncio.Semaphore(max(1, config.max_in_flight // 4))

        async def one(raw: dict[str, Any], place: int) -> dict[str, Any]:
            async with slots:
                try:
                    told = await _judged(service, telemetry, JudgeBody.model_validate(raw))
                except Exception as error:
                    status, content = explained(error)
                    return {"index": place, "status": status, "judgement": None, **content}
            return {"index": place, "status": 200, "judgement": told.model_dump(), "error": None}

        async def all_of_them() -> dict[str, Any]:
            found = await asyncio.gather(*(one(raw, place) for place, raw in enumerate(body.items)))
            failed = sum(one["error"] is not None for one in found)
            return {"object": "list", "data": found, "num_failed": failed}

        return await kept.answer(idempotency_key, body.model_dump_json(), all_of_them)

    @app.post("/v1/retrieve", responses=ERRORS, tags=["judging"])
    async def retrieve(body: RetrieveBody) -> dict[str, Any]:
        """The rated examples that a judge would be shown, the most useful last."""
        single = JudgeBody(
            task=body.task,
            fields=dict(body.fields),
            aspects=[body.aspect] if body.aspect else None,
            options={"judges": [body.judge]},
        )
        ask = to_ask(single, service.offer)
        found = await _in_time(service.retrieve(body.judge, ask.record, ask.aspects[0]), ask.timeout_s)
        return {"object": "list", "judge": body.judge, "aspect": ask.aspects[0], "data": found}

    @app.get("/v1/judges", responses=ERRORS, tags=["judging"])
    async def judges() -> dict[str, Any]:
        """Judges with their models, tasks, aspects, templates and certificates; the panel's certificates."""
        about, told = service.about, service.offer.certified.told
        return {
            "object": "list",
            "data": [{**judge, "certificates": told.get(judge["id"], [])} for judge in about.judges],
            "panel": {"certificates": told.get(PANEL, [])},
            "tasks": about.tasks,
            "versions": about.versions,
        }


class _Kept:
    """Answers by Idempotency-Key: the same work under way or done is not begun again."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, tuple[str, asyncio.Task[dict[str, Any]]]] = OrderedDict()

    async def answer(self, key: str | None, body: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        if key is None:
            return await work()
        digest = hashlib.sha256(body.encode()).hexdigest()
        if key in self._answers:
            known, task = self._answers[key]
            if known != digest:
                raise BadRequest("this Idempotency-Key came with another body before", "Idempotency-Key")
        else:
            task = asyncio.ensure_future(work())
            self._answers[key] = (digest, task)
            while len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        # A client that leaves must not end the work of one that asks again.
        return await asyncio.shield(task)


async def _in_time(work: Awaitable[Any], timeout_s: float) -> Any:
    async with asyncio.timeout(timeout_s + GRACE_S):
        return await work


# ---------------------------------------------------------------------------- OpenAI's endpoints


def _add_openai(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    @app.get("/v1/models", responses=ERRORS, tags=["openai"])
    async def models() -> dict[str, Any]:
        """The evaluators, and the panel."""
        names = [*service.about.models, PANEL_MODEL]
        return {"object": "list", "data": [_model_card(name) for name in names]}

    @app.get("/v1/models/{model}", responses=ERRORS, tags=["openai"])
    async def model_card(model: str) -> dict[str, Any]:
        """One of them."""
        if model not in (*service.about.models, PANEL_MODEL):
            raise HTTPException(404, "there is no such model: see GET /v1/models")
        return _model_card(model)

    @app.post("/v1/chat/completions", responses=ERRORS, tags=["openai"], response_model=None)
    async def chat(body: ChatBody) -> Any:
        """Chat with an evaluator, or let the panel judge the conversation's last answer."""
        if body.model == PANEL_MODEL:
            told = await _judged(service, telemetry, judged_conversation(body))
            parts = chat_answer(body.passed_on(), told.model_dump_json(), "stop", told.usage.model_dump())
            return StreamingResponse(_each(parts), media_type="text/event-stream") if body.stream else parts[0]
        if body.model not in service.about.models:
            raise HTTPException(404, "there is no such model: see GET /v1/models")
        stream = service.chat(body.model, body.passed_on())
        first = await _in_time(anext(stream), service.offer.config.timeout_s)
        if isinstance(first, dict):
            if "error" in first:
                status = first["error"].get("code")
                status = status if isinstance(status, int) and 400 <= status < 500 else 503
                return error_answer(status, "the model did not answer this request")
            return first
        return StreamingResponse(_then(first, stream), media_type="text/event-stream")

    async def ask(model: str, request: EngineRequest) -> Reply:
        if model not in service.about.models:
            raise BadRequest("there is no such model: see GET /v1/models", "grader.model")
        reply: Reply = await _in_time(service.answer(model, request), service.offer.config.timeout_s)
        return reply

    @app.post("/v1/graders/run", responses=ERRORS, tags=["openai"])
    async def run_grader(body: graders.RunBody) -> dict[str, Any]:
        """Grade a text with one of OpenAI's graders (string_check, label_model, score_model, multi)."""
        return await graders.run(body, ask)

    @app.post("/v1/graders/validate", responses=ERRORS, tags=["openai"])
    async def validate_grader(body: graders.ValidateBody) -> dict[str, Any]:
        """Whether a grader is well formed; it comes back as it is understood."""
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


# ---------------------------------------------------------------------------- looks


def _add_looks(app: FastAPI, service: Service, telemetry: Telemetry, report: Path | None) -> None:
    page = web_page(service.about.tasks, [one["id"] for one in service.about.judges], has_report=report is not None)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether the server runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=ERRORS, response_model=None)
    async def readyz() -> Any:
        """Whether enough judges answer for a quorum."""
        alive = await service.judges_alive()
        if len(alive) < service.about.min_votes:
            return error_answer(503, f"{len(alive)} of {len(service.about.judges)} judges answer", code="not_ready")
        return {"status": "ready", "judges": len(alive)}

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Counts and times in Prometheus' form."""
        return Response(telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": csp_of(page)})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        text = docs_page(app.openapi())
        return HTMLResponse(text, headers={"content-security-policy": csp_of(text)})

    if report is not None:

        @app.get("/report", include_in_schema=False)
        async def report_page() -> HTMLResponse:
            policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
            text = await asyncio.to_thread(report.read_text, "utf-8")
            return HTMLResponse(text, headers={"content-security-policy": policy})


def _hide_default_errors(app: FastAPI) -> None:
    """FastAPI documents its own 422, which never comes: a body that does not fit is a 400."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        found = original()
        for operations in found["paths"].values():
            for operation in operations.values():
                operation.get("responses", {}).pop("422", None)
        return found

    app.openapi = openapi  # type: ignore[method-assign]


class _Counted:
    """Counts answers by route and status, and times them. Routes are ours: a client's path is never a label."""

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

        self._telemetry.in_flight.inc()
        try:
            await self._app(scope, receive, noted)
        finally:
            self._telemetry.in_flight.dec()
            route = getattr(scope.get("route"), "path", "none")
            self._telemetry.requests.labels(route, str(status)).inc()
            self._telemetry.seconds.labels(route).observe(asyncio.get_running_loop().time() - began)
