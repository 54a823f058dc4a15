"""What a run has finished -> an object store (`publish: s3://bucket/prefix`), through pyarrow's file systems.

The jobs themselves work on a file system that all machines mount; the store gets copies: every file that is new or has
changed, each folder's `manifest.json` last, so that who finds one finds all that it speaks of.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from cluster.errors import JobFailed, UserError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs", "file")
LAST = ("manifest.json",)
LEFT_OUT = ("checkpoints",)  # what only a resumed training reads


class Published(NamedTuple):
    num_files: int
    num_bytes: int


def address_problem(address: str) -> str | None:
    """Why an address cannot be a store; None: it can, as far as its words tell."""
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        return f"{address!r} names no store: {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    if parts.username or parts.password:
        return f"the {parts.scheme} address holds a key: give keys by the environment or the machine's role"
    if not parts.netloc and parts.scheme != "file":
        return f"{address!r} names no bucket"
    return None


def check(address: str) -> None:
    """Raises UserError where the store cannot be written: before the work, not after it."""
    store, base = _store(address)
    try:
        store.create_dir(base, recursive=True)
    except OSError as error:
        raise UserError(
            f"publish: {address} cannot be written ({_short(error)}): correct it or leave it out"
        ) from error


def publish(run: Path, address: str) -> Published:
    """Copy what is new. Raises JobFailed where the store refuses; what the run made is safe then."""
    from pyarrow.fs import LocalFileSystem, copy_files

    store, base = _store(address)
    try:
        known = _known(store, base)
        files = [path for path in _files(run) if _is_new(path, known.get(path.relative_to(run).as_posix()))]
        for path in files:
            place = f"{base}/{path.relative_to(run).as_posix()}"
            store.create_dir(place.rpartition("/")[0], recursive=True)
            copy_files(str(path.absolute()), place, source_filesystem=LocalFileSystem(), destination_filesystem=store)
    except OSError as error:
        raise JobFailed(
            f"publish: {address} could not be written ({_short(error)}): the run is whole in {run}, and the same "
            "command publishes it again"
        ) from error
    return Published(len(files), sum(path.stat().st_size for path in files))


def _store(address: str) -> tuple[FileSystem, str]:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        store, base = FileSystem.from_uri(address)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"publish: {address} cannot be opened ({_short(error)}): correct it or leave it out") from error
    return store, base


def _files(run: Path) -> list[Path]:
    """Manifests last; nothing hidden, nothing half-written."""
    found = [path for path in run.rglob("*") if path.is_file() and not _is_left_out(path.relative_to(run))]
    return sorted(found, key=lambda path: (path.name in LAST, path))


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part in LEFT_OUT for part in path.parts)


def _known(store: FileSystem, base: str) -> dict[str, Any]:
    from pyarrow.fs import FileSelector

    there = store.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
    return {one.path.removeprefix(base).lstrip("/"): one for one in there if one.is_file}


def _is_new(path: Path, there: Any) -> bool:
    if there is None or there.size != path.stat().st_size:
        return True
    # S3 tells whole seconds.
    step = 1 if there.mtime_ns % 1_000_000_000 else 1_000_000_000
    return bool(there.mtime_ns < path.stat().st_mtime_ns // step * step)


def _short(error: BaseException) -> str:
    """The first sentence of what a store says, without its request ids."""
    return " ".join(str(error).split())[:200]
