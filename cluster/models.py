"""Resolve a model's source to a local folder that transformers and vLLM load without a network, on every machine.

Sources are `embedded:NAME` (weights from a Python package), a local folder, a hub id `org/name`, and a folder in an
object store; the result is a checked folder and the fingerprint of its content. The driver passes a model on as a
`reference`, and each machine gets its own folder of it with `local_folder`.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cluster import model_hub, model_store
from cluster.artifacts import read_json, write_text
from cluster.embedded import MANIFEST, cache_root, damage, fetch, model_place, sha256
from cluster.embedded_models import EMBEDDED
from cluster.errors import UserError
from cluster.model_files import check_local, files_of
from cluster.object_store import is_address
from cluster.run_store import flushed

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PINS = "models.json"  # in the run folder: hub id, or hub id @ branch or tag -> commit


@dataclass(frozen=True)
class ModelFolder:
    """A model that is ready to load: `path` is absolute, `fingerprint` changes with any weight or setting.

    `reference`: what `local_folder` turns into a folder of another machine.
    """

    name: str
    path: Path
    fingerprint: str
    kind: Literal["embedded", "local", "hub", "store"]
    reference: str


class _Job(NamedTuple):
    """What `looked_up_once` keeps: models by source, revision and whether with weights; and the run's commits."""

    found: dict[tuple[str, str | None, bool], ModelFolder]
    pins: dict[str, str]
    file: Path | None


_job: _Job | None = None


@contextlib.contextmanager
def looked_up_once(run: Path | None = None) -> Iterator[None]:
    """Within this context each model is resolved once: a job sees one consistent state of the weights.

    Args:
        run: the run folder, which keeps the commit of each hub id: all jobs of the run use the same, also if a branch
            moves on. None: that of the surrounding context, or none.
    """
    global _job
    before = _job
    if before is None or run is not None:
        file = run / PINS if run else None
        _job = _Job(before.found if before else {}, _pins_in(file) if file else {}, file)
    try:
        yield
    finally:
        _job = before


def resolve(
    source: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    verify: bool = False,
    weights: bool = True,
) -> ModelFolder:
    """Find `source` on this machine, fetching it first if necessary.

    Args:
        source: `embedded:NAME`, a folder (starts with `.`, `/` or `~`, or exists), an address of an object store, or a
            hub id `org/name`.
        revision: branch, tag or commit of a hub id.
        cache_dir: see `cache_root`; the hub keeps its own cache.
        verify: hash the files of an embedded model instead of comparing their sizes.
        weights: False: for the fingerprint, the reference and the tokenizer; nothing else is downloaded.

    Raises:
        UserError: the source cannot be found or loaded.
    """
    if _job is None or cache_dir or verify:
        return _look_up(source, revision, cache_dir, verify, weights)
    known = [_job.found.get((source, revision, whole)) for whole in ((True,) if weights else (True, False))]
    if (one := next(filter(None, known), None)) is None:
        name = f"{source}@{revision}" if revision else source
        one = _look_up(source, _job.pins.get(name, revision), None, False, weights)
        if one.kind == "hub" and revision != one.path.name:
            commit = _pin(_job, name, one.path.name)
            if commit != one.path.name:  # another job of the run was first
                one = _look_up(source, commit, None, False, weights)
        _job.found[source, revision, weights or one.kind in ("embedded", "local")] = one
    return one


