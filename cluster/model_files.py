"""What a model folder must contain: configuration, whole safetensors weights, a tokenizer, and no pickled weights."""

from __future__ import annotations

import fnmatch
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from cluster.embedded import MANIFEST
from cluster.errors import UserError

TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
)
WEIGHTS = "*.safetensors"
# Older formats and exports of the same weights would multiply the download.
TAKEN = ("*.json", WEIGHTS, "*.txt", "*.model", "*.jinja", "*.py")
LEFT = ("onnx/*", "openvino/*", "original/*", "consolidated*")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def missing_pieces(folder: Path, *, weights: bool = True) -> list[str]:
    """Descriptions of what a model folder lacks before it can be loaded; empty if it is complete.

    Args:
        folder: the model folder.
        weights: False for a folder that only tokenises.
    """
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if weights:
        missing += _missing_weights(folder)
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        missing.append("tokenizer files (tokenizer.json, tokenizer.model, or a vocabulary)")
    return missing


def _missing_weights(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    missing = []
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            shards, missing = [], [f"a readable {index.name}"]
    else:
        shards = sorted(path.name for path in folder.glob(WEIGHTS)) or ["*.safetensors (the weights)"]
    missing += [shard for shard in shards if not (folder / shard).is_file()]
    missing += [
        f"the rest of {shard} (truncated, or a Git LFS pointer)"
        for shard in shards
        if (folder / shard).is_file() and not _is_whole(folder / shard)
    ]
    return missing


def pickled_weights(names: list[str]) -> list[str]:
    """Pickled weights that a loader would fall back to: those without a safetensors file in the same folder.

    Args:
        names: of a model's files, relative to its folder.
    """
    paths = [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in LEFT)]
    safe = {Path(name).parent for name in paths if name.endswith(".safetensors")}
    return [name for name in paths if name.endswith(PICKLES) and Path(name).parent not in safe]


def refuse_pickles(what: str, names: list[str]) -> None:
    """Raises UserError if these files have pickled weights; `what` begins the message."""
    if pickles := pickled_weights(names):
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
        files = sorted(folder.glob(WEIGHTS))
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


def check_local(folder: Path) -> None:
    """Raises UserError if a model cannot be loaded from this folder."""
    if not folder.is_dir():
        raise UserError(
            f"Model folder not found: {folder}. Correct the path, or use a hub id `org/name`.", code="missing_file"
        )
    refuse_pickles(f"Model folder {folder}", list(files_of(folder)))
    if missing := missing_pieces(folder):
        raise UserError(
            f"Model folder {folder} lacks {'; '.join(missing)}. Complete it, or choose another model.",
            code="missing_file",
        )


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a model folder by their path in it, without hidden ones and the cache's own manifest."""
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(relative): path
        for relative, path in paths.items()
        if str(relative) != MANIFEST and not any(part.startswith(".") for part in relative.parts)
    }
