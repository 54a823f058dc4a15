"""The errors of the HTTP interface, and their body in OpenAI's form. Knows no FastAPI."""

from __future__ import annotations

from typing import Any

from judging.errors import InputError
from serve.api.schemas import Judgement

RETRY_AFTER_S = 1


TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
    504: "timeout_error",
}


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form.

    Args:
        status: the HTTP status, which decides the error's `type`.
        message: our own words; they never repeat what the client sent.
        param: the key of the request that is at fault.
        code: what is wrong, as a word that does not change with the message.
    """
    kind = TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class BadRequest(InputError):
    """The client's request does not fit what is served. `key`: its key at fault. Never holds the client's text."""

    status = 400


class NotFound(BadRequest):
    """The path names something that is not served."""

    status = 404


class NotCertified(BadRequest):
    """No valid certificate covers the request, and the configuration requires one."""

    status = 403


class Unavailable(RuntimeError):
    """A part of the service is not responding; a retry may succeed."""


class NoQuorum(RuntimeError):
    """Too few judges returned a score, for reasons that a retry may resolve."""

    def __init__(self, answer: Judgement) -> None:
        super().__init__("too few judges returned a score")
        self.reasons = {
            f"{vote.judge}/{result.aspect}": vote.unscored
            for result in answer.results
            for vote in result.votes
            if vote.unscored
        }
