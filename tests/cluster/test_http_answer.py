"""The HTTP engine and an endpoint's responses: texts, finish reasons, labels, malformed bodies."""

import asyncio
import json
import math
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.engine import HttpEngine
from cluster.exchange import Reply, Request
from cluster.http_answer import error_words, read_answer
from cluster.model_specs import HttpSpec
from tests.cluster.fake_endpoint import LABELS, Answer, Endpoint, ask, said


def probabilities(reply: Reply) -> list[float]:
    return [0.0 if math.isnan(value) else round(math.exp(value), 6) for value in reply.label_logprobs]


def test_the_spellings_of_a_label_are_summed(endpoint: Endpoint) -> None:
    top = {"4": math.log(0.5), " 4": math.log(0.25), "3": math.log(0.125), "Four": math.log(0.1), "44": math.log(0.01)}
    endpoint.answers = [Answer(said("**4**", finish_reason="length", tokens=[("**", {}), ("4", top), ("**", {})]))]
    reply = ask(endpoint, Request("p", labels=LABELS))
    # 4: 0.5 + 0.25; "Four" and "44" are no labels.
    assert probabilities(reply) == [0, 0, 0.125, 0.75, 0]
    # With labels the reply is cut on purpose.
    assert reply.finish_reason == "stop"
    assert (endpoint.requests[0]["logprobs"], endpoint.requests[0]["top_logprobs"]) == (True, 20)


def test_the_label_may_come_after_the_replys_own_start(endpoint: Endpoint) -> None:
    tokens = [
        ("Score", {"Score": math.log(0.9), "4": math.log(0.1)}),
        (":", {":": 0.0}),
        (" 2", {" 2": math.log(0.6), " 5": math.log(0.2)}),
    ]
    endpoint.answers = [Answer(said("Score: 2", tokens=tokens))]
    # The position behind "Score:" decides, not the "4" that was an alternative to "Score".
    assert probabilities(ask(endpoint, Request("p", labels=LABELS))) == [0, 0.6, 0, 0, 0.2]


@pytest.mark.parametrize(
    "tokens", [[("I", {"I": 0.0}), (" refuse", {" refuse": 0.0})], [("44", {"44": 0.0})]], ids=["words", "44"]
)
def test_no_label_in_the_reply_tells_no_probabilities(
    endpoint: Endpoint, tokens: list[tuple[str, dict[str, float]]]
) -> None:
    endpoint.answers = [Answer(said("x", tokens=tokens))]
    reply = ask(endpoint, Request("p", labels=LABELS))
    assert reply.error is None
    assert all(math.isnan(value) for value in reply.label_logprobs)


def test_an_endpoint_that_tells_no_log_probabilities(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(said("4"))]
    assert ask(endpoint, Request("p", labels=LABELS)).label_logprobs == ()


def test_a_reply_that_ran_into_max_tokens_says_so(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(said("and then", finish_reason="length"))]
    assert ask(endpoint).finish_reason == "length"


@pytest.mark.parametrize(
    "body",
    [
        {**said("x"), "choices": []},
        {},
        [],
        None,
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        "<html>a proxy</html>",
    ],
    ids=["no choices", "empty", "list", "null", "no message", "null message", "page"],
)
def test_an_answer_of_another_form_is_an_error_reply(endpoint: Endpoint, body: Any) -> None:
    endpoint.answers = [Answer(body)]
    reply = ask(endpoint)
    assert reply.error == "error"
    assert reply.detail.startswith("the endpoint's response ")
    assert (body if isinstance(body, str) else json.dumps(body))[:50] in reply.detail


def test_broken_json_is_an_error_reply(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer("{", headers={"Content-Type": "application/json"})]
    assert ask(endpoint, max_retries=0).error == "error"


def test_log_probabilities_without_alternatives_are_none(endpoint: Endpoint) -> None:
    body = said("4", tokens=[("4", {})])
    del body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    endpoint.answers = [Answer(body)]
    reply = ask(endpoint, Request("p", labels=LABELS))
    assert (reply.error, reply.label_logprobs) == (None, ())
    assert "no log-probabilities" in reply.detail


@pytest.mark.parametrize(
    ("finish_reason", "ending"),
    [
        ("stop", "stop"),
        ("EOS", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "filtered"),
        ("SAFETY", "filtered"),
        ("tool_calls", "other"),
        ("abort", "other"),
        (None, "other"),
        (7, "other"),
    ],
)
def test_how_a_reply_ended(endpoint: Endpoint, finish_reason: Any, ending: str) -> None:
    endpoint.answers = [Answer(said("Score: 4", finish_reason=finish_reason))]
    reply = ask(endpoint)
    assert (reply.finish_reason, reply.text) == (ending, "Score: 4")
    assert reply.detail == ("" if ending == "stop" else f"finish_reason {json.dumps(finish_reason)}")


def test_a_refusal_is_filtered(endpoint: Endpoint) -> None:
    body = said("")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I cannot rate this."}
    endpoint.answers = [Answer(body)]
    assert (ask(endpoint).finish_reason, ask(endpoint).detail) == ("filtered", "refusal: I cannot rate this.")


