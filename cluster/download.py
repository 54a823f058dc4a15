"""Downloads files over HTTP: atomically, up to a size, resumed where interrupted, with progress. Knows no data set."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster.errors import JobFailed, UserError
from cluster.progress import progress

HUB = "https://huggingface.co"
GITHUB_FILES, GITHUB_API = "https://raw.githubusercontent.com", "https://api.github.com"
TRIES = 3
TIMEOUT_S = 30.0
RANGE_NOT_SATISFIABLE, PARTIAL = 416, 206
MAX_ANSWER_BYTES = 16_000_000  # of a list of files or a commit
COMMIT = re.compile("[0-9a-f]{40}")


def download(url: str, place: Path, *, what: str, max_bytes: int) -> None:
    """Download a file to `place`, which appears complete or not at all.

    What an interrupted download left beside `place` is continued if the server says by its ETag that the file is the
    same.

    Args:
        url: http or https; the hub's address is replaced by HF_ENDPOINT, and the hub's token is sent to it alone.
        place: to write.
        what: the file's name in the progress.
        max_bytes: a larger file is refused, and what has been written of it is removed.

    Raises:
        JobFailed: the server cannot be reached or refuses the file, or the file is too large (code `too_large`).
        UserError: the file does not fit on the disk.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    try:
        _tried(url, lambda client, address: _get(client, address, part, what, max_bytes))
    except JobFailed as error:
        if error.code == "too_large":
            part.unlink(missing_ok=True)
            _tag(part).unlink(missing_ok=True)
        raise
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
            entries, address = _json(client, address)
            found.extend(entry["path"] for entry in entries if entry["type"] == "file")

    _tried(f"{tree}/{folder}" if folder else tree, listed)
    safe = [file for file in found if not file.startswith("/") and ".." not in file.split("/")]
    if not (matching := sorted(set(fnmatch.filter(safe, pattern)))):
        raise JobFailed(f"{at} has no file {pattern}. Look at the publisher's page for its name.", code="missing_file")
    return matching


def commit_of(at: str, revision: str) -> str | None:
    """The commit that a branch or tag is at now; None: the host does not tell.

    Args:
        at: an address below `HUB` or `GITHUB_FILES`, with `{revision}` in place of the revision.
        revision: a branch or tag; a commit is returned as it is.

    Raises:
        JobFailed: the hub cannot be reached or refuses to answer.
    """
    if COMMIT.fullmatch(revision):
        return revision
    if at.startswith(f"{HUB}/"):
        repository = at.replace("/datasets/", "/api/datasets/", 1).partition("/resolve/")[0]
        return _commit(f"{repository}/revision/{quote(revision, safe='')}")
    if at.startswith(f"{GITHUB_FILES}/"):
        owner, name = at.removeprefix(f"{GITHUB_FILES}/").split("/")[:2]
        try:  # another host than that of the files, with a limit of requests an hour
            return _commit(f"{GITHUB_API}/repos/{owner}/{name}/commits/{quote(revision, safe='')}?per_page=1", tries=1)
        except JobFailed:
            return None
    return None


def _commit(url: str, tries: int | None = None) -> str | None:
    answers: list[Any] = []
    _tried(url, lambda client, address: answers.append(_json(client, address)[0]), tries)
    found = answers[-1].get("sha") if isinstance(answers[-1], dict) else None
    return found if isinstance(found, str) and COMMIT.fullmatch(found) else None


def _json(client: Any, address: str) -> tuple[Any, str | None]:
    """A host's answer, and the address of the next page of it."""
    with client.stream("GET", address) as answer:
        answer.raise_for_status()
        body = bytearray()
        for block in answer.iter_bytes():
            body += block
            _check_size(len(body), MAX_ANSWER_BYTES, address)
        next_page = answer.links.get("next", {}).get("url")
    try:
        return json.loads(body), next_page
    except ValueError as error:
        text = f"{address} did not answer in JSON. Check whether a proxy answers in its place."
        raise JobFailed(text, code="unreachable") from error


def _tried(url: str, work: Any, tries: int | None = None) -> None:
    """Call `work(client, address)`, again after a failure on the way; `tries`: None: `TRIES`."""
    import httpx

    tries = tries or TRIES
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    address = f"{endpoint}{url.removeprefix(HUB)}" if url.startswith(f"{HUB}/") else url
    headers = {"Accept-Encoding": "identity"}  # so that lengths and ranges are those of the file
    if address.startswith(f"{endpoint}/") and (token := _hub_token()):
        headers["Authorization"] = f"Bearer {token}"
    with httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=True, verify=_certificates()) as client:
        for attempt in range(1, tries + 1):
            try:
                work(client, address)
                return
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status < 500 or attempt == tries:
                    raise _refused(address, status) from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                if attempt == tries:
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


def _get(client: Any, address: str, part: Path, what: str, max_bytes: int) -> None:
    """Write the file to `part`, after what is in it already."""
    known = _tag(part).read_text() if part.exists() and _tag(part).exists() else ""
    have = part.stat().st_size if known else 0
    headers = {"Range": f"bytes={have}-", "If-Range": known} if have else {}
    with client.stream("GET", address, headers=headers) as answer:
        tag = answer.headers.get("ETag", "")
        is_rest = answer.status_code == PARTIAL and tag == known
        if have and not is_rest and answer.status_code in (PARTIAL, RANGE_NOT_SATISFIABLE):  # of another file
            part.unlink()
            return _get(client, address, part, what, max_bytes)
        answer.raise_for_status()
        have = have if is_rest else 0
        length = int(answer.headers.get("Content-Length", 0))
        _check_size(have + length, max_bytes, address)
        _check_space(part.parent, length, what)
        _tag(part).unlink(missing_ok=True)
        with part.open("ab" if have else "wb") as file:
            if tag.startswith('"'):  # a weak tag does not say that the bytes are the same
                _tag(part).write_text(tag)
            with progress(f"downloading {what} (MB)", _megabytes(have + length), _megabytes(have)) as bar:
                for block in answer.iter_bytes():
                    _check_size(have + len(block), max_bytes, address)
                    file.write(block)
                    bar.add(_megabytes(have + len(block)) - _megabytes(have))
                    have += len(block)
    return None


def _check_size(num_bytes: int, most: int, address: str) -> None:
    if num_bytes > most:
        raise JobFailed(
            f"{address} is larger than expected (more than {most:,} bytes). Look at the publisher's page, and give "
            "the files with --from.",
            code="too_large",
        )


def _check_space(folder: Path, num_bytes: int, what: str) -> None:
    if num_bytes > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{what} needs {_megabytes(num_bytes)} MB in {folder}, where {free // 1_000_000} MB are free. Free space "
            "there, or set INVERDICT_CACHE to another folder.",
            code="store_unwritable",
        )


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)  # rounded up, so that a small file is one
