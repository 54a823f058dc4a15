"""Engines that answer one request at a time, many at once: http, scripted, served. vLLM's batch path is generate.py.

An engine never raises for one request: a failure is a `Reply` whose `error` says what happened.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cluster.config import HttpSpec, ScriptedSpec, ServedSpec
from cluster.errors import UserError

ErrorKind = Literal["too_long", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    `reply_prefix`: how the reply begins; the model goes on from there. `labels`: strings whose log-probabilities as
    the next thing after the prefix are wanted; with labels nothing is generated. `json_schema`: a JSON schema (text)
    that the reply must follow.
    """

    prompt: str
    reply_prefix: str = ""
    labels: tuple[str, ...] = ()
    json_schema: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`label_logprobs`: natural logarithms in the order of the request's labels; NaN where the engine does not tell.

    `num_cached_tokens`: those of the prompt that came from the prefix cache, where the engine tells.
    """

    text: str = ""
    finish_reason: Literal["stop", "length", ""] = ""
    label_logprobs: tuple[float, ...] = ()
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    error: ErrorKind | None = None
    detail: str = ""


class Engine(Protocol):
    async def generate(self, request: Request) -> Reply: ...


class ScriptedEngine:
    """Answers by rule, or by the hash of the prompt, and of the seed where it samples: in every process alike."""

    def __init__(self, spec: ScriptedSpec) -> None:
        self._spec = spec

    async def generate(self, request: Request) -> Reply:
        if self._spec.delay_s:
            await asyncio.sleep(self._spec.delay_s)
        return self.answer(request)

    def answer(self, request: Request) -> Reply:
        if len(request.prompt) > self._spec.max_prompt_chars:
            return Reply(error="too_long", detail=f"{len(request.prompt)} characters")
        num_tokens = len(request.prompt) // 4
        for rule in self._spec.rules:
            if rule.contains in request.prompt:
                known = rule.label_logprobs or {}
                logprobs = tuple(known.get(label, math.nan) for label in request.labels)
                return Reply(
                    rule.reply or "",
                    rule.finish_reason,
                    logprobs,
                    num_tokens,
                    1,
                    error=rule.error,
                    detail="scripted" if rule.error else "",
                )
        drawn = f"{request.seed}\0" if request.temperature and not request.labels else ""
        digest = hashlib.sha256(f"{drawn}{request.prompt}".encode()).digest()
        garbage = int.from_bytes(digest[:4]) / 2**32 < self._spec.garbage_share
        if request.labels:
            weights = [1 + digest[4 + place % 16] for place in range(len(request.labels))]
            share = 1e-6 if garbage else 0.9
            return Reply("", "stop", tuple(math.log(share * w / sum(weights)) for w in weights), num_tokens, 1)
        return Reply(
            "I would rather not say." if garbage else _scripted_text(request, digest), "stop", (), num_tokens, 8
        )


def _scripted_text(request: Request, digest: bytes) -> str:
    """A reply that follows the request's JSON schema (strings and enumerated integers), or a plain sentence."""
    if not request.json_schema:
        return f"Scripted reply {digest.hex()[:8]}."
    properties: Mapping[str, Any] = json.loads(request.json_schema)["properties"]
    values = {
        name: kind["enum"][digest[5] % len(kind["enum"])] if "enum" in kind else f"Scripted reason {digest.hex()[:8]}."
        for name, kind in properties.items()
    }
    return json.dumps(values)