def test_parts_of_a_content_are_joined_without_the_thinking(endpoint: Endpoint) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Score: 1"}]},
        {"type": "text", "text": "Score:"},
        {"type": "text", "text": " 4"},
    ]
    endpoint.answers = [Answer({"choices": [{"finish_reason": "stop", "message": {"content": parts}}]})]
    assert ask(endpoint).text == "Score: 4"


@pytest.mark.parametrize(
    ("choice", "ending"),
    [
        ({"message": {"role": "assistant"}, "finish_reason": "length"}, "length"),
        ({"message": {"role": "assistant"}, "finish_reason": "content_filter"}, "filtered"),
        ({"message": None, "finish_reason": "content_filter"}, "filtered"),
        ({"message": {"refusal": "I can't"}, "finish_reason": "stop"}, "filtered"),
        ({"message": {"content": [{"type": "thinking", "thinking": "hm"}]}, "finish_reason": "length"}, "length"),
        ({"message": {"content": None, "reasoning_content": "Score: 4"}, "finish_reason": "length"}, "length"),
        ({"message": {"content": None, "reasoning_content": "Score: 4"}, "finish_reason": "stop"}, "stop"),
        ({"message": {"content": None}, "finish_reason": "stop"}, "stop"),
    ],
)
def test_how_a_reply_without_a_text_ended(endpoint: Endpoint, choice: dict[str, Any], ending: str) -> None:
    endpoint.answers = [Answer({"choices": [choice]})]
    reply = ask(endpoint)
    assert (reply.error, reply.text, reply.finish_reason) == (None, "", ending)
    labelled = ask(endpoint, Request("p", labels=LABELS))
    assert labelled.finish_reason in (ending, "stop") and labelled.error is None


@pytest.mark.parametrize(
    "content", [[{"text": "Score: 4"}], ["Score: 4"], [{"type": "text", "text": {"value": "Score: 4"}}]]
)
def test_other_forms_of_a_text_are_read(endpoint: Endpoint, content: Any) -> None:
    endpoint.answers = [Answer({"choices": [{"finish_reason": "stop", "message": {"content": content}}]})]
    assert ask(endpoint).text == "Score: 4"


KEYS = (
    *("error", "choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "bytes", "usage"),
    *("finish_reason", "type", "text", "code", "metadata", "raw", "detail", "loc", "prompt_tokens", "refusal"),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def _mutated(body: Any, other: Any, place: int) -> Any:
    """`body` with the value at one of its places (counted through lists and objects) replaced by `other`."""
    left = [place]

    def walk(value: Any) -> Any:
        if left[0] == 0:
            left[0] -= 1
            return other
        left[0] -= 1
        if isinstance(value, dict):
            return {key: walk(one) for key, one in value.items()}
        return [walk(one) for one in value] if isinstance(value, list) else value

    return walk(body)


WHOLE = said("Score: 4", tokens=[("Score", {"Score": 0.0}), (":", {":": 0.0}), (" 4", {" 4": -0.1, "3": -2.0})])
ANY_ANSWER = ANY_JSON | st.builds(_mutated, st.just(WHOLE), ANY_JSON, st.integers(0, 60))


@settings(deadline=None, max_examples=400)
@given(ANY_ANSWER, st.sampled_from([(), LABELS]))
def test_no_answer_raises(body: Any, labels: tuple[str, ...]) -> None:
    reply = read_answer(json.dumps(body).encode(), labels).reply
    assert reply.error or (isinstance(reply.text, str) and reply.finish_reason)
    assert reply.error or len(reply.label_logprobs) in (0, len(labels))
    assert all(math.isnan(value) or value <= math.log(1 + 1e-9 + len(labels)) for value in reply.label_logprobs)
    assert len(reply.detail) <= 500


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([(), LABELS]))
def test_no_bytes_raise(content: bytes, labels: tuple[str, ...]) -> None:
    assert read_answer(content, labels).reply.error == "error"
    assert isinstance(error_words(content), str)


def test_two_thousand_odd_answers_of_a_server_and_every_one_is_a_reply(endpoint: Endpoint) -> None:
    random = Random(0)
    odd: list[Any] = [None, [], {}, "", 0, 1e400, True, "<html>", {"error": "x"}, [None], {"content": 1}, "Score: 4"]
    statuses = [200] * 12 + [400, 401, 404, 413, 422, 429, 500, 503]

    def answer(body: dict[str, Any]) -> Answer:
        said_ = _mutated(WHOLE, random.choice(odd), random.randrange(62))
        content = json.dumps(said_)
        if random.random() < 0.2:
            content = content[: random.randrange(len(content))]
        kind = random.choice(["application/json", "text/html", "text/plain; charset=latin-1", ""])
        return Answer(content, random.choice(statuses), headers={"Content-Type": kind})

    endpoint.answer = answer
    engine = HttpEngine(HttpSpec(backend="http", base_url=endpoint.base_url, model="m", max_retries=0))

    async def ask_all() -> list[Reply]:
        asked = [Request(str(number), labels=LABELS if number % 2 else ()) for number in range(2000)]
        return await asyncio.gather(*map(engine.generate, asked))

    replies = asyncio.run(ask_all())
    assert len(replies) == 2000
    kinds = Counter(reply.error or reply.finish_reason for reply in replies)
    assert set(kinds) <= {"error", "stop", "length", "filtered", "other"}
    assert min(kinds["error"], kinds["stop"]) > 200
    assert all(reply.detail for reply in replies if reply.error)
