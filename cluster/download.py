"""Downloads files over HTTP: atomically, resumed where a download was interrupted, with progress. Knows no data set."""

from __future__ import annotations

import fnmatch
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from cluster.errors import JobFailed
from cluster.progress import progress

HUB = "https://huggingface.co"
TRIES = 3
TIMEOUT_S = 30.0
RANGE_NOT_SATISFIABLE, PARTIAL = 416, 206


def download(url: str, place: Path, *, what: str) -> None:
    """Download a file to `place`, which appears complete or not at all.

    What an interrupted download left beside `place` is continued if the server says by its ETag that the file is the
    same.

    Args:
        url: http or https; the hub's address is replaced by HF_ENDPOINT, and the hub's token is sent to it alone.
        place: to write.
        what: the file's name in the progress.

    Raises:
        JobFailed: the server cannot be reached or refuses the file.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    _tried(url, lambda client, address: _get(client, address, part, what))
    part.replace(place)
    _tag(part).unlink(missing_ok=True)


def hub_files(at: str, pattern: str) -> list[str]:
    """The files of a data set on the hub that match a pattern, in order.

    Args:
        at: `https://huggingface.co/datasets/OWNER/NAME/resolve/REVISION`.
        pattern: with `*`, below `at`.

    Raises:
        JobFailed: the hub cannot be reached, or no file matches.
    """
    tree = at.replace("/datasets/", "/api/datasets/", 1).replace("/resolve/", "/tree/", 1)
    folder = pattern.rpartition("/")[0]
    found: list[str] = []

    def listed(client: Any, address: str | None) -> None:
        while address:
            answer = client.get(address)
            answer.raise_for_status()
            found.extend(entry["path"] for entry in answer.json() if entry["type"] == "file")
            address = answer.links.get("next", {}).get("url")

    _tried(f"{tree}/{folder}" if folder else tree, listed)
    safe = [file for file in found if not file.startswith("/") and ".." not in file.split("/")]
    if not (matching := sorted(set(fnmatch.filter(safe, pattern)))):
        raise JobFailed(f"{at} has no file {pattern}. Look at the publisher's page for its name.", code="missing_file")
    return matching


def _tried(url: str, work: Any) -> None:
    """Call `work(client, address)`, again after a failure on the way."""
    import httpx

    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    address = f"{endpoint}{url.removeprefix(HUB)}" if url.startswith(f"{HUB}/") else url
    headers = {"Accept-Encoding": "identity"}  # so that lengths and ranges are those of the file
    if address.startswith(f"{endpoint}/") and (token := _hub_token()):
        headers["Authorization"] = f"Bearer {token}"
    with httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=True, verify=_certificates()) as client:
        for attempt in range(1, TRIES + 1):
            try:
                work(client, address)
                return
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status < 500 or attempt == TRIES:
                    raise _refused(address, status) from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                if attempt == TRIES:
                    reason = (str(error) or type(error).__name__).splitlines()[0]
                    raise JobFailed(
                        f"{address} cannot be downloaded ({reason}). Run the command again where it can be reached; "
                        "a download that was interrupted is continued.",
                        code="unreachable",
                    ) from error
            time.sleep(attempt)


def _refused(address: str, status: int) -> JobFailed:
    if status in (401, 403):
        way_out = "Accept its terms on the publisher's page, and set HF_TOKEN to a token that may read it"
    elif status == 404:
        way_out = "It may have moved: look at the publisher's page, and give the files with --from"
    else:
        way_out = "Try again later, or give the files with --from"
    return JobFailed(f"{address} was refused with status {status}. {way_out}.", code="unreachable")


@cache
def _certificates() -> Any:
    """Loading them takes longer than a small file."""
    import httpx

    return httpx.create_ssl_context()


def _hub_token() -> str | None:
    from huggingface_hub import get_token

    token: str | None = get_token()
    return token


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _get(client: Any, address: str, part: Path, what: str) -> None:
    """Write the file to `part`, after what is in it already."""
    have = part.stat().st_size if part.exists() and _tag(part).exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": _tag(part).read_text()} if have else {}
    with client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == RANGE_NOT_SATISFIABLE:
            part.unlink()
            return _get(client, address, part, what)
        answer.raise_for_status()
        have = have if answer.status_code == PARTIAL else 0
        tag = answer.headers.get("ETag", "")
        _tag(part).unlink(missing_ok=True)
        with part.open("ab" if have else "wb") as file:
            if tag.startswith('"'):  # a weak tag does not say that the bytes are the same
                _tag(part).write_text(tag)
            size = have + int(answer.headers.get("Content-Length", 0))
            with progress(f"downloading {what} (MB)", _megabytes(size), _megabytes(have)) as bar:
                for block in answer.iter_bytes():
                    file.write(block)
                    bar.add(_megabytes(have + len(block)) - _megabytes(have))
                    have += len(block)
    return None


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)  # rounded up, so that a small file is one
