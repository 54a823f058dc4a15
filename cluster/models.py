"""Resolve a model's source to a local folder that transformers and vLLM load without a network.

Sources are `embedded:NAME` (weights from a Python package), a local folder, and a hub id `org/name`; the result is a
checked folder and the fingerprint of its content.
"""

import argparse
import contextlib
import fnmatch
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cluster.embedded import MANIFEST, cache_root, damage, fetch, model_place, sha256
from cluster.embedded_models import EMBEDDED
from cluster.errors import UserError

TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
)
# Older formats and exports of the same weights would multiply the download.
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py")
HUB_LEAVE = ("onnx/*", "openvino/*", "original/*", "consolidated*")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class ModelFolder:
    """A model that is ready to load: `path` is absolute, `fingerprint` changes with any weight or setting."""

    name: str
    path: Path
    fingerprint: str
    kind: Literal["embedded", "local", "hub"]


_found: dict[tuple[str, str | None], ModelFolder] | None = None  # of the running job, see `looked_up_once`


@contextlib.contextmanager
def looked_up_once() -> Iterator[None]:
    """Within this context each model is resolved once: a job sees one consistent state of the weights."""
    global _found
    before, _found = _found, {} if _found is None else _found
    try:
        yield
    finally:
        _found = before


def resolve(
    source: str, *, revision: str | None = None, cache_dir: str | Path | None = None, verify: bool = False
) -> ModelFolder:
    """Find `source` on this machine, fetching it first if necessary.

    Args:
        source: `embedded:NAME`, a folder (starts with `.`, `/` or `~`, or exists), or a hub id `org/name`.
        revision: branch, tag or commit of a hub id.
        cache_dir: see `cache_root`; the hub keeps its own cache.
        verify: hash the files of an embedded model instead of comparing their sizes.

    Raises:
        UserError: the source cannot be found or loaded.
    """
    if _found is None or cache_dir or verify:
        return _look_up(source, revision, cache_dir, verify)
    key = (source, revision)
    if key not in _found:
        _found[key] = _look_up(source, revision, None, False)
    return _found[key]


def _look_up(source: str, revision: str | None, cache_dir: str | Path | None, verify: bool) -> ModelFolder:
    is_folder = source.startswith((".", "/", "~")) or Path(source).is_dir()
    if revision and (is_folder or source.startswith("embedded:")):
        raise UserError(
            f"Model {source!r}: only a hub id `org/name` has a revision. Remove revision {revision!r}.", code="conflict"
        )
    if source.startswith("embedded:"):
        place = fetch(source.removeprefix("embedded:"), cache_dir=cache_dir, verify=verify)
        files = json.loads((place / MANIFEST).read_text())["files"]
        return ModelFolder(source, place, _fingerprint(files), "embedded")
    if is_folder:
        folder = Path(source).expanduser().absolute()
        _check_local(folder)
        return ModelFolder(source, folder, _fingerprint(_hash_files(folder, cache_root(cache_dir))), "local")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        return _from_hub(source, revision)
    known = ", ".join(f"embedded:{name}" for name in EMBEDDED)
    raise UserError(
        f"Model {source!r} is neither a folder nor a hub id `org/name`. The embedded models are {known}.",
        code="unknown_model",
    )


