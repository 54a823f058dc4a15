"""Answers by Idempotency-Key: a repeated request gets the answer, or the running work, of the first one."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from serve.api.errors import BadRequest

KEPT_ANSWERS = 256
MAX_KEY_CHARS = 200


class Kept:
    """The last `KEPT_ANSWERS` answers of one process."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, tuple[str, asyncio.Task[dict[str, Any]]]] = OrderedDict()

    async def answer(self, key: str | None, body: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """The answer of `work`, which runs once per key.

        Args:
            key: the request's Idempotency-Key; None: the work runs.
            body: the request's body, which must be the same for the same key.
            work: computes the answer.

        Raises:
            BadRequest: the key was used with another body.
        """
        if key is None:
            return await work()
        digest = hashlib.sha256(body.encode()).hexdigest()
        if key in self._answers:
            known, task = self._answers[key]
            if known != digest:
                message = "This Idempotency-Key was used with another request body. Use a new key."
                raise BadRequest(message, code="conflict", key="Idempotency-Key")
        else:
            task = asyncio.ensure_future(work())
            self._answers[key] = (digest, task)
            while len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        # A client that disconnects must not cancel the work for one that repeats the request.
        return await asyncio.shield(task)
