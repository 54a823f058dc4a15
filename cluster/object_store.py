"""Addresses of object stores (`s3://`, `gs://`, `file://`), opened with pyarrow's file systems.

Credentials come from the environment or the machine's role, never from the address.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from cluster.errors import JobFailed, UserError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs", "file")
QUERY = ("region", "scheme", "endpoint_override")  # pyarrow's other options may contain keys


CHUNK_BYTES = 8 * 2**20


class Place(NamedTuple):
    """An opened address: the store, and the path of the bucket and prefix in it."""

    store: FileSystem
    base: str


def is_address(text: str) -> bool:
    """Whether a text is meant as an address of a store, valid or not."""
    return text.startswith(tuple(f"{scheme}:/" for scheme in SCHEMES))


def address_problem(address: str) -> str | None:
    """Why an address is invalid; None if it is valid syntactically. Never repeats what may be a key."""
    if "@" in address or "#" in address:
        return (
            "the address contains @ or #, which may belong to a key; pass keys in the environment or by the node's role"
        )
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        return f"the address must start with one of {known}, not {parts.scheme or 'a plain path'}"
    if not parts.netloc and parts.scheme != "file":
        return "the address has no bucket"
    if "//" in parts.path:
        return f"{shown(address)} has an empty part between two slashes"
    if wrong := [name for name in parse_qs(parts.query, keep_blank_values=True) if name not in QUERY]:
        return f"unknown option {wrong[0]!r} in the address; it must be one of {', '.join(QUERY)}"
    return None


def shown(address: str) -> str:
    """The address for messages, without its options."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def below(address: str, name: str) -> str:
    """The address of `name` below another address, with the same options."""
    path, mark, query = address.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def opened(address: str, key: str) -> Place:
    """Open an address; nothing is read yet.

    Args:
        address: a valid one.
        key: the configuration's key that has it.

    Raises:
        UserError: pyarrow cannot open it.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return Place(*FileSystem.from_uri(address))
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"`{key}`: {shown(address)} cannot be opened by pyarrow. Correct it, or remove the key.",
            code="store_unwritable",
            key=key,
        ) from error


PROBE = ".inverdict-writable"


def check_writable(place: Place, address: str, key: str) -> None:
    """Raises UserError if the store cannot be written, before the work instead of after it.

    Args:
        place: the opened address.
        address: for the message.
        key: the configuration's key that has it.
    """
    import pyarrow as pa

    try:
        place.store.create_dir(place.base, recursive=True)
        with place.store.open_output_stream(f"{place.base}/{PROBE}") as file:
            file.write(b"")
        with suppress(OSError):  # a role may be allowed to write but not to delete
            place.store.delete_file(f"{place.base}/{PROBE}")
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"`{key}`: {shown(address)} cannot be written ({short(error)}). Correct it, or remove the key.",
            code="store_unwritable",
            key=key,
        ) from error


def listed(place: Place) -> dict[str, Any]:
    """The files below a place: path relative to it -> pyarrow's `FileInfo`; empty where there is nothing."""
    from pyarrow.fs import FileSelector

    found = place.store.get_file_info(FileSelector(place.base, recursive=True, allow_not_found=True))
    return {one.path.removeprefix(place.base).lstrip("/"): one for one in found if one.is_file}


def fetched(place: Place, name: str, file: Path) -> None:
    """Write the content of `name` to a file, which appears as a whole. Raises FileNotFoundError where it is gone."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with place.store.open_input_stream(f"{place.base}/{name}") as source, beside.open("wb") as out:
            shutil.copyfileobj(source, out, CHUNK_BYTES)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def sent(place: Place, name: str, file: Path) -> None:
    """Write a file to `name`. It appears as a whole: object stores do that themselves, in a folder it is renamed."""
    from pyarrow.fs import LocalFileSystem

    target = f"{place.base}/{name}"
    folder, _, last = target.rpartition("/")
    is_folder = isinstance(place.store, LocalFileSystem)
    to = f"{folder}/.{last}.{os.getpid()}.{uuid.uuid4().hex[:8]}" if is_folder else target
    if is_folder:
        place.store.create_dir(folder, recursive=True)
    # Not `copy_files`, which ignores that a store rejects the last part of a file.
    with file.open("rb") as source, place.store.open_output_stream(to) as out:
        shutil.copyfileobj(source, out, CHUNK_BYTES)
    if is_folder:
        place.store.move(to, target)


def short(error: BaseException) -> str:
    """The beginning of a store's message."""
    return " ".join(str(error).split())[:200]


def unreadable(address: str, error: BaseException, way_out: str) -> JobFailed:
    """The error where a store does not answer in the middle of the work."""
    return JobFailed(f"{shown(address)} cannot be read ({short(error)}). {way_out}", code="store_unreadable")
