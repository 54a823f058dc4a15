"""Copy a run's outputs to an object store (`publish: s3://bucket/prefix`), with pyarrow's file systems.

The jobs themselves work on a file system that all machines mount; the store receives copies of new and changed files. A
folder's `manifest.json` is uploaded last, and removed first if a file below it changes, so that a manifest in the store
implies that all files it lists are there.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from cluster.errors import JobFailed, UserError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs", "file")
QUERY = ("region", "scheme", "endpoint_override")  # pyarrow's other options may contain keys
MANIFEST = "manifest.json"
COMPARED = (MANIFEST, "fingerprint.json")  # by content, which often changes without changing the length
LEFT_OUT = ("checkpoints",)  # only needed to resume training


class Published(NamedTuple):
    """What was copied."""

    num_files: int
    num_bytes: int


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


def check(run: Path, address: str) -> None:
    """Raises UserError if the store cannot be written, before the work instead of after it."""
    import pyarrow as pa

    store, base = _store(address)
    if urlsplit(address).scheme == "file":
        place, inside = Path(base).resolve(), run.resolve()
        if place.is_relative_to(inside) or inside.is_relative_to(place):
            raise UserError(
                f"`publish`: {shown(address)} and the run directory {run} must not contain each other.",
                code="conflict",
                key="publish",
            )
    try:
        store.create_dir(base, recursive=True)
        with store.open_output_stream(f"{base}/.inverdict") as file:
            file.write(b"")
        with suppress(OSError):  # a role may be allowed to write but not to delete
            store.delete_file(f"{base}/.inverdict")
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"`publish`: {shown(address)} cannot be written ({_short(error)}). Correct it, or remove the key.",
            code="store_unwritable",
            key="publish",
        ) from error


def publish(run: Path, address: str) -> Published:
    """Copy new and changed files. Raises JobFailed if the store rejects one; the run itself is not affected."""
    import pyarrow as pa
    from pyarrow.fs import LocalFileSystem, copy_files

    store, base = _store(address)
    local = {path.relative_to(run).as_posix(): path for path in _files(run)}
    try:
        known = _known(store, base)
        new = {name for name, path in local.items() if _is_new(path, known.get(name), store)}
        # Parts are named after their rows: rewritten for other rows, they would end up next to the old ones.
        gone = {name for name in known if _is_part(name) and name not in local and (run / name).parent.is_dir()}
        broken = {name for name in map(str, _manifests_above(new | gone)) if name in known}
        for name in [*sorted(broken), *sorted(gone)]:
            store.delete_file(known[name].path)
        new |= broken & local.keys()
        for name in sorted(new, key=lambda name: (PurePosixPath(name).name == MANIFEST, name)):
            place = f"{base}/{name}"
            store.create_dir(place.rpartition("/")[0], recursive=True)
            source = str(local[name].absolute())
            copy_files(source, place, source_filesystem=LocalFileSystem(), destination_filesystem=store)
    except (OSError, pa.ArrowException) as error:
        raise JobFailed(
            f"publish: {shown(address)} could not be written ({_short(error)}). The run is complete in {run}; the same "
            "command publishes it again.",
            code="store_unwritable",
        ) from error
    return Published(len(new), sum(local[name].stat().st_size for name in new))


def _store(address: str) -> tuple[FileSystem, str]:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        store, base = FileSystem.from_uri(address)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"`publish`: {shown(address)} cannot be opened by pyarrow. Correct it, or remove the key.",
            code="store_unwritable",
            key="publish",
        ) from error
    return store, base


def _files(run: Path) -> list[Path]:
    """The run's files without hidden and temporary ones."""
    return [path for path in run.rglob("*") if path.is_file() and not _is_left_out(path.relative_to(run))]


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part in LEFT_OUT for part in path.parts)


def _is_part(name: str) -> bool:
    return PurePosixPath(name).match("part-*.parquet")


def _manifests_above(names: set[str]) -> set[PurePosixPath]:
    return {folder / MANIFEST for name in names for folder in PurePosixPath(name).parents}


def _known(store: FileSystem, base: str) -> dict[str, Any]:
    from pyarrow.fs import FileSelector

    there = store.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
    return {one.path.removeprefix(base).lstrip("/"): one for one in there if one.is_file}


def _is_new(path: Path, there: Any, store: Any) -> bool:
    if there is None or there.size != path.stat().st_size:
        return True
    if path.name in COMPARED:
        with store.open_input_stream(there.path) as file:
            return bool(file.read() != path.read_bytes())
    # S3 has a resolution of seconds.
    step = 1 if there.mtime_ns % 1_000_000_000 else 1_000_000_000
    return bool(there.mtime_ns < path.stat().st_mtime_ns // step * step)


def _short(error: BaseException) -> str:
    """The beginning of a store's message."""
    return " ".join(str(error).split())[:200]
