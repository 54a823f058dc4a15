"""Answers by Idempotency-Key: a repeated request gets the answer, or the running work, of the first one."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from serve.api.errors import BadRequest

KEPT_ANSWERS = 256
MAX_KEY_CHARS = 200
LEASE_S = 600.0


class Claim(NamedTuple):
    """What is known of a key. Neither: the caller computes the answer and puts it."""

    answer: dict[str, Any] | None = None
    is_conflict: bool = False


class Answers(Protocol):
    """Where answers are kept: in this process, or in one for all replicas of the interface."""

    async def claim(self, key: str, digest: str) -> Claim:
        """The answer of a key, as soon as it is known; a conflict if the key is of a body with another digest."""
        ...

    async def put(self, key: str, answer: dict[str, Any] | None) -> None:
        """Keep the answer of a claimed key; None: it could not be computed, and the next caller may."""
        ...


class AnswerStore:
    """The last `KEPT_ANSWERS` answers, in this process; see `Answers`.

    `lease_s`: whoever has not put the answer of a claimed key by then is taken for dead; None: `LEASE_S`.
    """

    def __init__(self, lease_s: float | None = None) -> None:
        self._lease_s = lease_s
        self._answers: OrderedDict[str, tuple[str, asyncio.Future[dict[str, Any] | None]]] = OrderedDict()

    async def claim(self, key: str, digest: str) -> Claim:
        while key in self._answers:
            known, answer = entry = self._answers[key]
            if known != digest:
                return Claim(is_conflict=True)
            try:
                found = await asyncio.wait_for(asyncio.shield(answer), self._lease_s or LEASE_S)
            except TimeoutError:
                found = None
            if found is not None:
                return Claim(found)
            if self._answers.get(key) is entry:
                del self._answers[key]
        self._answers[key] = (digest, asyncio.get_running_loop().create_future())
        self._forget()
        return Claim()

    async def put(self, key: str, answer: dict[str, Any] | None) -> None:
        if key in self._answers and not self._answers[key][1].done():
            self._answers[key][1].set_result(answer)

    def _forget(self) -> None:
        done = [key for key, (_, answer) in self._answers.items() if answer.done()]
        for key in done[: max(0, len(self._answers) - KEPT_ANSWERS)]:
            del self._answers[key]


async def answer_once(
    answers: Answers, key: str | None, body: str, work: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """The answer of `work`, which runs once per key.

    Args:
        answers: where they are kept.
        key: the request's Idempotency-Key; None: the work runs.
        body: the request's body, which must be the same for the same key.
        work: computes the answer.

    Raises:
        BadRequest: the key was used with another body.
    """
    if key is None:
        return await work()
    digest = hashlib.sha256(body.encode()).hexdigest()

    async def once() -> dict[str, Any]:
        claim = await answers.claim(key, digest)
        if claim.is_conflict:
            message = "This Idempotency-Key was used with another request body. Use a new key."
            raise BadRequest(message, code="conflict", key="Idempotency-Key")
        if claim.answer is not None:
            return claim.answer
        answer = None
        try:
            answer = await work()
            return answer
        finally:
            await answers.put(key, answer)

    # A client that disconnects must not cancel the work for one that repeats the request.
    return await asyncio.shield(asyncio.ensure_future(once()))
