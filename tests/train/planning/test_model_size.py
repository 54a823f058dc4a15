"""How large a model is, by its folder, the hub cache, the configuration or its name; nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.model_specs import VllmSpec
from train.planning.model_size import Shape, model_size

TINY = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "tie_word_embeddings": True,
}
SHAPE = Shape(layers=2, width=8, inner=16, queries=8, keys=4)
# q and k, v and o, then gate, up and down: 8 x 8 twice, 8 x 4 twice, 8 x 16 three times: 576 in each of 2 layers.
IN_LAYERS = 1152
# A LoRA has rows + columns for each: 2 x 16 + 2 x 12 + 3 x 24 = 128 a rank and layer; x rank 4 x 2 layers.
ADAPTER = 1024


def tiny_folder(place: Path) -> Path:
    """A model of 1,000,000 parameters by its header; there is no data behind it."""
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(TINY))
    tensor = {"dtype": "BF16", "shape": [1000, 1000], "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": tensor}).encode()
    (place / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *place, **more: None)


def test_parameters_come_from_the_headers_and_widths_from_the_config(folder: Path) -> None:
    found = model_size(VllmSpec(source=str(folder)), 5)
    assert found is not None
    assert (found.params, found.shape) == (1_000_000, SHAPE)
    assert found.known_from == f"measured: safetensors headers in {folder}"
    assert (SHAPE.in_layers(), SHAPE.in_layers(rank=4)) == (IN_LAYERS, ADAPTER)


@pytest.mark.parametrize("broken", [None, b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]"])
def test_without_readable_weights_the_widths_give_the_parameters(folder: Path, broken: bytes | None) -> None:
    weights = folder / "model.safetensors"
    weights.unlink() if broken is None else weights.write_bytes(broken)
    found = model_size(VllmSpec(source=str(folder)), 5)
    # The embeddings are 10 x 8, and the head is the same matrix.
    assert found is not None
    assert (found.params, found.known_from) == (IN_LAYERS + 80, f"measured: config.json in {folder}")


def test_a_model_in_the_hub_cache_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = str(folder / "config.json")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *place, **more: cached)
    found = model_size(VllmSpec(source="org/Some-7B"), None)
    assert found is not None
    assert (found.params, found.shape) == (1_000_000, SHAPE)


@pytest.mark.parametrize(
    ("source", "params", "layers"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9, 28),
        ("Qwen/Qwen2.5-0.5B", 0.5e9, 24),
        ("org/SmolLM2-135M-Instruct", 135e6, 24),
        ("google/gemma-2-9b-it", 9e9, 28),
        ("/nowhere/Llama-70B", 70e9, 80),
    ],
)
def test_else_the_name_tells_the_size_and_the_shape_is_the_usual_one(source: str, params: float, layers: int) -> None:
    found = model_size(VllmSpec(source=source), None)
    assert found is not None
    assert (found.params, found.shape.layers, found.known_from) == (params, layers, f"the name {source}")
    assert found.shape_from.startswith("assumed: the usual shape for the size")


@pytest.mark.parametrize("source", ["org/judge-v2.5", "org/Mixtral-8x7B", "org/llama3"])
def test_a_name_that_tells_no_size_is_not_guessed_at(source: str) -> None:
    assert model_size(VllmSpec(source=source), None) is None
    configured = model_size(VllmSpec(source=source), 3)
    assert configured is not None
    assert (configured.params, configured.shape.layers) == (3e9, 36)


def test_shards_are_counted_by_the_index_alone(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    found = model_size(VllmSpec(source=str(folder)), None)
    assert found is not None
    assert found.params == 1_000_000


def test_an_embedded_model_that_is_not_fetched_is_not_fetched_for_this(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    found = model_size(VllmSpec(source="embedded:smollm2-135m-instruct"), None)
    assert found is not None
    assert (found.params, found.known_from) == (135e6, "the name embedded:smollm2-135m-instruct")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("config", ["[1]", "{}", '{"hidden_size": "wide"}', '{"text_config": null}'])
def test_a_configuration_of_another_family_leaves_the_usual_shape(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    found = model_size(VllmSpec(source=str(folder)), None)
    assert found is not None
    assert (found.params, found.shape.layers) == (1_000_000, 24)
    assert found.shape_from.startswith("assumed: ")
