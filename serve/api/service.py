"""The panel and the evaluators as the routes see them: one `Service`, and the deadline of a call to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from pydantic import BaseModel

from cluster.exchange import Reply, Request
from judging.records import Record
from serve.api.conversion import Offer
from serve.api.idempotency import Answers
from serve.panel.panel import Ask, Judged

GRACE_S = 5.0  # after the panel's own deadline: then the panel itself hangs


class About(BaseModel):
    """What is served: for the lists of judges and models, and in every judgement."""

    judges: list[dict[str, Any]]
    tasks: dict[str, list[str]]
    models: list[str]
    versions: dict[str, Any]
    min_votes: int


class Service(Protocol):
    """What stands behind the routes. Every method may raise Unavailable."""

    about: About
    offer: Offer
    answers: Answers

    async def judge(self, ask: Ask) -> list[Judged]:
        """The panel's answers, one for each aspect of the question."""
        ...

    async def retrieve(self, judge: str, record: Record, aspect: str) -> list[dict[str, Any]]:
        """The few-shot examples that a judge's prompt would hold, the most useful last.

        Args:
            judge: the judge's name.
            record: the text to judge.
            aspect: one of its task's aspects.
        """
        ...

    async def answer(self, model: str, request: Request) -> Reply:
        """The model's reply to one request."""
        ...

    def chat(self, model: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
        """The model's chat completion: one dict, or with `stream` lines of server-sent events."""
        ...

    async def metrics(self) -> str:
        """The metrics of all replicas in Prometheus' text format."""
        ...

    async def judges_alive(self) -> list[str]:
        """The judges whose models are responding."""
        ...


async def in_time(work: Awaitable[Any], timeout_s: float) -> Any:
    """The result of a service's call. Raises TimeoutError `GRACE_S` after the call's own timeout."""
    async with asyncio.timeout(timeout_s + GRACE_S):
        return await work
