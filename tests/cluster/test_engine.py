"""The scripted engine's replies; what the HTTP engine sends to an endpoint, its retries and its keys."""

import asyncio
import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.engine import HandleEngine, HttpEngine, ScriptedEngine
from cluster.exchange import Reply, Request
from cluster.model_specs import HttpSpec, ScriptedSpec, ScriptRule
from tests.cluster.fake_endpoint import LABELS, SCHEMA, Answer, Endpoint, ask, failed, said, serving
from tests.refusals import refused


def scripted(prompt: str, request: dict[str, Any] | None = None, **spec: Any) -> Reply:
    engine = ScriptedEngine(ScriptedSpec(backend="scripted", **spec))
    return asyncio.run(engine.generate(Request(prompt, **(request or {}))))


def test_the_first_rule_that_fits_decides() -> None:
    rules = (ScriptRule(contains="good", reply="Score: 5"), ScriptRule(contains="o", reply="Score: 1"))
    assert scripted("a good one", rules=rules).text == "Score: 5"
    assert scripted("no", rules=rules).text == "Score: 1"
    assert scripted("evil", rules=rules).text.startswith("Scripted reply")


def test_a_rule_gives_log_probabilities_in_the_requests_order() -> None:
    rules = (ScriptRule(contains="", label_logprobs={"4": -0.5, "2": -1.0}),)
    logprobs = scripted("x", {"labels": ("2", "3", "4")}, rules=rules).label_logprobs
    assert (logprobs[0], logprobs[2]) == (-1.0, -0.5)
    assert math.isnan(logprobs[1])


@pytest.mark.parametrize("error", ["error", "timeout"])
def test_a_rule_fails_or_is_cut_off(error: str) -> None:
    assert scripted("x", rules=(ScriptRule(contains="x", error=error),)).error == error
    cut = scripted("x", rules=(ScriptRule(contains="x", reply="I", finish_reason="length"),))
    assert (cut.finish_reason, cut.error) == ("length", None)


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(2, 11))
def test_the_hash_gives_probabilities_that_sum_to_nine_tenths(prompt: str, count: int) -> None:
    labels = tuple(str(number) for number in range(count))
    reply = scripted(prompt, {"labels": labels})
    assert math.fsum(math.exp(value) for value in reply.label_logprobs) == pytest.approx(0.9)
    assert reply == scripted(prompt, {"labels": labels})


