"""Copy a run's outputs to an object store (`publish: s3://bucket/prefix`), with pyarrow's file systems.

The store receives copies of new and changed files of the run directory. A folder's `manifest.json` is uploaded last,
and removed first if a file below it changes, so that a manifest in the store implies that all files it lists are there.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cluster.errors import JobFailed, UserError
from cluster.object_store import check_writable, listed, opened, sent, short, shown

MANIFEST = "manifest.json"
COMPARED = (MANIFEST, "fingerprint.json")  # by content, which often changes without changing the length
LEFT_OUT = ("checkpoints",)  # only needed to resume training


class Published(NamedTuple):
    """What was copied."""

    num_files: int
    num_bytes: int


def check(run: Path, address: str) -> None:
    """Raises UserError if the store cannot be written, before the work instead of after it."""
    target = opened(address, "publish")
    if urlsplit(address).scheme == "file":
        place, inside = Path(target.base).resolve(), run.resolve()
        if place.is_relative_to(inside) or inside.is_relative_to(place):
            raise UserError(
                f"`publish`: {shown(address)} and the run directory {run} must not contain each other.",
                code="conflict",
                key="publish",
            )
    check_writable(target, address, "publish")


def publish(run: Path, address: str) -> Published:
    """Copy new and changed files. Raises JobFailed if the store rejects one; the run itself is not affected."""
    import pyarrow as pa

    place = opened(address, "publish")
    local = files_of(run)
    try:
        known = listed(place)
        new = {name for name, path in local.items() if _is_new(path, known.get(name), place.store)}
        # Parts are named after their rows: rewritten for other rows, they would end up next to the old ones.
        gone = {name for name in known if is_part(name) and name not in local and (run / name).parent.is_dir()}
        broken = {name for name in manifests_above(new | gone) if name in known}
        for name in [*sorted(broken), *sorted(gone)]:
            place.store.delete_file(known[name].path)
        new |= broken & local.keys()
        for name in sorted(new, key=lambda name: (PurePosixPath(name).name == MANIFEST, name)):
            sent(place, name, local[name])
    except (OSError, pa.ArrowException) as error:
        raise JobFailed(
            f"publish: {shown(address)} could not be written ({short(error)}). The run is complete in {run}; the same "
            "command publishes it again.",
            code="store_unwritable",
        ) from error
    return Published(len(new), sum(local[name].stat().st_size for name in new))


def files_of(run: Path) -> dict[str, Path]:
    """The run's files by their path in it, without hidden and temporary ones and without checkpoints."""
    found = {path.relative_to(run): path for path in run.rglob("*") if path.is_file()}
    return {name.as_posix(): path for name, path in found.items() if not _is_left_out(name)}


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part in LEFT_OUT for part in path.parts)


def is_part(name: str) -> bool:
    """Whether a file is one of many that hold a job's rows."""
    return PurePosixPath(name).match("part-*.parquet")


def manifests_above(names: set[str]) -> set[str]:
    """The manifests that a change of these files invalidates, in every folder above each."""
    return {str(folder / MANIFEST) for name in names for folder in PurePosixPath(name).parents}


def _is_new(path: Path, there: Any, store: Any) -> bool:
    if there is None or there.size != path.stat().st_size:
        return True
    if path.name in COMPARED:
        with store.open_input_stream(there.path) as file:
            return bool(file.read() != path.read_bytes())
    # S3 has a resolution of seconds.
    step = 1 if there.mtime_ns % 1_000_000_000 else 1_000_000_000
    return bool(there.mtime_ns < path.stat().st_mtime_ns // step * step)
