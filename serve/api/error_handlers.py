"""Errors as HTTP answers in OpenAI's form: what is wrong and where, by our own keys, never the client's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from judging.tasks import RECORD_TEXTS
from serve.api.errors import RETRY_AFTER_S, BadRequest, NoQuorum, NotCertified, Unavailable, error_body


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
        400: "the body does not fit",
        401: "no valid API key",
        403: "no certificate counts for it, and one is required",
        413: "too long",
        415: "no plain JSON",
        429: "too much at once",
        503: "no quorum, or a part does not answer",
        504: "not in time",
    }.items()
}


def add_errors(app: FastAPI) -> None:
    """Every exception of a route becomes an answer."""

    async def answered(request: Request, error: Exception) -> JSONResponse:
        status, content = explained(error)
        return _with_headers(status, content)

    for kind in (
        *(RequestValidationError, ValidationError, HTTPException, BadRequest, NotCertified, NoQuorum, Unavailable),
        *(TimeoutError, RecursionError, Exception),
    ):
        app.add_exception_handler(kind, answered)


def explained(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for an exception; nothing that the client sent stands in it."""
    if isinstance(error, RequestValidationError | ValidationError):
        return 400, _invalid(error)
    if isinstance(error, BadRequest):
        return 400, error_body(400, str(error), param=error.param or None)
    if isinstance(error, NotCertified):
        return 403, error_body(403, str(error), param=error.param, code="not_certified")
    if isinstance(error, NoQuorum):
        content = error_body(503, "too few judges scored: try again", code="no_quorum")
        content["error"]["reasons"] = error.reasons
        return 503, content
    if isinstance(error, HTTPException):
        # Starlette's own words for 404 and 405 are harmless; ours are above.
        return error.status_code, error_body(error.status_code, str(error.detail))
    if isinstance(error, TimeoutError):
        return 504, error_body(504, "no answer in time")
    if isinstance(error, RecursionError):
        return 400, error_body(400, "the body is nested too deeply")
    # What else goes wrong here goes wrong behind the routes: another try may find it mended.
    return 503, error_body(503, "a part of the service does not answer: try again", code=type(error).__name__)


def _invalid(error: RequestValidationError | ValidationError) -> dict[str, Any]:
    """The first thing wrong: where, by our own keys alone, and what, without the value."""
    first = error.errors()[0]
    known = _known_keys()
    path = [part for part in first["loc"] if part not in ("body", "header")]
    place = ".".join(str(part) if isinstance(part, int) or part in known else "(a key)" for part in path)
    if first["type"] == "json_invalid":
        return error_body(400, "the body is no JSON")
    if first["type"] == "extra_forbidden":
        return error_body(400, "there is a key that is not known", param=".".join(place.split(".")[:-1]) or None)
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return error_body(400, "the type is none of those that are supported", param=place or None)
    words = str(first["msg"]).removeprefix("Value error, ")
    return error_body(400, words, param=place or None)


def _known_keys() -> frozenset[str]:
    from serve.api import openai_chat as chat
    from serve.api import openai_graders as graders
    from serve.api import schemas as wire

    bodies = [
        one
        for module in (wire, chat, graders)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    return frozenset({*RECORD_TEXTS, *(name for body in bodies for name in body.model_fields)})


def error_answer(status: int, message: str, code: str | None = None) -> JSONResponse:
    """An answer with an error, for routes that find it themselves."""
    return _with_headers(status, error_body(status, message, code=code))


def _with_headers(status: int, content: Mapping[str, Any]) -> JSONResponse:
    headers = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return JSONResponse(dict(content), status_code=status, headers=headers)
