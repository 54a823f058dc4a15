"""`Client(url)`: asks the panel of a running `inverdict serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from cluster.errors import JobFailed, UserError
from judging.errors import InputError

TRY_AGAIN = (408, 429)  # refusals that are no fault of the request


class Client:
    """A client of a running server; one connection pool, usable from several threads.

    Example:
        >>> import inverdict
        >>> with inverdict.Client(url) as panel:  # url: of a running server, such as "http://127.0.0.1:8000"
        ...     panel.judge(task="qa", source="Why is the sky blue?", candidate="Air scatters blue light.")["score"]
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

        Raises:
            InputError: the URL or the key cannot be one.
        """
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            words = f"`url` must be the address of a server, such as http://127.0.0.1:8000, not {url!r}."
            raise InputError(words, code="invalid_value", key="url")
        if key is not None and not (isinstance(key, str) and key.isascii() and key.isprintable()):
            raise InputError("`key` must be an API key, in ASCII.", code="invalid_value", key="key")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        except httpx.InvalidURL as error:
            raise InputError(f"`url` is {url!r}, which is none: {error}.", code="invalid_value", key="url") from error

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
            InputError: the request cannot be sent: a text is none, or a value cannot be written as JSON.
            UserError: the server refuses the request; message, `code` and `key` are the server's.
            JobFailed: the server cannot be reached, is overloaded, fails, or is not `inverdict serve`.
        """
        texts = {"candidate": candidate, **fields}
        for name, text in {**texts, **({} if other is None else {"other": other})}.items():
            if not isinstance(text, str):
                words = f"`{name}` must be a text, not {type(text).__name__}."
                raise InputError(words, code="invalid_value", key=name)
        body = {
            "task": task,
            "rubric": rubric,
            "other": other,
            "aspects": [aspects] if isinstance(aspects, str) else aspects and list(aspects),
            "options": options,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return self._sent("/v1/judge", {**given, "fields": texts})

    def judge_batch(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rate several texts: bodies as of `POST /v1/judge`. An item that fails has an error instead of a judgement."""
        if not isinstance(items, list | tuple) or not all(isinstance(one, Mapping) for one in items):
            raise InputError(
                "`items` must be mappings, bodies as of POST /v1/judge.", code="invalid_value", key="items"
            )
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
            request = self._http.build_request("POST", path, json=body)
        except (TypeError, ValueError) as error:  # such as a NaN, a value of numpy, an unpaired surrogate
            raise InputError(f"The request cannot be written as JSON: {error}.", code="invalid_value") from error
        try:
            answer = self._http.send(request)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise JobFailed(
                f"{where} cannot be reached ({error}). Start `inverdict serve`.", code="unreachable"
            ) from error
        content = _content(answer)
        if answer.is_success and content is not None:
            return content
        told = (content or {}).get("error")
        told = told if isinstance(told, dict) else {}
        words, status = str(told.get("message") or answer.text[:300]), answer.status_code
        if answer.is_client_error and status not in TRY_AGAIN:
            code, key = str(told.get("code") or status), str(told.get("param") or "")
            raise UserError(f"{path}: {words}", code=code, key=key)
        if status in TRY_AGAIN or answer.is_server_error:
            code = str(told.get("code") or "server_error")
            raise JobFailed(f"{path}: the server answers with status {status}: {words}", code=code)
        raise JobFailed(
            f"{request.url} does not answer like `inverdict serve` (status {status}). Check the URL.",
            code="unknown_server",
        )


def _content(answer: httpx.Response) -> dict[str, Any] | None:
    """The object in the answer's body; None where it holds none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
