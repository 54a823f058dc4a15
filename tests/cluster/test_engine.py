"""The scripted engine's answers, and the HTTP engine against an endpoint on this machine."""

import asyncio
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import HttpSpec, ScriptedSpec, ScriptRule
from cluster.engine import HttpEngine, ScriptedEngine
from cluster.errors import UserError
from cluster.exchange import Reply, Request
from cluster.http_answer import error_words, masked, read_answer
from tests.cluster.fake_endpoint import Answer, Endpoint, failed, said, serving

LABELS = ("1", "2", "3", "4", "5")
SCHEMA = json.dumps(
    {"type": "object", "properties": {"reason": {"type": "string"}, "overall_score": {"enum": [1, 2, 3, 4, 5]}}}
)


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
        "from cluster.config import ScriptedSpec\nfrom cluster.engine import ScriptedEngine\n"
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


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found


def ask(endpoint: Endpoint, asked: Request | None = None, **spec: Any) -> Reply:
    engine = HttpEngine(HttpSpec(backend="http", base_url=endpoint.base_url, model="m", **spec))
    return asyncio.run(engine.generate(asked or Request("the prompt")))


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


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 3000.",
        "input exceeds the available context length",
        "The decoder prompt (length 3000) is longer than the maximum model length of 2048.",
        "the request (3000 tokens) exceeds the available context size (2048 tokens), try increasing it",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 tokens",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count is 1200000 but model only supports up to 1048576",
        "Input tokens exceed the configured limit of 272000 tokens.",
        "Range of input length should be [1, 30720]",
        "the total number of tokens in the prompt is too large: 3000 > 2048",
    ],
)
def test_a_prompt_beyond_the_context_is_too_long(endpoint: Endpoint, message: str) -> None:
    endpoint.answers = [Answer(failed(message), 400)]
    assert ask(endpoint).error == "too_long"


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
    assert reply.detail.startswith(("the endpoint's answer ", "the endpoint answered without choices: "))
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


def test_an_error_in_a_200_is_retried_and_told(endpoint: Endpoint) -> None:
    busy = {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream is full"}}}
    endpoint.answers = [Answer(busy), Answer(said("fine"))]
    assert ask(endpoint, max_retries=1).text == "fine"
    endpoint.answers = [Answer(busy)]
    reply = ask(endpoint, max_retries=0)
    assert (reply.error, reply.detail) == ("error", "502: Provider returned error; upstream is full")
    endpoint.answers = [Answer({"error": {"code": None, "message": "slow down"}, "status": 429}), Answer(said("fine"))]
    assert ask(endpoint, max_retries=1).text == "fine"
    # An empty one beside a good answer is none.
    endpoint.answers = [Answer({**said("fine"), "error": {"code": 0, "message": ""}})]
    assert ask(endpoint, max_retries=0).text == "fine"
    endpoint.requests.clear()
    endpoint.answers = [Answer({"error": {"code": 400, "message": "no such model"}})]
    assert ask(endpoint, max_retries=2).detail == "400: no such model"
    assert len(endpoint.requests) == 1  # our own mistake is not asked again


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no such model"}}, "no such model"),
        ({"error": "model x not found"}, "model x not found"),
        ({"message": "Invalid key"}, "Invalid key"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "body.seed: Extra inputs"),
        ({"detail": "Not Found"}, "Not Found"),
        ([{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}], "API key not valid"),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        ({"Message": "in capitals"}, "in capitals"),
        ({"errors": {"temperature": ["must be 1"]}}, "temperature: must be 1"),
        ({"fault": {"faultstring": "gateway"}}, "gateway"),
        ({"error": {"message": {"a": {"msg": "deep"}}}}, "deep"),
        ({"error": {"message": "Unsupported value.", "param": "temperature"}}, "temperature: Unsupported value."),
        ("payload too large: 9 MB", "payload too large: 9 MB"),
        ({}, "{}"),
    ],
)
def test_the_words_of_an_error_of_any_form(endpoint: Endpoint, body: Any, words: str) -> None:
    endpoint.answers = [Answer(body, 404)]
    assert words in ask(endpoint).detail