def _pin(job: _Job, name: str, commit: str) -> str:
    """Keep the commit for the run, unless a job has kept one before, and return the one that all its jobs use."""
    if job.file is None or name in job.pins:
        return job.pins.setdefault(name, commit)
    job.file.parent.mkdir(parents=True, exist_ok=True)
    with job.file.with_name(f".{PINS}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job.pins.update(_pins_in(job.file))
        if name not in job.pins:
            write_text(job.file, json.dumps({**job.pins, name: commit}, indent=1, sort_keys=True))
            job.pins[name] = commit
    return job.pins[name]


def _pins_in(file: Path) -> dict[str, str]:
    return {name: str(commit) for name, commit in (read_json(file) or {}).items()}


@cache
def local_folder(reference: str, *, weights: bool = True) -> str:
    """The folder of a model on the machine where this runs, fetched first if necessary.

    Processes of one machine fetch a model once: the others wait for it. A folder is complete or absent.

    Args:
        reference: of `ModelFolder`. A plain folder is on a file system that all machines mount.
        weights: False: only the tokenizer and the configuration are needed.

    Raises:
        UserError: it cannot be fetched here, or has another content.
    """
    address, _, wanted = reference.partition("#")
    if wanted:
        return str(model_store.folder(address, wanted, weights=weights))
    repo, _, commit = reference.partition("@")
    if commit and HUB_ID.fullmatch(repo):
        return str(model_hub.snapshot(repo, commit, weights=weights))
    if reference.startswith("embedded:"):
        return str(fetch(reference.removeprefix("embedded:")))
    if Path(reference).is_absolute() and not Path(reference).is_dir():
        raise UserError(
            f"Model folder not found on {os.uname().nodename}: {reference}. Put it on a file system that all nodes "
            "mount, or use a hub id or an address of an object store.",
            code="missing_file",
        )
    return reference


def is_here(reference: str) -> bool:
    """Whether the machine where this runs has the model already. Nothing is fetched."""
    _, _, wanted = reference.partition("#")
    repo, _, commit = reference.partition("@")
    name = reference.removeprefix("embedded:")
    if wanted:
        return model_store.found_folder(wanted) is not None
    if name != reference:
        return damage(model_place(name), EMBEDDED[name]) is None
    if commit and HUB_ID.fullmatch(repo):
        return model_hub.found_snapshot(repo, commit) is not None
    return Path(reference).is_dir()


# Its length: one case a kind of source.
def _look_up(
    source: str, revision: str | None, cache_dir: str | Path | None, verify: bool, weights: bool = True
) -> ModelFolder:
    is_folder = source.startswith((".", "/", "~")) or Path(source).is_dir()
    is_on_hub = not is_folder and HUB_ID.fullmatch(source)
    if revision and not is_on_hub:
        raise UserError(
            f"Model {source!r}: only a hub id `org/name` has a revision. Remove revision {revision!r}.", code="conflict"
        )
    if source.startswith("embedded:"):
        place = fetch(source.removeprefix("embedded:"), cache_dir=cache_dir, verify=verify)
        files = json.loads((place / MANIFEST).read_text())["files"]
        return ModelFolder(source, place, _fingerprint(files), "embedded", source)
    if is_folder:
        folder = Path(source).expanduser().absolute()
        check_local(folder)
        fingerprint = _fingerprint(_hash_files(folder, cache_root(cache_dir)))
        address = flushed(folder)  # other nodes do not have a folder of a run on an object store
        reference = f"{address}#{model_store.listing(address).fingerprint}" if address else str(folder)
        return ModelFolder(source, folder, fingerprint, "local", reference)
    if is_address(source):
        fingerprint = model_store.listing(source).fingerprint
        place = model_store.folder(source, fingerprint, weights=weights, cache_dir=cache_dir)
        return ModelFolder(source, place, fingerprint, "store", f"{source}#{fingerprint}")
    if is_on_hub:
        place = model_hub.snapshot(source, revision, weights=weights)
        # A snapshot's folder is named after its commit, which identifies the content.
        reference = f"{source}@{place.name}"
        return ModelFolder(source, place, hashlib.sha256(reference.encode()).hexdigest(), "hub", reference)
    known = ", ".join(f"embedded:{name}" for name in EMBEDDED)
    raise UserError(
        f"Model {source!r} is neither a folder nor a hub id `org/name`. The embedded models are {known}.",
        code="unknown_model",
    )


def _hash_files(folder: Path, cache: Path | None = None) -> dict[str, dict[str, Any]]:
    """`{name: {size, sha256}}` of a folder; with `cache`, files of unchanged size and mtime are not read again."""
    store = cache / "hashes.json" if cache else None
    try:
        known = json.loads(store.read_text()) if store else {}
    except (OSError, ValueError):
        known = {}
    found: dict[str, dict[str, Any]] = {}
    fresh: dict[str, str] = {}
    for name, path in files_of(folder).items():
        status = path.stat()
        key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        digest = known.get(key) or fresh.setdefault(key, sha256(path))
        found[name] = {"size": status.st_size, "sha256": digest}
    if store and fresh:
        # A cache that cannot be written costs time, not the run; of two writers the last one wins.
        with contextlib.suppress(OSError):
            store.parent.mkdir(parents=True, exist_ok=True)
            part = store.with_name(f"{store.name}.{os.getpid()}")
            part.write_text(json.dumps({**known, **fresh}))
            part.replace(store)
    return found


def _fingerprint(files: dict[str, dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


class ModelRow(NamedTuple):
    """One embedded model in `inverdict models list`; `size_mb` is None if it is not fetched."""

    name: str
    about: str
    licence: str
    size_mb: int | None
    path: str


def list_models(cache_dir: str | Path | None = None) -> list[ModelRow]:
    """The embedded models, fetched or not."""
    rows = []
    for name, model in EMBEDDED.items():
        place = model_place(name, cache_dir)
        size, path = None, "not fetched"
        if damage(place, model) is None:
            size, path = sum(file.stat().st_size for file in files_of(place).values()) // 1_000_000, str(place)
        rows.append(ModelRow(f"embedded:{name}", model.about, model.licence, size, path))
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict models`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    example: dict[str, Any] = {"epilog": parser.epilog, "formatter_class": parser.formatter_class}
    table = actions.add_parser("list", help="list the embedded models and their folders", **example)
    get = actions.add_parser("fetch", help="download or convert models so that they load offline", **example)
    get.add_argument(
        "names", nargs="+", metavar="NAME", help="embedded model, `all` for all of them, or hub id org/name"
    )
    get.add_argument("--revision", help="branch, tag or commit of a hub id")
    get.add_argument("--verify", action="store_true", help="hash the files of a model that is already fetched")
    for action in (table, get):
        action.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Run `inverdict models`; the result goes to stdout, progress to stderr."""
    if args.action == "list":
        rows = list_models()
        if args.json:
            print(json.dumps([row._asdict() for row in rows], indent=1))
        else:
            print(_table(rows))
        return 0
    names = [name for given in args.names for name in (EMBEDDED if given == "all" else [given])]
    # Check every name before the first download.
    sources = [_source_of(name) for name in names]
    folders = [resolve(source, revision=args.revision, verify=args.verify) for source in sources]
    if args.json:
        print(json.dumps([{**asdict(folder), "path": str(folder.path)} for folder in folders], indent=1))
    else:
        print("\n".join(str(folder.path) for folder in folders))
    return 0


def _source_of(name: str) -> str:
    if "/" in name:
        return name
    bare = name.removeprefix("embedded:")
    model_place(bare)
    return f"embedded:{bare}"


def _table(rows: list[ModelRow]) -> str:
    cells = [["name", "description", "licence", "MB", "path"]]
    cells += [[r.name, r.about, r.licence, "-" if r.size_mb is None else str(r.size_mb), r.path] for r in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)
