"""The errors of the HTTP interface, and their body in OpenAI's form. Knows no FastAPI."""

from __future__ import annotations

from typing import Any

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
    """An error in OpenAI's form. `message` is ours alone: it never repeats what the client sent."""
    kind = TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class BadRequest(ValueError):
    """The client's body does not fit what is served; `param`: the key at fault. Never holds the client's text."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class Unavailable(RuntimeError):
    """A part of the service does not answer now; another try may help."""


class NotCertified(RuntimeError):
    """No certificate counts for what is asked, and the configuration requires one; `param`: the key at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class NoQuorum(RuntimeError):
    """Too few judges scored, for reasons that another try may mend."""

    def __init__(self, told: Judgement) -> None:
        super().__init__("too few judges scored")
        self.reasons = {
            f"{vote.judge}/{result.aspect}": vote.unscored
            for result in told.results
            for vote in result.votes
            if vote.unscored
        }
