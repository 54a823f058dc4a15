"""An OpenAI-compatible chat endpoint on this machine that answers what a test tells it to, and keeps the requests."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from cluster.engine import HttpEngine
from cluster.exchange import Reply, Request
from cluster.model_specs import HttpSpec
from tests.local_server import address_of, local_server

LABELS = ("1", "2", "3", "4", "5")
SCHEMA = json.dumps(
    {"type": "object", "properties": {"reason": {"type": "string"}, "overall_score": {"enum": [1, 2, 3, 4, 5]}}}
)


@dataclass
class Answer:
    """`body`: what is sent, as JSON unless it is a text; `delay_s`: waited before."""

    body: Any
    status: int = 200
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


def said(
    text: str, *, finish_reason: str = "stop", tokens: list[tuple[str, dict[str, float]]] | None = None
) -> dict[str, Any]:
    """A chat completion; `tokens`: each generated token with its top log-probabilities by token."""
    listed = [
        {
            "token": token,
            "logprob": top.get(token, -9.0),
            "bytes": None,
            "top_logprobs": [{"token": other, "logprob": value, "bytes": None} for other, value in top.items()],
        }
        for token, top in tokens or []
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish_reason,
        "logprobs": {"content": listed} if tokens else None,
    }
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def failed(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error"}}


class Endpoint:
    """`answers` are given in turn, the last one for ever; or `answer` decides by the request's body."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [Answer(said("ok"))]
        self.answer: Callable[[dict[str, Any]], Answer] | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = 0
        self.base_url = ""
        self._now = 0
        self._lock = threading.Lock()

    def take(self, body: dict[str, Any], key: str) -> Answer:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            if self.answer:
                return self.answer(body)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def leave(self) -> None:
        with self._lock:
            self._now -= 1


@contextmanager
def serving() -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = endpoint.take(body, self.headers["Authorization"])
            time.sleep(answer.delay_s)
            is_text = isinstance(answer.body, str)
            data = (answer.body if is_text else json.dumps(answer.body)).encode()
            # Counted out before the client can hear of it and ask again.
            endpoint.leave()
            try:
                self.send_response(answer.status)
                kind = {"Content-Type": "text/html" if is_text else "application/json"}
                for name, value in {**kind, "Content-Length": str(len(data)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up, as a test of timeouts wants it

        def log_message(self, *_: object) -> None:
            pass

    with local_server(Handler) as server:
        endpoint.base_url = f"{address_of(server)}/v1"
        yield endpoint


def ask(endpoint: Endpoint, asked: Request | None = None, **spec: Any) -> Reply:
    """The HTTP engine's reply from the endpoint."""
    engine = HttpEngine(HttpSpec(backend="http", base_url=endpoint.base_url, model="m", **spec))
    return asyncio.run(engine.generate(asked or Request("the prompt")))
