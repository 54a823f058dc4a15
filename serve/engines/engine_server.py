"""The evaluator of a scripted or http model: answers a judge's `Request` and a chat body. Knows no Ray.

`vllm_server.py` is the evaluator of a vLLM model, with the same methods. app.py makes deployments of both.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cluster.engine import Engine, FeaturesEngine, HttpEngine, ScriptedEngine
from cluster.exchange import Reply, Request
from cluster.model_specs import FeaturesSpec, HttpSpec, ScriptedSpec


class EngineServer:
    """A scripted or http engine as an evaluator."""

    def __init__(self, spec: ScriptedSpec | HttpSpec | FeaturesSpec) -> None:
        self._engine: Engine
        if isinstance(spec, FeaturesSpec):
            self._engine = FeaturesEngine(spec)
        else:
            self._engine = HttpEngine(spec) if isinstance(spec, HttpSpec) else ScriptedEngine(spec)

    async def answer(self, request: Request) -> Reply:
        return await self._engine.generate(request)

    async def ping(self) -> bool:
        return True

    async def chat_body(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
        """The chat completion in OpenAI's form: one dict, or with `stream` lines of server-sent events."""
        prompt = "\n\n".join(f"{one['role']}: {one['content']}" for one in body["messages"])
        request = Request(
            prompt,
            json_schema=_schema_of(body),
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 256,
            temperature=body.get("temperature") or 0.0,
            top_p=body.get("top_p") or 1.0,
            seed=body.get("seed"),
        )
        reply = await self._engine.generate(request)
        if reply.error:
            yield {"error": {"message": "The model failed.", "type": "server_error", "code": reply.error}}
            return
        usage = {
            "prompt_tokens": reply.num_prompt_tokens,
            "completion_tokens": reply.num_generated_tokens,
            "total_tokens": reply.num_prompt_tokens + reply.num_generated_tokens,
        }
        ending = {"length": "length", "filtered": "content_filter"}.get(reply.finish_reason, "stop")
        for part in chat_answer(body, reply.text, ending, usage):
            yield part


def chat_answer(body: Mapping[str, Any], text: str, finish_reason: str, usage: Mapping[str, int]) -> list[Any]:
    """A text as a chat completion, or with `stream` as its events: one piece, the end, on request the usage.

    Args:
        body: the request.
        text: the assistant's message.
        finish_reason: in OpenAI's words.
        usage: token counts.
    """
    shared = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
        return [{**shared, "object": "chat.completion", "choices": [choice], "usage": dict(usage)}]

    def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**shared, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"

    parts = [
        chunk([{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]),
        chunk([{"index": 0, "delta": {}, "finish_reason": finish_reason}]),
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        parts.append(chunk([], usage=dict(usage)))
    return [*parts, "data: [DONE]\n\n"]


def _schema_of(body: Mapping[str, Any]) -> str:
    asked = body.get("response_format") or {}
    schema = (asked.get("json_schema") or {}).get("schema") if asked.get("type") == "json_schema" else None
    return json.dumps(schema) if schema and "properties" in schema else ""