class HttpEngine:
    """An OpenAI-compatible chat endpoint; retries and backoff are the `openai` client's."""

    NUM_TOP_LOGPROBS = 20  # the most that the OpenAI interface gives

    def __init__(self, spec: HttpSpec) -> None:
        import openai

        self._openai = openai
        self._spec = spec
        self._client = openai.AsyncOpenAI(
            base_url=spec.base_url, api_key=api_key(spec), timeout=spec.timeout_s, max_retries=spec.max_retries
        )
        self._slots = asyncio.Semaphore(spec.max_in_flight)

    async def generate(self, request: Request) -> Reply:
        async with self._slots:
            try:
                answer = await self._client.chat.completions.create(**self._arguments(request))
            except self._openai.APITimeoutError as error:
                return Reply(error="timeout", detail=str(error))
            except self._openai.APIStatusError as error:
                too_long = "context length" in str(error).lower() or "maximum context" in str(error).lower()
                return Reply(
                    error="too_long" if too_long else "error",
                    detail=_clean(f"{error.status_code}: {error.message}")[:500],
                )
            except self._openai.OpenAIError as error:
                return Reply(error="error", detail=_clean(str(error))[:500])
            except json.JSONDecodeError as error:
                return Reply(error="error", detail=f"the endpoint's answer is broken JSON: {error}")
        return _http_reply(answer, request)

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": request.temperature,
            "top_p": request.top_p,
            # A chat endpoint cannot be made to continue our prefix, so the label comes a few tokens into the reply.
            "max_tokens": 8 if request.labels else request.max_tokens,
        }
        if request.seed is not None:
            arguments["seed"] = request.seed
        if request.labels:
            arguments |= {"logprobs": True, "top_logprobs": self.NUM_TOP_LOGPROBS}
        if request.json_schema and self._spec.json_schema:
            schema = {"name": "reply", "schema": json.loads(request.json_schema), "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        return arguments


def _http_reply(answer: Any, request: Request) -> Reply:
    # The client checks no types: an endpoint that answers with a page of its proxy gives a str here.
    choices = getattr(answer, "choices", None)
    if not choices or choices[0].message is None:
        return Reply(error="error", detail="the endpoint answered without choices")
    choice = choices[0]
    usage = answer.usage
    return Reply(
        text=_clean(choice.message.content or ""),
        # With labels the reply is cut on purpose, after the label.
        finish_reason="length" if choice.finish_reason == "length" and not request.labels else "stop",
        label_logprobs=_labels_in(choice.logprobs.content or [], request.labels)
        if request.labels and choice.logprobs
        else (),
        num_prompt_tokens=(usage.prompt_tokens if usage else 0) or 0,
        num_generated_tokens=(usage.completion_tokens if usage else 0) or 0,
    )


def _clean(text: str) -> str:
    """Half a surrogate pair is legal in JSON and cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _labels_in(tokens: Sequence[Any], labels: Sequence[str]) -> tuple[float, ...]:
    """Log-probabilities of the labels at the first token that is one, over every spelling (" 4", "4") listed there."""
    for token in tokens:
        if token.token.strip() not in labels:
            continue
        masses = dict.fromkeys(labels, 0.0)
        for entry in token.top_logprobs or ():
            if entry.token.strip() in masses:
                masses[entry.token.strip()] += math.exp(entry.logprob)
        return tuple(math.log(mass) if mass else math.nan for mass in masses.values())
    return tuple(math.nan for _ in labels)


class HandleEngine:
    """The engine behind a deployment's handle. A replica that dies or refuses is an error of the reply."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def generate(self, request: Request) -> Reply:
        response = self._handle.answer.remote(request)
        try:
            reply: Reply = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except Exception as error:  # Ray's errors for a dead, full or broken replica have no common ancestor
            return Reply(error="error", detail=type(error).__name__)
        return reply

    @staticmethod
    def of(spec: ServedSpec) -> HandleEngine:
        """The engine of a deployment on this cluster's Serve."""
        import ray.serve

        return HandleEngine(ray.serve.get_deployment_handle(spec.deployment, spec.app))


def api_key(spec: HttpSpec) -> str:
    if spec.api_key_env:
        key = os.environ.get(spec.api_key_env)
        if not key:
            raise UserError(f"the environment variable {spec.api_key_env} (api_key_env) is not set")
        return key
    if spec.api_key_file:
        try:
            key = spec.api_key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UserError(f"api_key_file {spec.api_key_file} cannot be read: {error.strerror}") from error
        if not key:
            raise UserError(f"api_key_file {spec.api_key_file} is empty")
        return key
    return "none"
