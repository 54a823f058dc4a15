"""Exceptions -> HTTP responses in OpenAI's form: what is wrong and where, by our own keys, never the client's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from judging.tasks import RECORD_TEXTS
from serve.api.errors import RETRY_AFTER_S, BadRequest, NoQuorum, Unavailable, error_body


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in {
        400: "Invalid request",
        401: "Missing or invalid API key",
        403: "A certificate is required, and none covers the request",
        413: "Request body too large",
        415: "Request body is not plain JSON",
        429: "Too many concurrent requests",
        503: "No quorum of judges, or a part of the service is not responding",
        504: "Timeout",
    }.items()
}


def add_errors(app: FastAPI) -> None:
    """Turn every exception of a route into a response."""

    async def answered(request: Request, error: Exception) -> JSONResponse:
        status, content = explained(error)
        return _with_headers(status, content)

    for kind in (
        *(RequestValidationError, ValidationError, HTTPException, BadRequest, NoQuorum, Unavailable),
        *(TimeoutError, RecursionError, Exception),
    ):
        app.add_exception_handler(kind, answered)


def explained(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for an exception; they hold nothing that the client sent."""
    if isinstance(error, RequestValidationError | ValidationError):
        return 400, _invalid(error)
    if isinstance(error, BadRequest):
        return error.status, error_body(error.status, str(error), param=error.key or None, code=error.code)
    if isinstance(error, NoQuorum):
        content = error_body(503, "Too few judges returned a score. Retry the request.", code="no_quorum")
        content["error"]["reasons"] = error.reasons
        return 503, content
    if isinstance(error, HTTPException):
        # FastAPI wraps what reading the body raised.
        if isinstance(error.__cause__, BadRequest | RecursionError):
            return explained(error.__cause__)
        if error.status_code == 400:
            return 400, error_body(400, "The request body is not valid JSON.", code="invalid_json")
        # Starlette's own words for 404 and 405 are harmless; ours are above.
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return error.status_code, error_body(error.status_code, str(error.detail), code=code)
    if isinstance(error, TimeoutError):
        return 504, error_body(504, "The request timed out.", code="timeout")
    if isinstance(error, RecursionError):
        return 400, error_body(400, "The request body is nested too deeply.", code="invalid_json")
    # Anything else failed behind the routes, where a retry may succeed.
    message = "A part of the service is not responding. Retry the request."
    return 503, error_body(503, message, code=type(error).__name__)


def _invalid(error: RequestValidationError | ValidationError) -> dict[str, Any]:
    """The first problem: where, by our own keys alone, and what, without the value."""
    first = error.errors()[0]
    known = _known_keys()
    path = [part for part in first["loc"] if part not in ("body", "header")]
    shown = [str(part) if isinstance(part, int) or part in known else "(a key)" for part in path]
    kind = first["type"]
    if kind == "json_invalid":
        return error_body(400, "The request body is not valid JSON.", code="invalid_json")
    if kind == "extra_forbidden":
        return error_body(400, "Unknown key in the request body.", param=_place(shown[:-1]), code="unknown_key")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return error_body(400, "`type` must be one of the supported ones.", param=_place(shown), code="unsupported")
    # A validator of ours raises an InputError with a code, and a key where it checks several; pydantic keeps it.
    ours = first.get("ctx", {}).get("error")
    code = getattr(ours, "code", "missing_key" if kind == "missing" else "invalid_value")
    own = str(getattr(ours, "key", ""))
    words = str(first["msg"]).removeprefix("Value error, ")
    return error_body(400, words, param=_place([*shown, *([own] if own else [])]), code=code)


def _place(path: Sequence[str]) -> str | None:
    return ".".join(path) or None


def _known_keys() -> frozenset[str]:
    from serve.api import openai_chat, openai_graders, schemas

    bodies = [
        one
        for module in (schemas, openai_chat, openai_graders)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    return frozenset({*RECORD_TEXTS, *(name for body in bodies for name in body.model_fields)})


def error_answer(status: int, message: str, *, code: str | None = None) -> JSONResponse:
    """An error response, for routes that return it themselves.

    Args:
        status: the HTTP status.
        message: our own words; they never repeat what the client sent.
        code: what is wrong, as a word that does not change with the message.
    """
    return _with_headers(status, error_body(status, message, code=code))


def _with_headers(status: int, content: Mapping[str, Any]) -> JSONResponse:
    headers = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return JSONResponse(dict(content), status_code=status, headers=headers)
