"""Asynchronous engines for single requests: http, scripted, served. vLLM's batch path is in generate.py.

An engine never raises for one request: a failure is a `Reply` with `error` set. An endpoint's response is parsed by
http_answer.py, which does not trust it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
import os
import random
from collections.abc import Mapping
from typing import Any, Protocol

from cluster.errors import UserError
from cluster.exchange import Reply, Request
from cluster.http_answer import Answer, error_words, is_too_long, key_to_set, masked, read_answer
from cluster.model_specs import FeaturesSpec, HttpSpec, ScriptedSpec, ServedSpec
from cluster.reasoning import apart

NUM_TOP_LOGPROBS = 20  # the maximum of the OpenAI API
LABEL_TOKENS = 8  # a chat endpoint cannot continue our prefix, so the label is preceded by a few tokens
TRANSIENT = (408, 409, 429, *range(500, 600))  # the statuses that the `openai` client retries
MAX_BACKOFF_S = 8.0
MAX_DETAIL = 500
MIN_KEY_CHARS = 8  # a shorter key could be any word, so it is not masked


class Engine(Protocol):
    async def generate(self, request: Request) -> Reply:
        """The reply to one request; an error is a reply too."""


class ScriptedEngine:
    """Replies by rule, or from a hash of the prompt (and of the seed when sampling): the same in every process."""

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
        if request.hidden_state:
            return Reply(hidden_state=_scripted_state(request.prompt), num_prompt_tokens=num_tokens)
        for rule in self._spec.rules:
            if rule.contains in request.prompt:
                known = rule.label_logprobs or {}
                logprobs = tuple(known.get(label, math.nan) for label in request.labels)
                reply = Reply(
                    rule.reply or "",
                    rule.finish_reason,
                    logprobs,
                    num_tokens,
                    1,
                    error=rule.error,
                    detail="scripted" if rule.error else "",
                )
                return reply if request.labels else apart(reply)
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


def _scripted_state(prompt: str) -> tuple[float, ...]:
    """Numbers that tell the length of the prompt's lines and its first words' hash: something to learn from."""
    digest = hashlib.sha256(prompt.encode()).digest()
    lengths = [math.log1p(len(line)) for line in prompt.splitlines() if line.strip()]
    return (math.log1p(len(prompt)), sum(lengths) / max(len(lengths), 1), *(byte / 255 for byte in digest[:6]))


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


class FeaturesEngine:
    """Returns the texts of the request with the name of the feature; the judge measures them. Nothing is generated."""

    def __init__(self, spec: FeaturesSpec) -> None:
        self._spec = spec

    async def generate(self, request: Request) -> Reply:
        return self.answer(request)

    def answer(self, request: Request) -> Reply:
        return Reply(json.dumps({"feature": self._spec.feature, **json.loads(request.prompt)}), "stop")


class HttpEngine:
    """An OpenAI-compatible chat endpoint; retries and backoff are the `openai` client's."""

    def __init__(self, spec: HttpSpec) -> None:
        import openai

        self._openai = openai
        self._spec = spec
        self._key = api_key(spec)
        self._client = openai.AsyncOpenAI(
            base_url=spec.base_url, api_key=self._key, timeout=spec.timeout_s, max_retries=spec.max_retries
        )
        self._slots = asyncio.Semaphore(spec.max_in_flight)

    async def generate(self, request: Request) -> Reply:
        async with self._slots:
            for attempt in range(self._spec.max_retries + 1):
                try:
                    answer = await self._asked(request)
                except Exception as error:  # one failed request must not lose the others
                    answer = Answer(Reply(error="error", detail=masked(f"{type(error).__name__}: {error}", MAX_DETAIL)))
                # The client does not see an error in a response with status 200, so it is retried here.
                if answer.status not in TRANSIENT or attempt == self._spec.max_retries:
                    break
                await asyncio.sleep(min(MAX_BACKOFF_S, 0.5 * 2**attempt) * random.uniform(0.75, 1.0))
        return answer.reply

    async def _asked(self, request: Request) -> Answer:
        body = self.body(request)
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=body.pop("model"), messages=body.pop("messages"), extra_body=body
            )
        except self._openai.APITimeoutError as error:
            return Answer(Reply(error="timeout", detail=str(error)))
        except self._openai.APIStatusError as error:
            return Answer(self._refused(error.status_code, self._without_key(error.response.content), body))
        except self._openai.OpenAIError as error:
            cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) else ""
            return Answer(Reply(error="error", detail=masked(f"{error}{cause}", MAX_DETAIL)))
        return read_answer(self._without_key(raw.content), request.labels, request.reply_prefix)

    def _without_key(self, content: bytes) -> bytes:
        return content.replace(self._key.encode(), b"***") if len(self._key) >= MIN_KEY_CHARS else content

    def _refused(self, status: int, content: bytes, body: Mapping[str, Any]) -> Reply:
        words = error_words(content)
        too_long = is_too_long(words, status)
        hint = "" if too_long or status not in (400, 403, 422) else key_to_set(words, body, self._spec.rename)
        detail = f"{masked(f'{status}: {words}', MAX_DETAIL)}{hint}"
        return Reply(error="too_long" if too_long else "error", detail=detail)

    def body(self, request: Request) -> dict[str, Any]:
        """The request's JSON: the default parameters, then the specification's `rename`, `drop` and `request`."""
        spec = self._spec
        body: dict[str, Any] = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": LABEL_TOKENS if request.labels else request.max_tokens,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.labels:
            body |= {"logprobs": True, "top_logprobs": NUM_TOP_LOGPROBS}
        if request.json_schema and spec.json_schema:
            schema = {"name": "reply", "schema": json.loads(request.json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        kept = {spec.rename.get(name, name): value for name, value in body.items() if name not in spec.drop}
        own = dict(spec.request)
        more = own.pop("extra_body", {})
        messages = [{"role": "user", "content": request.prompt}]
        return {"model": spec.model, "messages": messages, **kept, **own, **more}


class HandleEngine:
    """A deployment behind its Serve handle. A replica that dies or is overloaded gives a reply with an error.

    `model`: the name under `models` that a deployment with LoRA adapters is asked by; "": its base.
    """

    def __init__(self, handle: Any, model: str = "") -> None:
        self._handle = handle
        self._model = model

    async def generate(self, request: Request) -> Reply:
        response = self._handle.answer.remote(dataclasses.replace(request, model=self._model))
        try:
            reply: Reply = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except Exception as error:  # Ray's errors for dead, overloaded and failing replicas have no common base class
            return Reply(error="error", detail=type(error).__name__)
        return reply

    @staticmethod
    def of(spec: ServedSpec) -> HandleEngine:
        """The engine of a deployment on this cluster's Ray Serve."""
        import ray.serve

        return HandleEngine(ray.serve.get_deployment_handle(spec.deployment, spec.app), spec.adapter or "")


def api_key(spec: HttpSpec) -> str:
    """The endpoint's key; "none" if the specification names none. Raises UserError if it cannot be read."""
    if spec.api_key_env:
        key = os.environ.get(spec.api_key_env)
        if not key:
            raise UserError(
                f"The environment variable {spec.api_key_env} (api_key_env) is not set.", code="missing_api_key"
            )
        return key
    if spec.api_key_file:
        try:
            key = spec.api_key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UserError(
                f"api_key_file {spec.api_key_file} cannot be read: {error.strerror}.", code="missing_api_key"
            ) from error
        if not key:
            raise UserError(f"api_key_file {spec.api_key_file} is empty.", code="missing_api_key")
        return key
    return "none"