def test_the_same_prompt_has_the_same_answer_in_another_process() -> None:
    code = (
        "from cluster.model_specs import ScriptedSpec\nfrom cluster.engine import ScriptedEngine\n"
        "from cluster.exchange import Request\n"
        "engine = ScriptedEngine(ScriptedSpec(backend='scripted'))\n"
        "print(repr(engine.answer(Request('the prompt', labels=('1', '2', '3')))))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert other.stdout.strip() == repr(scripted("the prompt", {"labels": ("1", "2", "3")}))


def test_a_sampled_reply_follows_the_seed_and_a_greedy_one_does_not() -> None:
    def text(temperature: float, seed: int | None) -> str:
        return scripted("the prompt", {"temperature": temperature, "seed": seed}).text

    drawn = [text(0.7, seed) for seed in range(20)]
    assert len(set(drawn)) == 20
    assert [text(0.7, seed) for seed in range(20)] == drawn
    assert {text(0, seed) for seed in (None, 0, 1)} == {scripted("the prompt").text}
    # Without a seed of its own a reply is still the same in every process.
    assert text(0.7, None) == text(0.7, None)
    assert text(0.7, None) not in drawn


def test_labels_are_never_sampled_and_a_rule_is_the_same_for_every_seed() -> None:
    asked = [{"temperature": 0.7, "seed": seed} for seed in range(5)]
    assert {scripted("p", {**one, "labels": LABELS}) for one in asked} == {scripted("p", {"labels": LABELS})}
    rules = (ScriptRule(contains="p", reply="said"),)
    assert {scripted("p", one, rules=rules).text for one in asked} == {"said"}


def test_the_garbage_share_is_a_share_of_the_prompts() -> None:
    replies = [scripted(f"prompt {number}", garbage_share=0.25) for number in range(400)]
    share = sum(reply.text == "I would rather not say." for reply in replies) / len(replies)
    # Binomial with p 0.25 and n 400: standard deviation 0.022; the hash is fixed, so this never wavers.
    assert 0.18 < share < 0.32
    masses = [math.fsum(map(math.exp, scripted("x", {"labels": LABELS}, garbage_share=1).label_logprobs))]
    assert masses == [pytest.approx(1e-6)]


def test_a_prompt_over_the_limit_is_too_long() -> None:
    assert scripted("x" * 10, max_prompt_chars=10).error is None
    assert scripted("x" * 11, max_prompt_chars=10).error == "too_long"


def test_the_reply_follows_the_schema() -> None:
    seen = set()
    for number in range(40):
        values = json.loads(scripted(f"prompt {number}", {"json_schema": SCHEMA}).text)
        assert list(values) == ["reason", "overall_score"]
        assert isinstance(values["reason"], str)
        seen.add(values["overall_score"])
    assert seen == {1, 2, 3, 4, 5}


def test_the_delay_is_waited_once_for_many_at_a_time() -> None:
    engine = ScriptedEngine(ScriptedSpec(backend="scripted", delay_s=0.1))

    async def ask() -> None:
        await asyncio.gather(*(engine.generate(Request(str(number))) for number in range(50)))

    begun = time.perf_counter()
    asyncio.run(ask())
    assert 0.1 <= time.perf_counter() - begun < 1.0


def test_a_reply_and_its_tokens(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(said("Score: 4"))]
    assert ask(endpoint) == Reply("Score: 4", "stop", (), num_prompt_tokens=11, num_generated_tokens=3)


def test_what_the_endpoint_is_asked(endpoint: Endpoint) -> None:
    ask(endpoint, Request("p", json_schema=SCHEMA, max_tokens=50, temperature=0.5, top_p=0.9, seed=3))
    asked = endpoint.requests[0]
    assert asked["messages"] == [{"role": "user", "content": "p"}]
    assert {name: asked[name] for name in ("model", "max_tokens", "temperature", "top_p", "seed")} == {
        "model": "m",
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }
    assert asked["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert "logprobs" not in asked


def test_an_endpoint_without_response_format_is_not_asked_for_it(endpoint: Endpoint) -> None:
    ask(endpoint, Request("p", json_schema=SCHEMA), json_schema=False)
    assert "response_format" not in endpoint.requests[0]
    assert "seed" not in endpoint.requests[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_asked_again(endpoint: Endpoint, status: int) -> None:
    endpoint.answers = [Answer(failed("busy"), status, headers={"retry-after-ms": "10"}), Answer(said("fine"))]
    assert ask(endpoint, max_retries=2).text == "fine"
    assert len(endpoint.requests) == 2


def test_a_failure_that_stays_is_an_error_reply(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(failed("the GPU fell off"), 500, headers={"retry-after-ms": "10"})]
    reply = ask(endpoint, max_retries=2)
    assert (reply.error, reply.text, reply.finish_reason) == ("error", "", "")
    assert reply.detail.startswith("500: ")
    assert "the GPU fell off" in reply.detail
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404])
def test_our_own_mistake_is_not_asked_again(endpoint: Endpoint, status: int) -> None:
    endpoint.answers = [Answer(failed("no"), status)]
    assert ask(endpoint).error == "error"
    assert len(endpoint.requests) == 1


def test_an_endpoint_that_is_slow_is_a_timeout(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(said("late"), delay_s=0.5)]
    assert ask(endpoint, timeout_s=0.1, max_retries=0).error == "timeout"


def test_no_endpoint_is_an_error() -> None:
    with serving() as endpoint:
        gone = endpoint
    assert ask(gone, max_retries=0).error == "error"


def test_a_specification_renames_drops_and_adds_parameters(endpoint: Endpoint) -> None:
    ask(
        endpoint,
        Request("p", max_tokens=50, seed=3),
        rename={"max_tokens": "max_completion_tokens"},
        drop=("temperature", "top_p"),
        request={"reasoning_effort": "low", "seed": 9, "extra_body": {"chat_template_kwargs": {"thinking": False}}},
    )
    assert endpoint.requests[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "p"}],
        "max_completion_tokens": 50,
        "seed": 9,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"thinking": False},
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"drop": ("max_token",)},
        {"rename": {"messages": "prompt"}},
        {"request": {"stream": True}},
        {"request": {"extra_body": 3}},
        {"request": {"extra_body": {"stream": True}}},
        {"rename": {"seed": "messages"}},
        {"rename": {"temperature": "top_p"}},
        {"rename": {"seed": ""}},
        {"drop": ("seed",), "rename": {"seed": "random_seed"}},
    ],
)
def test_a_specification_of_parameters_that_makes_no_sense_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"drop|rename|stream|extra_body"):
        HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", **spec)


def test_no_more_requests_at_once_than_agreed(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(said("ok"), delay_s=0.05)]
    engine = HttpEngine(HttpSpec(backend="http", base_url=endpoint.base_url, model="m", max_in_flight=3))

    async def ask_all() -> list[Reply]:
        return await asyncio.gather(*(engine.generate(Request(str(number))) for number in range(9)))

    assert [reply.text for reply in asyncio.run(ask_all())] == ["ok"] * 9
    assert endpoint.most_at_once == 3


def test_the_key_comes_from_the_environment(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abc")
    ask(endpoint, api_key_env="MY_KEY")
    assert endpoint.keys == ["Bearer abc"]


def test_the_key_comes_from_a_file(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("def\n")
    ask(endpoint, api_key_file=tmp_path / "key")
    assert endpoint.keys == ["Bearer def"]


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with refused("missing_api_key", naming="MY_KEY"):
        HttpEngine(HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", api_key_env="MY_KEY"))


def test_a_missing_key_file_is_the_users_to_mend(tmp_path: Path) -> None:
    with refused("missing_api_key", naming=f"{tmp_path}/key"):
        HttpEngine(HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", api_key_file=tmp_path / "key"))
    (tmp_path / "empty").write_text("\n")
    with refused("missing_api_key", naming=f"{tmp_path}/empty"):
        HttpEngine(HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", api_key_file=tmp_path / "empty"))


def test_a_request_to_a_deployment_names_the_model_of_the_configuration() -> None:
    seen: list[Request] = []

    async def answer(request: Request) -> Reply:
        seen.append(request)
        return Reply("ok")

    handle = SimpleNamespace(answer=SimpleNamespace(remote=answer))
    asked = Request("p", labels=("1", "2"), model="/an/adapter/of/the/client")
    for name in ("tuned", ""):
        assert asyncio.run(HandleEngine(handle, name).generate(asked)).text == "ok"
    assert seen == [dataclasses.replace(asked, model="tuned"), dataclasses.replace(asked, model="")]
