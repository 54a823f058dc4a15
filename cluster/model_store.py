"""A model folder in an object store (`source: s3://bucket/models/qwen`): downloaded into the cache of each machine.

A download is identified by the listing: name, size and time of change of every file, which is all that pyarrow tells of
an object. A folder in the cache is complete or absent: written beside it under a lock, checked, renamed.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from cluster.artifacts import whole_folder
from cluster.embedded import cache_root, locked
from cluster.errors import UserError
from cluster.model_files import LEFT, TAKEN, WEIGHTS, missing_pieces, refuse_pickles
from cluster.object_store import Place, address_problem, listed, opened, short, shown


class Listing(NamedTuple):
    """The files of a model in a store, name -> size in bytes, and the identity of their content."""

    place: Place
    sizes: dict[str, int]
    fingerprint: str


def listing(address: str) -> Listing:
    """What a store has of a model. Raises UserError if it cannot be read, or has pickled weights."""
    import pyarrow as pa

    if problem := address_problem(address):
        raise UserError(f"Model source: {problem}.", code="invalid_value")
    place = opened(address, "models")
    try:
        found = listed(place)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"Model {shown(address)} cannot be read ({short(error)}). Correct `source`, or pass the store's keys in "
            "the environment.",
            code="unknown_model",
        ) from error
    refuse_pickles(f"Model {shown(address)}", list(found))
    files = {name: one for name, one in sorted(found.items()) if _is_taken(name)}
    if not files:
        raise UserError(f"Model {shown(address)} has no files. Correct `source`.", code="missing_file")
    content = [(name, one.size, one.mtime_ns) for name, one in files.items()]
    digest = hashlib.sha256(json.dumps([shown(address), content]).encode()).hexdigest()
    return Listing(place, {name: one.size for name, one in files.items()}, digest)


def _is_taken(name: str) -> bool:
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return not is_hidden and _matches(name, TAKEN) and not _matches(name, LEFT)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def folder(
    address: str, wanted: str | None = None, *, weights: bool = True, cache_dir: str | Path | None = None
) -> Path:
    """The model's folder in the cache of this machine, downloaded first where it is missing.

    Args:
        address: of the model's folder in the store.
        wanted: the fingerprint that it must have; None: what is there now.
        weights: False: only what tokenising and planning read.
        cache_dir: see `cache_root`.

    Raises:
        UserError: the store cannot be read, the model has changed, or it cannot be loaded.
    """
    root = cache_root(cache_dir) / "models" / "stores"
    if wanted and (done := _there(root, wanted, weights)):
        return done
    now = listing(address)
    if wanted not in (None, now.fingerprint):
        raise UserError(
            f"Model {shown(address)} has changed in the store since the run began. Put the earlier files back, or "
            "choose another `run`.",
            code="other_configuration",
        )
    if done := _there(root, now.fingerprint, weights):
        return done
    target = root / _name(now.fingerprint, weights)
    with locked(target):
        if not target.exists():
            _download(now, address, target, weights)
    return target


def _name(fingerprint: str, weights: bool) -> str:
    return fingerprint[:32] if weights else f"{fingerprint[:32]}-without-weights"


def found_folder(fingerprint: str) -> Path | None:
    """The model of that listing, if this machine has it."""
    return _there(cache_root() / "models" / "stores", fingerprint, True)


def _there(root: Path, fingerprint: str, weights: bool) -> Path | None:
    """The finished folder; a whole model also tokenises."""
    names = [_name(fingerprint, True), *([] if weights else [_name(fingerprint, False)])]
    return next((root / name for name in names if (root / name).is_dir()), None)


def _download(now: Listing, address: str, target: Path, weights: bool) -> None:
    import pyarrow as pa
    from pyarrow.fs import LocalFileSystem, copy_files

    for stale in target.parent.glob(f".{target.name}.[0-9]*"):  # of killed processes: the caller holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    with whole_folder(target) as made:
        for name, size in now.sizes.items():
            if not weights and fnmatch.fnmatch(name, WEIGHTS):
                continue
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                copy_files(
                    f"{now.place.base}/{name}",
                    str(file),
                    source_filesystem=now.place.store,
                    destination_filesystem=LocalFileSystem(),
                )
            except (OSError, pa.ArrowException) as error:
                raise UserError(
                    f"Model {shown(address)}: {name} cannot be downloaded ({short(error)}). Run the command again.",
                    code="unknown_model",
                ) from error
            if file.stat().st_size != size:
                raise UserError(
                    f"Model {shown(address)}: {name} has {file.stat().st_size} bytes instead of {size}: it has changed "
                    "during the download. Run the command again.",
                    code="damaged_artifact",
                )
        if missing := missing_pieces(made, weights=weights):
            raise UserError(
                f"Model {shown(address)} lacks {'; '.join(missing)}. Complete it, or choose another model.",
                code="missing_file",
            )
