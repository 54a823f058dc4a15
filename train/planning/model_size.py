"""A model's source -> its parameters and shape, with their source; nothing is loaded, downloaded or converted.

Sources in order of preference: weights on this machine (headers only), config.json, the configured billions, the name.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from cluster.embedded import model_place
from cluster.model_files import num_parameters
from cluster.model_specs import VllmSpec

IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)  # 7B, 0.5b, 135M; not 8x7B


class Shape(NamedTuple):
    """Layers of a decoder and widths inside one: of the model, the MLP, all queries, all keys."""

    layers: int
    width: int
    inner: int
    queries: int
    keys: int

    def in_layers(self, rank: int = 0) -> int:
        """Parameters of q, k, v, o, gate, up and down in all layers; with `rank`: those of a LoRA on them."""
        pairs = [(self.width, self.queries)] * 2 + [(self.width, self.keys)] * 2 + [(self.width, self.inner)] * 3
        return self.layers * sum(rank * (a + b) if rank else a * b for a, b in pairs)


# Billions of parameters -> the shape that Qwen2.5 has at this size (config.json of each).
USUAL = {
    0.49: Shape(24, 896, 4864, 896, 128),
    1.54: Shape(28, 1536, 8960, 1536, 256),
    3.09: Shape(36, 2048, 11008, 2048, 256),
    7.61: Shape(28, 3584, 18944, 3584, 512),
    14.7: Shape(48, 5120, 13824, 5120, 1024),
    32.5: Shape(64, 5120, 27648, 5120, 1024),
    72.7: Shape(80, 8192, 29568, 8192, 1024),
}


class Size(NamedTuple):
    """`known_from`, `shape_from`: the sources of the parameters and of the shape."""

    params: float
    known_from: str
    shape: Shape
    shape_from: str


def model_size(spec: VllmSpec, params_b: float | None) -> Size | None:
    """`params_b`: the configured billions of parameters. None where the size is unknown."""
    folder = model_folder(spec)
    config = _json(folder / "config.json") if folder else None
    shape, vocabulary = _shape(config or {})
    params: float | None = None
    if folder and (stored := num_parameters(folder)):
        params, origin = stored, f"measured: safetensors headers in {folder}"
    elif shape and folder:
        params = shape.in_layers() + vocabulary * shape.width
        origin = f"measured: config.json in {folder}"
    elif params_b:
        params, origin = params_b * 1e9, "plan.params_b (configured)"
    elif found := IN_NAME.search(Path(spec.source).name):
        params = float(found[1]) * (1e9 if found[2] in "bB" else 1e6)
        origin = f"the name {spec.source}"
    if params is None:
        return None
    if shape and folder:
        return Size(params, origin, shape, f"measured: config.json in {folder}")
    nearest = min(USUAL, key=lambda billions: abs(math.log(billions * 1e9 / params)))
    return Size(params, origin, USUAL[nearest], f"assumed: the usual shape for the size, that of Qwen2.5 {nearest:g} B")


def model_folder(spec: VllmSpec) -> Path | None:
    """The model's folder, if it is on this machine."""
    if spec.source.startswith("embedded:"):
        place = model_place(spec.source.removeprefix("embedded:"))
    else:
        place = Path(spec.source).expanduser()
        if not place.is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", spec.source):
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(spec.source, "config.json", revision=spec.revision)
            place = Path(cached).parent if isinstance(cached, str) else place
    return place if (place / "config.json").is_file() else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _shape(config: dict[str, Any]) -> tuple[Shape | None, int]:
    """The shape in a config.json, and the rows of its embeddings; None where the family uses other keys."""
    text = config.get("text_config", config)
    try:
        width, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        a_head = int(text.get("head_dim") or width // heads)
        keys = a_head * int(text.get("num_key_value_heads") or heads)
        shape = Shape(int(text["num_hidden_layers"]), width, int(text["intermediate_size"]), a_head * heads, keys)
        return shape, int(text["vocab_size"]) * (1 if text.get("tie_word_embeddings") else 2)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None, 0