def missing_pieces(folder: Path) -> list[str]:
    """Descriptions of what a model folder lacks before it can be loaded; empty if it is complete."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            shards, missing = [], [*missing, f"a readable {index.name}"]
    else:
        shards = sorted(path.name for path in folder.glob("*.safetensors")) or ["*.safetensors (the weights)"]
    missing += [shard for shard in shards if not (folder / shard).is_file()]
    missing += [
        f"the rest of {shard} (truncated, or a Git LFS pointer)"
        for shard in shards
        if (folder / shard).is_file() and not _is_whole(folder / shard)
    ]
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        missing.append("tokenizer files (tokenizer.json, tokenizer.model, or a vocabulary)")
    return missing


def pickled_weights(folder: Path) -> list[str]:
    """Pickled weights that a loader would fall back to: those without a safetensors file in the same folder."""
    paths = [name for name in _files(folder) if not any(fnmatch.fnmatch(name, pattern) for pattern in HUB_LEAVE)]
    safe = {Path(name).parent for name in paths if name.endswith(".safetensors")}
    return [name for name in paths if name.endswith(PICKLES) and Path(name).parent not in safe]


def _refuse_pickles(what: str, folder: Path) -> None:
    if pickles := pickled_weights(folder):
        raise UserError(
            f"{what} has pickled weights without safetensors ({', '.join(pickles)}), which can execute arbitrary code. "
            "Convert them with save_pretrained, or choose another model.",
            code="unsupported",
        )


def num_parameters(folder: Path) -> int:
    """Number of parameters, from the headers of the safetensors files; 0 if one is missing or broken."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
        files = sorted({folder / str(name) for name in index.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        files = sorted(folder.glob("*.safetensors"))
    try:
        return sum(math.prod(tensor["shape"]) for file in files for tensor in _header(file).tensors.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


class _Header(NamedTuple):
    length: int  # bytes
    tensors: dict[str, dict[str, Any]]


def _header(weights: Path) -> _Header:
    """The header of a safetensors file; ValueError if the file ends before it."""
    size = weights.stat().st_size
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"{weights} is truncated")
        header = json.loads(file.read(length))
    return _Header(length, {name: tensor for name, tensor in header.items() if name != "__metadata__"})


def _is_whole(weights: Path) -> bool:
    """Whether a safetensors file has the length that its header states."""
    try:
        length, tensors = _header(weights)
    except ValueError:
        return False
    return weights.stat().st_size == 8 + length + max(
        (tensor["data_offsets"][1] for tensor in tensors.values()), default=0
    )


def _check_local(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"Model folder not found: {folder}. Correct the path, or use a hub id `org/name`.", code="missing_file"
        )
    _refuse_pickles(f"Model folder {folder}", folder)
    if missing := missing_pieces(folder):
        raise UserError(
            f"Model folder {folder} lacks {'; '.join(missing)}. Complete it, or choose another model.",
            code="missing_file",
        )


def _from_hub(repo: str, revision: str | None) -> ModelFolder:
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    download = functools.partial(
        snapshot_download, repo, revision=revision, allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_LEAVE)
    )
    wanted = f"{repo}@{revision}" if revision else repo
    try:
        folder = Path(download(local_files_only=True))
        found = not missing_pieces(folder)
    except LocalEntryNotFoundError:
        found = False
    if not found:
        try:
            folder = Path(download())
        except (HfHubHTTPError, HTTPError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
            raise UserError(
                f"Model {wanted} is not in the local hub cache and cannot be downloaded ({reason}). Fetch it with "
                f"`inverdict models fetch {repo}` on a machine that reaches the hub, or use a local folder.",
                code="unknown_model",
            ) from error
        if missing := missing_pieces(folder):
            raise UserError(
                f"Model {wanted} of the hub lacks {'; '.join(missing)}. Choose another model or revision.",
                code="missing_file",
            )
    _refuse_pickles(f"Model {wanted} in the hub cache", folder)  # another program may have fetched them
    # A snapshot's folder is named after its commit, which identifies the content.
    return ModelFolder(repo, folder, hashlib.sha256(f"{repo}@{folder.name}".encode()).hexdigest(), "hub")


def _files(folder: Path) -> dict[str, Path]:
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(relative): path
        for relative, path in paths.items()
        if str(relative) != MANIFEST and not any(part.startswith(".") for part in relative.parts)
    }


def _hash_files(folder: Path, cache: Path | None = None) -> dict[str, dict[str, Any]]:
    """`{name: {size, sha256}}` of a folder; with `cache`, files of unchanged size and mtime are not read again."""
    store = cache / "hashes.json" if cache else None
    try:
        known = json.loads(store.read_text()) if store else {}
    except (OSError, ValueError):
        known = {}
    found: dict[str, dict[str, Any]] = {}
    fresh: dict[str, str] = {}
    for name, path in _files(folder).items():
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
            size, path = sum(file.stat().st_size for file in _files(place).values()) // 1_000_000, str(place)
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
