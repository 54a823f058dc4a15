"""LoRA adapters: a checked folder with a fingerprint, and the arguments of an engine that answers for several of them.

An adapter is a folder that peft has saved. vLLM computes it beside the base model's layers, so that one engine with one
copy of the base answers for the base and all its adapters.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cluster import models
from cluster.artifacts import file_hash, read_json
from cluster.errors import UserError
from cluster.model_files import missing_pieces
from cluster.model_specs import ModelSpec, VllmSpec
from cluster.terminal import say

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt")
COPIED_BYTES, LEAST_TOKENS = 2**30, 256  # of an engine step on CPUs; vLLM refuses fewer tokens than requests
# The ranks for which vLLM reserves memory (`max_lora_rank`).
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
TENSOR = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_(A|B)\.weight$")
# vLLM reads rank, alpha and use_rslora of peft's configuration. Other keys that change what is computed must be off,
# since it refuses some of them only when it loads the adapter, and ignores the others.
ANY_VALUE = {
    *("r", "lora_alpha", "use_rslora", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform"),
    *("layers_pattern", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "megatron_core", "qalora_group_size", "eva_config"),
}
ONE_OF: Mapping[str, Collection[Any]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # The other ways to initialise an adapter change the base's weights too.
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),
}
Shapes = Mapping[str, list[int]]  # of tensors by name


class Adapter(NamedTuple):
    """A checked adapter: its absolute folder, the fingerprint of what vLLM reads, the rank, the names of the layers,
    and the largest number of their inputs and outputs.
    """

    path: Path
    fingerprint: str
    rank: int
    modules: frozenset[str]
    width: int


def adapter_of(spec: VllmSpec) -> Adapter:
    """The adapter of a specification, checked against its base.

    Raises:
        UserError: the folder is incomplete, has what vLLM does not compute, or is of another base model.
    """
    assert spec.adapter
    folder = Path(spec.adapter).expanduser().absolute()
    if problem := adapter_problem(folder):
        code = "missing_file" if problem.startswith("lacks") else "unsupported"
        raise UserError(f"The LoRA adapter {folder} {problem}.", code=code)
    # Weights that are not here stay where they are: on a cluster only the engines' nodes need them.
    config, base = _config(folder), models.resolve(spec.source, revision=spec.revision, weights=False)
    if problem := misfit(folder, base.path):
        raise UserError(
            f"The LoRA adapter {folder} is not one of models.{spec.base} ({spec.source}): it {problem}. Set `base` to "
            "the model that it was trained on.",
            code="conflict",
        )
    if not _may_be(told := str(config.get("base_model_name_or_path") or ""), base):
        _say_other_name(folder, told, spec.source)
    shapes = _shapes(folder / WEIGHTS)
    modules = frozenset(_layer(name).module.rpartition(".")[2] for name in shapes)
    width = max(max(shape) for shape in shapes.values())
    return Adapter(folder, _fingerprint(folder), int(config["r"]), modules, width)


def check_here(adapter: Adapter, base: Path) -> None:
    """Check an adapter on the machine of an engine, before the engine starts.

    Args:
        adapter: as it is on the driver's machine.
        base: the folder of its base model on this machine.

    Raises:
        UserError: it is missing here, has another content, or does not fit the base.
    """
    folder, node = adapter.path, os.uname().nodename
    mount = "Put it on a file system that all nodes mount."
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        raise UserError(f"LoRA adapter not found on {node}: {folder}. {mount}", code="missing_file")
    if _fingerprint(folder) != adapter.fingerprint:
        raise UserError(f"LoRA adapter {folder} is another one on {node} than on the driver. {mount}", code="conflict")
    if problem := misfit(folder, base):
        raise UserError(
            f"The LoRA adapter {folder} is not one of its base on {node}, {base}: it {problem}. Set `base` to the "
            "model that it was trained on.",
            code="conflict",
        )


def adapter_problem(folder: Path) -> str:
    """Why vLLM cannot compute the adapter in a folder, "" if it can. Its base is not needed."""
    if not (folder / WEIGHTS).is_file() and (pickles := [name for name in PICKLES if (folder / name).is_file()]):
        return f"has pickled weights ({pickles[0]}), which can execute arbitrary code. Save it as safetensors with peft"
    if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        return f"lacks {' and '.join(missing)}. Set `adapter` to a folder that peft's save_pretrained has written"
    try:
        config, shapes = _config(folder), _shapes(folder / WEIGHTS)
    except (UserError, ValueError, OSError):
        return f"lacks a readable {CONFIG} or {WEIGHTS} (truncated, or a Git LFS pointer). Copy it again"
    rank = config.get("r")
    if not isinstance(rank, int) or not 1 <= rank <= RANKS[-1]:
        return f"has the rank {rank!r}, but vLLM computes ranks from 1 to {RANKS[-1]}. Merge it into its base"
    unknown = [
        f"{key}: {json.dumps(value)}"
        for key, value in config.items()
        if value and key not in ANY_VALUE and value not in ONE_OF.get(key, ())
    ]
    unknown += [f"{name} {shape}" for name, shape in shapes.items() if not _has_rank(name, shape, rank)]
    if unknown:
        return f"has {unknown[0]}, which vLLM does not compute. Merge it into its base"
    return "" if shapes else f"lacks the weights of any layer in {WEIGHTS}. Copy it again"


class _Layer(NamedTuple):
    """The base's layer that an adapter's tensor belongs to, and its factor: A (rank x inputs) or B (outputs x rank)."""

    module: str
    factor: str


def _has_rank(name: str, shape: Sequence[int], rank: int) -> bool:
    """Whether a tensor is a matrix of this rank beside a layer."""
    return bool(TENSOR.match(name)) and len(shape) == 2 and shape[0 if _layer(name).factor == "A" else 1] == rank


def _layer(name: str) -> _Layer:
    match = TENSOR.match(name)
    assert match
    return _Layer(*match.groups())


def _config(folder: Path) -> dict[str, Any]:
    return read_json(folder / CONFIG) or {}


def _shapes(weights: Path) -> Shapes:
    """Raises ValueError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_slice(name).get_shape() for name in names}
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged") from error


