"""One answer per Idempotency-Key, over several replicas of the interface that share a store."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from serve.api import idempotency
from serve.api.errors import BadRequest
from serve.api.idempotency import AnswerStore, answer_once


class Work:
    """Counts how often it runs; the first `num_failures` fail."""

    def __init__(self, num_failures: int = 0) -> None:
        self.num_runs = 0
        self._num_failures = num_failures

    async def __call__(self) -> dict[str, Any]:
        self.num_runs += 1
        run = self.num_runs
        await asyncio.sleep(0.01)
        if run <= self._num_failures:
            raise RuntimeError("a replica died")
        return {"run": run}


async def test_replicas_that_share_a_store_do_the_work_once() -> None:
    store, work = AnswerStore(), Work()
    found = await asyncio.gather(*(answer_once(store, "key", "body", work) for _ in range(3)))
    assert [*found, await answer_once(store, "key", "body", work)] == [{"run": 1}] * 4
    assert work.num_runs == 1
    assert await answer_once(store, None, "body", work) == {"run": 2}
    assert await answer_once(store, "other", "body", work) == {"run": 3}


async def test_another_body_is_a_conflict_and_changes_nothing() -> None:
    store, work = AnswerStore(), Work()
    first = await answer_once(store, "key", "body", work)
    with pytest.raises(BadRequest) as refusal:
        await answer_once(store, "key", "another body", work)
    assert refusal.value.code == "conflict"
    assert await answer_once(store, "key", "body", work) == first


async def test_a_failure_is_not_kept_and_one_of_those_who_wait_goes_on() -> None:
    store, work = AnswerStore(), Work(num_failures=1)
    asked = [answer_once(store, "key", "body", work) for _ in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [RuntimeError, dict, dict]
    assert found[1:] == [{"run": 2}] * 2


async def test_work_goes_on_when_its_client_leaves() -> None:
    store, work = AnswerStore(), Work()
    first = asyncio.create_task(answer_once(store, "key", "body", work))
    await asyncio.sleep(0)
    first.cancel()
    assert await answer_once(store, "key", "body", work) == {"run": 1}


async def test_a_key_of_a_dead_replica_is_free_after_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "LEASE_S", 0.02)
    store, work = AnswerStore(), Work()
    await store.claim("key", hashlib.sha256(b"body").hexdigest())  # and never put
    assert await answer_once(store, "key", "body", work) == {"run": 1}


async def test_the_oldest_answers_are_forgotten_but_no_running_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEPT_ANSWERS", 2)
    store, work = AnswerStore(), Work()
    await store.claim("running", "digest")
    for key in ("a", "b", "c"):
        await answer_once(store, key, "body", work)
    assert await answer_once(store, "c", "body", work) == {"run": 3}
    assert await answer_once(store, "a", "body", work) == {"run": 4}
    assert "running" in store._answers
