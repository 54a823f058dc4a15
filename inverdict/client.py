"""`Client(url)`: asks the panel of a running `inverdict serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from cluster.errors import JobFailed, UserError


class Client:
    """A client of a running server; one connection pool, usable from several threads.

    Example:
        >>> import inverdict
        >>> panel = inverdict.Client("http://127.0.0.1:8000")
        >>> panel.judge(task="qa", source="Why is the sky blue?", candidate="Air scatters.")["score"]  # doctest: +SKIP
        2.94
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout_s: float = 120, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Open a client.

        Args:
            url: of the server, such as `http://127.0.0.1:8000`.
            key: API key, where the server requires one (`inverdict keys new`).
            timeout_s: of a request, in seconds.
            transport: of httpx, for tests.
        """
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)

    def judge(
        self,
        *,
        candidate: str,
        task: str | None = None,
        rubric: str | Mapping[str, Any] | None = None,
        other: str | None = None,
        aspects: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **fields: str,
    ) -> dict[str, Any]:
        """Rate one text, or compare two in both orders.

        Args:
            candidate: the text.
            task: one that the server knows; or give a rubric.
            rubric: criteria of your own.
            other: a second text, to be compared with the candidate.
            aspects: default: the task's first.
            options: see docs/serving.md.
            **fields: the task's further texts, such as `source`.

        Returns:
            The answer of `POST /v1/judge`: `score`, `verdict`, `results` with the judges' votes.

        Raises:
            UserError: the server refuses the request; the message is the server's.
            JobFailed: the server cannot be reached, or fails.
        """
        body = {
            "task": task,
            "rubric": rubric,
            "other": other,
            "aspects": [aspects] if isinstance(aspects, str) else aspects and list(aspects),
            "options": options,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return self._sent("/v1/judge", {**given, "fields": {"candidate": candidate, **fields}})

    def judge_batch(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rate several texts: bodies as of `POST /v1/judge`. An item that fails has an error instead of a judgement."""
        return self._sent("/v1/judge/batch", {"items": [dict(one) for one in items]})

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _sent(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise JobFailed(
                f"{where} cannot be reached ({error}). Start `inverdict serve`.", code="unreachable"
            ) from error
        if answer.is_success:
            return dict(answer.json())
        words = _message(answer)
        if answer.is_client_error:
            raise UserError(f"{path}: {words}", code=str(answer.status_code))
        raise JobFailed(f"{path}: the server failed with status {answer.status_code}: {words}", code="server_error")


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
