"""The panel's own endpoints: `/v1/judge`, `/v1/judge/batch`, `/v1/retrieve`, `/v1/judges`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Header
from fastapi.responses import Response

from evaluation.judges.aggregation import PANEL
from serve.api.conversion import judgement, to_ask, to_count
from serve.api.error_handlers import ERRORS, explained
from serve.api.errors import BadRequest, NoQuorum
from serve.api.idempotency import MAX_KEY_CHARS, answer_once
from serve.api.metrics import Telemetry
from serve.api.schemas import BatchBody, JudgeBody, Judgement, RetrieveBody
from serve.api.service import Service, in_time


async def judged(service: Service, telemetry: Telemetry, body: JudgeBody) -> Judgement:
    """The panel's judgement, counted in the metrics.

    Args:
        service: the panel.
        telemetry: the metrics.
        body: the request.

    Raises:
        BadRequest: the request does not fit what is served.
        NoQuorum: too few judges returned a score, and a retry may succeed.
    """
    ask = to_count(body, service.offer)
    answers = await in_time(service.judge(ask), ask.timeout_s)
    found = judgement(body, ask, answers, service.about.versions, service.offer.certified)
    telemetry.count(found)
    if any(answer.may_be_mended for answer in answers):
        raise NoQuorum(found)
    return found


def add_judging(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    """Add the endpoints.

    Args:
        app: the application.
        service: the panel.
        telemetry: the metrics.
    """
    _add_judge(app, service, telemetry)
    _add_batch(app, service, telemetry)
    _add_lists(app, service)


def _add_judge(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    @app.post("/v1/judge", responses=ERRORS, response_model=Judgement, tags=["judging"])
    async def judge(body: JudgeBody) -> Response:
        """Rate a text, or compare two, with the panel."""
        # Already validated: FastAPI would build and validate the whole response again.
        return Response((await judged(service, telemetry, body)).model_dump_json(), media_type="application/json")


def _add_batch(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    async def one(raw: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            found = await judged(service, telemetry, JudgeBody.model_validate(raw))
        except Exception as error:
            status, content = explained(error)
            return {"index": index, "status": status, "judgement": None, **content}
        return {"index": index, "status": 200, "judgement": found.model_dump(), "error": None}

    async def each(items: list[dict[str, Any]]) -> dict[str, Any]:
        slots = asyncio.Semaphore(max(1, service.offer.config.max_in_flight // 4))

        async def in_turn(raw: dict[str, Any], index: int) -> dict[str, Any]:
            async with slots:
                return await one(raw, index)

        found = await asyncio.gather(*(in_turn(raw, index) for index, raw in enumerate(items)))
        return {"object": "list", "data": found, "num_failed": sum(item["error"] is not None for item in found)}

    @app.post("/v1/judge/batch", responses=ERRORS, tags=["judging"])
    async def batch(
        body: BatchBody, idempotency_key: str | None = Header(None, max_length=MAX_KEY_CHARS)
    ) -> dict[str, Any]:
        """Judge several items; each gets a judgement or an error, in the order of the request.

        A request that repeats an `Idempotency-Key` with the same body gets the same response and is not judged again.
        """
        limit = service.offer.config.max_items
        if len(body.items) > limit:
            raise BadRequest(f"A batch may hold at most {limit} items.", code="too_long", key="items")
        return await answer_once(service.answers, idempotency_key, body.model_dump_json(), lambda: each(body.items))


def _add_lists(app: FastAPI, service: Service) -> None:
    @app.post("/v1/retrieve", responses=ERRORS, tags=["judging"])
    async def retrieve(body: RetrieveBody) -> dict[str, Any]:
        """The few-shot examples that a judge's prompt would hold, the most useful last."""
        single = JudgeBody(
            task=body.task,
            fields=dict(body.fields),
            aspects=[body.aspect] if body.aspect else None,
            options={"judges": [body.judge]},
        )
        ask = to_ask(single, service.offer)
        found = await in_time(service.retrieve(body.judge, ask.record, ask.aspects[0]), ask.timeout_s)
        return {"object": "list", "judge": body.judge, "aspect": ask.aspects[0], "data": found}

    @app.get("/v1/judges", responses=ERRORS, tags=["judging"])
    async def judges() -> dict[str, Any]:
        """Judges with their models, tasks, aspects, templates and certificates; the panel's certificates."""
        about, certificates = service.about, service.offer.certified.summaries
        return {
            "object": "list",
            "data": [{**judge, "certificates": certificates.get(judge["id"], [])} for judge in about.judges],
            "panel": {"certificates": certificates.get(PANEL, [])},
            "tasks": about.tasks,
            "versions": about.versions,
        }