def test_keys_are_masked_and_control_characters_stay_out_of_the_line(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "very-own-secret")
    endpoint.answers = [Answer(failed("Incorrect key sk-abc123DEF456 or\nvery-own-secret"), 401)]
    assert ask(endpoint, api_key_env="MY_KEY").detail == "401: Incorrect key *** or ***"


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            "`rename: {max_tokens: max_completion_tokens}`",
        ),
        ("Unsupported value: 'temperature' does not support 0.0 with this model.", "`drop: [temperature]`"),
        ("body.seed: Extra inputs are not permitted", "`drop: [seed]`"),
        ("Invalid parameter: 'response_format' of type 'json_schema'", "`json_schema: false`"),
        ("Unsupported parameter: 'seed'. Supported are: temperature, top_p", "`drop: [seed]`"),
        ("`temperature` and `top_p` cannot both be specified", "`drop: [temperature]`"),
    ],
)
def test_a_refused_parameter_is_told_with_the_key_to_set(endpoint: Endpoint, message: str, hint: str) -> None:
    endpoint.answers = [Answer(failed(message), 400)]
    assert hint in ask(endpoint, Request("p", json_schema=SCHEMA, seed=1)).detail


@pytest.mark.parametrize(
    ("words", "spec", "hint"),
    [
        ("reasoning_effort is not supported", {"request": {"reasoning_effort": "low"}}, "`request` without reasoning_"),
        ("a( is unsupported", {"request": {"a(": 1}}, ""),
        (
            "max_completion_tokens must be at most 9",
            {"rename": {"max_tokens": "max_completion_tokens"}},
            "[max_tokens]",
        ),
    ],
)
def test_hints_about_parameters_of_the_configuration(
    endpoint: Endpoint, words: str, spec: dict[str, Any], hint: str
) -> None:
    endpoint.answers = [Answer(failed(words), 400)]
    engine = HttpEngine(HttpSpec(backend="http", base_url=endpoint.base_url, model="m", **spec))
    reply = asyncio.run(engine.generate(Request("p")))
    assert reply.error == "error" and words in reply.detail and hint in reply.detail


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (503, "The context window model is overloaded"),
        (400, "Invalid input: the name of the schema is too long"),
        (400, "The prompt exceeds the limit of 100 requests per minute"),
        (429, "your prompt exceeds the limit of 10000 tokens per minute"),
    ],
)
def test_other_limits_are_not_the_context(endpoint: Endpoint, status: int, words: str) -> None:
    endpoint.answers = [Answer(failed(words), status)]
    assert ask(endpoint, max_retries=0).error == "error"
    endpoint.answers = [Answer({"error": {"code": status, "message": words}})]
    assert ask(endpoint, max_retries=0).error == "error"


def test_a_key_is_masked_wherever_the_words_are_cut(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abcdEFGH1234567890zzzzYYYY")
    endpoint.answers = [Answer(failed("x" * 480 + " key abcdEFGH1234567890zzzzYYYY"), 401)]
    assert "abcd" not in ask(endpoint, api_key_env="MY_KEY").detail


@pytest.mark.parametrize(
    "secret",
    [
        *("sk-abcdefghijklmnop", "nvapi-abc123def456", "Bearer abcdefghij", "eyJhbGciOiJIUzI1NiJ9.abc"),
        *("AKIAABCDEFGHIJKLMNOP", "https://user:pass@host/", "api_key=abcdefgh1234"),
    ],
)
def test_keys_of_others_are_masked(secret: str) -> None:
    shown = masked(f"refused: {secret}")
    assert "***" in shown and secret not in shown


def test_a_400_about_something_else_has_no_hint(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(failed("Unknown model: seedling"), 400)]
    assert ask(endpoint, Request("p", seed=1)).detail == "400: Unknown model: seedling"


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
    with pytest.raises(ValueError, match=r"drop|rename|stream|extra_body"):
        HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", **spec)


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
    with pytest.raises(UserError, match="MY_KEY"):
        HttpEngine(HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", api_key_env="MY_KEY"))


def test_a_missing_key_file_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"api_key_file .* cannot be read"):
        HttpEngine(HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", api_key_file=tmp_path / "key"))
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UserError, match=r"api_key_file .* is empty"):
        HttpEngine(HttpSpec(backend="http", base_url="http://127.0.0.1:1", model="m", api_key_file=tmp_path / "empty"))
