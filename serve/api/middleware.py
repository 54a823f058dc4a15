"""The guard in front of every route: API keys, limits on body size and load, headers that clients may not set.

Plain ASGI, so that nothing of a request is read before it is allowed. It keeps no text and logs no key.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve.api.api_keys import Keys
from serve.api.errors import RETRY_AFTER_S, error_body
from serve.panel.config import Config

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/healthz", "/readyz"})
# Ray Serve would read these from clients: its request timeout, and whether it cancels when a client disconnects.
NOT_FOR_CLIENTS = frozenset(
    {b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve_multiplexed_model_id"}
)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Guard:
    """Wraps `app`: rejects what is not allowed, and adds `x-request-id` to every response."""

    def __init__(self, app: App, config: Config, keys: Keys | None) -> None:
        self._app = app
        self._config = config
        self._keys = keys
        self._in_flight = 0
        self._open = OPEN | ({"/"} if config.public_page else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            return
        given = [value for name, value in scope["headers"] if name.lower() == b"x-request-id"]
        # Serve's proxy gives every request an id, and adds it to the response itself.
        named = _Named(send, None if given else uuid.uuid4().hex)
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in NOT_FOR_CLIENTS]
        refusal = self._refusal(scope)
        if refusal:
            await _answer(named, *refusal)
            return
        self._in_flight += 1
        try:
            body, status = await self._body(scope, receive)
            if status == 408:
                await _answer(named, 408, error_body(408, "The request body did not arrive in time.", code="timeout"))
            elif status == 413:
                message = f"The request body is larger than {self._config.max_body_bytes} bytes."
                await _answer(named, 413, error_body(413, message, code="too_long"))
            elif status == 0:
                await self._app(scope, _Replay(body, receive), named)
        except Exception as error:
            # The routes handle every error that they know; a traceback could hold a judged text.
            if not named.has_begun:
                message = "A part of the service is not responding. Retry the request."
                await _answer(named, 503, error_body(503, message, code=type(error).__name__))
        finally:
            self._in_flight -= 1

    def _refusal(self, scope: Scope) -> tuple[int, dict[str, Any]] | None:
        """Status and body for a request that is rejected; None: it is allowed."""
        headers = scope["headers"]
        if scope["path"] not in self._open:
            if self._keys is not None and not self._is_known(headers):
                message = "A valid API key is required. Send it as `Authorization: Bearer KEY`."
                return 401, error_body(401, message, code="invalid_api_key")
            if self._keys is None and not _is_local(headers):
                # DNS rebinding: a foreign web page whose host name was made to resolve to this address.
                message = "Without API keys the server accepts only requests to localhost."
                return 403, error_body(403, message, code="not_local")
        if scope["path"] not in OPEN and self._in_flight >= self._config.max_in_flight:
            return 429, error_body(429, "Too many concurrent requests. Retry the request.", code="overloaded")
        given = {name.lower(): value for name, value in headers}
        if given.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            return 415, error_body(415, "Compressed request bodies are not supported.", code="unsupported")
        if scope["method"] == "POST":
            kind = given.get(b"content-type", b"").split(b";")[0].strip().lower()
            if kind != b"application/json":
                return 415, error_body(415, "The request body must be application/json.", code="unsupported")
        return None

    def _is_known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name.lower() == b"authorization"]
        if len(given) != 1:  # of two headers, two programs could read different ones
            return False
        scheme, _, key = given[0].decode("latin-1").partition(" ")
        assert self._keys is not None
        return scheme.lower() == "bearer" and bool(key.strip()) and self._keys.names(key.strip())

    async def _body(self, scope: Scope, receive: Receive) -> tuple[bytes, int]:
        """The whole body and 0, or an error's status; 499: the client has disconnected."""
        bound = self._config.max_body_bytes
        declared = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
        if any(not value.isdigit() or int(value) > bound for value in declared):
            return b"", 413
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return b"", 499
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > bound:
                        return b"", 413
                    if not message.get("more_body"):
                        return b"".join(parts), 0
        except TimeoutError:
            return b"", 408


class _Named:
    """`send` that adds the request id and `x-content-type-options` to every response."""

    def __init__(self, send: Send, request_id: str | None) -> None:
        self._send = send
        self._request_id = request_id
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        if message["type"] == "http.response.start":
            own = {b"x-content-type-options": b"nosniff"}
            if self._request_id:
                own[b"x-request-id"] = self._request_id.encode()
            kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in own]
            message = {**message, "headers": [*kept, *own.items()]}
        await self._send(message)


class _Replay:
    """`receive` that returns the body that was read, then waits for the client to disconnect."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _is_local(headers: list[tuple[bytes, bytes]]) -> bool:
    hosts = [value.decode("latin-1") for name, value in headers if name.lower() == b"host"]
    if len(hosts) != 1:
        return False
    name, colon, port = hosts[0].rpartition(":")
    host = name if colon and port.isdigit() else hosts[0]
    return host.lower() in LOOPBACK


async def _answer(send: Send | _Named, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status in (429, 503):
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