@cache
def _hash(file: Path, size: int, mtime_ns: int) -> str:
    """An adapter may have gigabytes, so each state of a file is hashed once a process."""
    return file_hash(file)


def _fingerprint(folder: Path) -> str:
    files = [folder / name for name in (CONFIG, WEIGHTS)]
    return _digest([_hash(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def misfit(folder: Path, base: Path) -> str:
    """Why an adapter cannot be of a base model, by the layers' names and sizes; "" if it can, or without the weights.

    Args:
        folder: of an adapter without `adapter_problem`.
        base: the model's folder.
    """
    if missing_pieces(base):
        return ""  # the weights are on the engine's machine, and compared there
    known = {name: shape for file in sorted(base.glob("*.safetensors")) for name, shape in _shapes(file).items()}
    modules = {_in_layers(name.rpartition(".")[0]): name.rpartition(".")[0] for name in known}
    for name, shape in _shapes(folder / WEIGHTS).items():
        module, factor = _layer(name)
        if (same := modules.get(_in_layers(module))) is None:
            return f"has a layer {module}, which the model does not have"
        whole = known.get(f"{same}.weight")  # outputs x inputs; quantised weights have other names and shapes
        side = 1 if factor == "A" else 0
        if whole and whole[side] != shape[side]:
            return f"has {module} for a size of {shape[side]}, which is {whole[side]} in the model"
    return ""


def _in_layers(module: str) -> str:
    """A module's name without what is before its layer: multimodal checkpoints and loaded models differ in it."""
    return re.sub(r"^(?!.*(?:vision|audio|visual)).*?\blayers\.", "layers.", module)


def _may_be(told: str, base: models.ModelFolder) -> bool:
    """Whether the hub id or path that an adapter names as its base is this model, as far as that can be told here."""
    if base.kind == "hub":
        return _hub_id(told) in (None, base.name.lower())
    folder = Path(told).expanduser()
    if base.kind == "store" or not told or not folder.is_dir() or folder.resolve() == base.path.resolve():
        return True
    try:
        return models.resolve(str(folder)).fingerprint == base.fingerprint
    except UserError:  # no longer a model
        return True


@cache
def _say_other_name(folder: Path, told: str, source: str) -> None:
    """A name proves nothing: repositories are renamed, and models are copied."""
    say(f"WARNING: the LoRA adapter {folder} was trained on {told} and runs on {source}: are they the same model?")


def _hub_id(told: str) -> str | None:
    """The `org/name` of a hub id, or of a folder in the hub's cache."""
    if found := re.search(r"models--([\w.-]+?)--([\w.-]+)/snapshots/", told):
        return f"{found[1]}/{found[2]}".lower()
    return told.lower() if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", told) else None


def lora_arguments(adapters: Collection[Adapter], *, tokens_on_cpu: int | None) -> dict[str, Any]:
    """vLLM's arguments for an engine with these adapters; none without adapters.

    Without `lora_target_modules` vLLM would reserve memory for an adapter of the whole vocabulary, and refuse
    vocabularies of more than 258,048 tokens.

    Args:
        adapters: all that the engine answers for.
        tokens_on_cpu: of an engine step on CPUs without adapters; None: the engine runs on GPUs.
    """
    if not adapters:
        return {}
    rank = next(known for known in RANKS if known >= max(one.rank for one in adapters))
    found = {
        "enable_lora": True,
        "max_loras": len(adapters),
        "max_lora_rank": rank,
        "lora_target_modules": sorted(frozenset().union(*(one.modules for one in adapters))),
    }
    if tokens_on_cpu is not None:
        # Rows of the base that share a step with an adapter's get the adapter in the last place (vLLM 0.29,
        # vllm-project/vllm#48421), so that place stays empty: zeros.
        found["max_loras"] = len(adapters) + 1
        # vLLM copies the adapter's weights of a layer for every token of a step.
        copied = 4 * rank * max(one.width for one in adapters)
        found["max_num_batched_tokens"] = max(LEAST_TOKENS, min(tokens_on_cpu, COPIED_BYTES // copied))
    return found


def weights_of(spec: ModelSpec) -> str:
    """Fingerprint of a model's weights, of a LoRA adapter with its base; "none" where only the engine has them."""
    if not isinstance(spec, VllmSpec):
        return "none"
    base = models.resolve(spec.source, revision=spec.revision, weights=False).fingerprint
    return _digest([base, adapter_of(spec).fingerprint]) if spec.adapter else base
