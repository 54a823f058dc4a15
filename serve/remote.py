"""What stands behind the routes of a replica of the interface: panel, evaluators and answers behind their handles."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from cluster.engine import HandleEngine
from cluster.exchange import Reply, Request
from judging.records import Record
from serve.api.conversion import Offer
from serve.api.errors import Unavailable
from serve.api.idempotency import Answers, AnswerStore, Claim
from serve.api.service import About
from serve.node_metrics import replica_metrics
from serve.panel.panel import Ask, Judged

PING_S, KEPT_S = 3.0, 1.0


class RemoteService:
    """The panel and the evaluators behind their handles. A failed call is retried once, then Unavailable.

    `answers`: the handle of the store that all replicas share; None: this is the only one.
    """

    def __init__(self, panel: Any, evaluators: dict[str, Any], about: About, offer: Offer, answers: Any = None) -> None:
        self._panel = panel
        self._engines = {name: HandleEngine(handle, name) for name, handle in evaluators.items()}
        self._evaluators = evaluators
        self.about = about
        self.offer = offer
        self.answers: Answers = AnswerStore() if answers is None else RemoteAnswers(answers)
        self._known_alive: tuple[float, list[str]] = (-KEPT_S, [])

    async def judge(self, ask: Ask) -> list[Judged]:
        found: list[Judged] = await self._asked("judge", ask)
        return found

    async def retrieve(self, judge: str, record: Record, aspect: str) -> list[dict[str, Any]]:
        """As `Service.retrieve`."""
        found: list[dict[str, Any]] = await self._asked("retrieve", judge, record, aspect)
        return found

    async def answer(self, model: str, request: Request) -> Reply:
        return await self._engines[model].generate(request)

    async def chat(self, model: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
        stream = self._evaluators[model].options(stream=True).chat_body.remote(body)
        try:
            async for part in stream:
                yield part
        except asyncio.CancelledError:
            stream.cancel()
            raise

    async def metrics(self) -> str:
        return await replica_metrics()

    async def judges_alive(self) -> list[str]:
        at, alive = self._known_alive
        if time.monotonic() - at < KEPT_S:
            return alive
        try:
            async with asyncio.timeout(PING_S + 1):
                alive = await self._panel.judges_alive.remote()
        except Exception:  # the panel itself is not responding
            alive = []
        self._known_alive = (time.monotonic(), alive)
        return alive

    async def _asked(self, method: str, *arguments: Any) -> Any:
        for attempt in (1, 2):
            response = getattr(self._panel, method).remote(*arguments)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:  # Ray's errors for a dead or full replica have no common base class
                if attempt == 2:
                    raise Unavailable(type(error).__name__) from error
        raise AssertionError


class RemoteAnswers:
    """The answers of all replicas of the interface, behind a handle. If it fails, a request is judged again."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def claim(self, key: str, digest: str) -> Claim:
        try:
            found: Claim = await self._handle.claim.remote(key, digest)
        except Exception:  # its replica is dead or full
            return Claim()
        return found

    async def put(self, key: str, answer: dict[str, Any] | None) -> None:
        with contextlib.suppress(Exception):
            await self._handle.put.remote(key, answer)
