"""A model folder cut to its lower layers, for a fitted judge: the rest of the network is neither stored nor run.

The cut model is embedding, layers 1 to `depth`, and the final norm; its output at the last token is the hidden state
that the judge's regression reads. It has no output layer and generates nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.artifacts import read_json, whole_folder
from cluster.errors import UserError
from cluster.model_specs import VllmSpec

LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
# The decoder families whose layers are named so and whose output is `norm(last layer)`.
FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "smollm3")
OUTPUT_LAYER = "lm_head."
LEFT_OUT = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf", "inverdict.json")


class CutSpec(VllmSpec):
    """A model cut to its lower layers by `fit-judge`, which only gives hidden states; never in a configuration file.

    `cut_from`: the name of the whole model under `models`.
    """

    cut_from: str


def num_layers(folder: Path) -> int:
    """Layers of the model in a folder. Raises UserError where it is of a family that cannot be cut."""
    config = read_json(folder / "config.json") or {}
    kind, number = config.get("model_type"), config.get("num_hidden_layers")
    if kind not in FAMILIES or not isinstance(number, int):
        raise UserError(
            f"{folder}: hidden states of the model type {kind!r} cannot be read. Supported: {', '.join(FAMILIES)}.",
            code="unsupported",
        )
    return number


def cut(folder: Path, depth: int, place: Path) -> None:
    """Write the model in `folder`, cut to its lower layers, to `place`; an existing folder there is kept.

    Args:
        folder: a model folder with safetensors.
        depth: number of layers to keep, 1 to all.
        place: the new folder; it appears when it is complete.
    """
    if place.exists():
        return
    assert 1 <= depth <= num_layers(folder)
    with whole_folder(place) as made:
        for file in sorted(folder.iterdir()):
            if file.is_file() and not file.name.endswith(LEFT_OUT) and file.name != "config.json":
                shutil.copyfile(file, made / file.name)
        config = _cut_config(json.loads((folder / "config.json").read_text(encoding="utf-8")), depth)
        (made / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        _write_weights(folder, depth, made)


def _cut_config(config: dict[str, Any], depth: int) -> dict[str, Any]:
    kept = {**config, "num_hidden_layers": depth}
    if "layer_types" in kept:
        kept["layer_types"] = kept["layer_types"][:depth]
    if "max_window_layers" in kept:
        kept["max_window_layers"] = min(kept["max_window_layers"], depth)
    return kept


def _write_weights(folder: Path, depth: int, made: Path) -> None:
    """One file a shard, so that no more than a shard is in memory."""
    from safetensors.torch import save_file

    index: dict[str, str] = {}
    size = 0
    for shard, tensors in _kept(folder, depth):
        if tensors:
            save_file(tensors, made / shard, metadata={"format": "pt"})
            index |= dict.fromkeys(tensors, shard)
            size += sum(one.numel() * one.element_size() for one in tensors.values())
    if len(set(index.values())) == 1:
        [shard] = set(index.values())
        (made / shard).rename(made / "model.safetensors")
    else:
        whole = {"metadata": {"total_size": size}, "weight_map": index}
        (made / "model.safetensors.index.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")


def _kept(folder: Path, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    from safetensors import safe_open

    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, framework="pt") as file:
            names = [name for name in file.keys() if _stays(name, depth)]  # noqa: SIM118
            yield shard.name, {name: file.get_tensor(name) for name in names}


def _stays(name: str, depth: int) -> bool:
    layer = LAYER.search(name)
    return int(layer[1]) < depth if layer else not name.startswith(OUTPUT_LAYER)
