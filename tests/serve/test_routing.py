"""Which replica gets a request, how many there are, and how one ends: Ray's own policies with our options."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.config import load
from cluster.exchange import Request
from cluster.jobs import sections
from serve.app import evaluator_options
from serve.panel.config import Config, Replicas
from serve.routing import PrefixRouter, router_config
from tests.serve.serving import ROOT

NUM_GROUPS, NUM_EACH = 6, 4


class Pending:
    """As Ray's pending request: the arguments of a call."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def text_of(*args: Any) -> str | None:
    return PrefixRouter._extract_text_from_request(PrefixRouter.__new__(PrefixRouter), Pending(*args))


def test_the_text_of_every_call_to_an_evaluator() -> None:
    assert text_of(Request("Rate this.")) == "Rate this."
    assert text_of({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}) == "ab"
    # Ray's own class divides by the length of an empty prompt, and raises where there is none.
    assert text_of(Request("")) is text_of({"messages": []}) is text_of() is text_of({}) is None


async def test_a_replica_that_only_the_tree_knows_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def other(*_: Any) -> list[list[str]]:
        return [["replica"]]

    async def unknown(*_: Any) -> list[list[str]]:
        raise KeyError("a replica that has just ended")

    router = PrefixRouter.__new__(PrefixRouter)
    for found, expected in ((other, [["replica"]]), (unknown, [[]])):
        monkeypatch.setattr(PrefixRouter.__mro__[1], "_prefix_match_best_replicas", found)
        assert await router._prefix_match_best_replicas(None, []) == expected


def test_it_is_the_class_that_ray_documents() -> None:
    """By its source: to import it takes seconds, as it imports vLLM."""
    import ray.serve

    source = (Path(ray.serve.__file__).parent / "llm" / "request_router.py").read_text()
    base = PrefixRouter.__mro__[1]
    assert f"from {base.__module__} import" in source
    assert f"class {base.__name__}(_{base.__name__})" in source


def test_a_removed_replica_has_the_time_that_a_request_may_take() -> None:
    drain_s = Config(timeout_s=60).hard_timeout_s
    assert drain_s == 90
    for scale in (Replicas(), Replicas(max=4)):
        assert evaluator_options(scale, drain_s)["graceful_shutdown_timeout_s"] == 90


def desired(total: int, current: int, target: int) -> int:
    """The number of replicas that Ray's policy asks for."""
    from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
    from ray.serve.config import AutoscalingConfig

    config = AutoscalingConfig(min_replicas=1, max_replicas=99, target_ongoing_requests=target)
    context = SimpleNamespace(
        config=config, current_num_replicas=current, total_num_requests=total, target_num_replicas=current
    )
    return math.ceil(replica_queue_length_autoscaling_policy(context)[0])


def test_the_most_replicas_of_the_served_configuration_are_within_reach() -> None:
    run = load(ROOT / "configs" / "serving.yaml", [], sections())
    config: Config = run.serve  # type: ignore[attr-defined]
    (scale,) = config.replicas.values()
    # 2 x 64 requests for one text each; each of the two judges of the one model is a request to its engine.
    requests = config.panel.num_replicas * config.max_in_flight * len(run.evaluate.judges)  # type: ignore[attr-defined]
    assert (requests, scale.target, scale.max) == (256, 32, 8)
    assert desired(requests, current=scale.max - 1, target=scale.target) == scale.max
    # A quarter of the load: 64 of 32 each.
    assert desired(64, current=8, target=scale.target) == 2


class Which:
    """An evaluator that answers with the name of its replica."""

    async def answer(self, request: Request) -> str:
        import ray.serve

        await asyncio.sleep(0.01)
        return str(ray.serve.get_replica_context().replica_id.unique_id)

    async def chat_body(self, body: dict[str, Any]) -> str:
        return await self.answer(Request(""))

    async def ping(self) -> bool:
        return True


@pytest.fixture(scope="module")
def local_serve(ray_cluster: None) -> Iterator[None]:
    """Ray Serve without its HTTP proxy, whose port may be taken."""
    import ray.serve

    ray.serve.start(proxy_location="Disabled")
    yield
    ray.serve.shutdown()


@pytest.fixture(scope="module")
def evaluator(local_serve: None) -> Iterator[Any]:
    import ray.serve

    options = evaluator_options(Replicas(min=2, max=2), 5) | {"ray_actor_options": {"num_cpus": 0.1}}
    options["request_router_config"] = router_config(32)
    yield ray.serve.run(ray.serve.deployment(**options)(Which).bind(), name="routing", route_prefix=None)
    ray.serve.delete("routing")


@pytest.mark.ray
async def test_records_of_a_group_go_to_one_replica_and_groups_to_both(evaluator: Any) -> None:
    chosen: dict[int, set[str]] = {}
    for number in range(NUM_GROUPS * NUM_EACH):
        group = number % NUM_GROUPS  # neighbours are of different groups
        source = f"{group}: " + "why is the sky blue, and the sea? " * 8
        prompt = f"Rate the answer from 1 to 5.\n\nQuestion {source}\n\nAnswer: {number}"
        chosen.setdefault(group, set()).add(await evaluator.answer.remote(Request(prompt)))
    assert {len(one) for one in chosen.values()} == {1}
    assert len(set.union(*chosen.values())) == 2


@pytest.mark.ray
async def test_one_group_alone_is_shared_when_it_is_too_much(evaluator: Any) -> None:
    """From a difference of 16 on, half of the target of 32, the shorter queue counts."""
    prompt = "Rate the answer from 1 to 5.\n\nQuestion: " + "what is a crowd? " * 20
    requests = [Request(f"{prompt}{number}") for number in range(120)]
    found = await asyncio.gather(*(evaluator.answer.remote(one) for one in requests))
    assert len(set(found)) == 2


@pytest.mark.ray
async def test_calls_without_a_prompt_are_routed_too(evaluator: Any) -> None:
    assert await evaluator.ping.remote() is True
    assert await evaluator.answer.remote(Request(""))
    assert await evaluator.chat_body.remote({"messages": [{"role": "user", "content": "Hello"}]})
    assert await evaluator.chat_body.remote({"messages": []})


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_serve")
async def test_a_removed_replica_finishes_its_requests() -> None:
    """They take longer than the 20 seconds that Ray gives by default: half of them would fail."""
    import ray.serve

    from cluster.model_specs import ScriptedSpec
    from serve.engines.engine_server import EngineServer

    def deployed(num_replicas: int) -> Any:
        scale = Replicas(min=num_replicas, max=num_replicas)
        options = evaluator_options(scale, Config(timeout_s=25).hard_timeout_s)
        spec = ScriptedSpec(backend="scripted", delay_s=24)
        app = ray.serve.deployment(name="slow", ray_actor_options={"num_cpus": 0.1}, **options)(EngineServer).bind(spec)
        return ray.serve.run(app, name="draining", route_prefix=None)

    handle = deployed(2)
    asked = [asyncio.ensure_future(one) for one in (handle.answer.remote(Request(f"{n}")) for n in range(8))]
    await asyncio.sleep(1)
    deployed(1)
    replies = await asyncio.gather(*asked, return_exceptions=True)
    ray.serve.delete("draining")
    assert [getattr(one, "error", one) for one in replies] == [None] * 8
