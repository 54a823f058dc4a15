"""The HTTP engine and an endpoint's errors: too long, rejected parameters with a hint, secrets masked."""

import asyncio
from typing import Any

import pytest

from cluster.engine import HttpEngine
from cluster.exchange import Request
from cluster.http_answer import masked
from cluster.model_specs import HttpSpec
from tests.cluster.fake_endpoint import SCHEMA, Answer, Endpoint, ask, failed, said


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
