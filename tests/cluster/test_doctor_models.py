"""`inverdict doctor` and models: on every node, adapters with their base, in stores, and their weights in memory."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from cluster import doctor, findings, models
from cluster import node_checks as probes
from cluster.config import RunConfig
from cluster.feasibility import NodeType
from tests.adapting import adapter_at, base_at
from tests.cluster.test_doctor import GIB, seen
from tests.cluster.test_model_places import model


def test_a_model_is_looked_for_on_every_node() -> None:
    """`m`, `n`: folders; `h`: an endpoint; `o`: a hub id."""
    references = {"m": "/m", "n": "/n", "o": "org/o@1"}
    models = {"m": "", "n": "", "h": "", "o": ""}
    nodes = [seen("a", models=models), seen("b", models={**models, "m": "has no folder /m"}, fetches=["o"])]
    assert findings.model_words(nodes, references) == [
        ("model m", "bad", "b has no folder /m"),
        ("model n", "ok", "in a folder that all nodes share: found on every node"),
        ("model h", "ok", "found on every node"),
        ("model o", "ok", "each node has its own: fetched when it is first needed on b"),
    ]
    assert findings.model_words(nodes[:1], references)[0].words == "found on every node"


def test_folders_and_endpoints_say_what_is_wrong(tmp_path: Path) -> None:
    assert f"{tmp_path}/none" in probes.folder_problem(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    assert "lacks *.safetensors (the weights)" in probes.folder_problem(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert probes.endpoint_problem("127.0.0.1", port) == ""
        assert probes.listeners(port) == ["127.0.0.1"]
    assert probes.endpoint_problem("127.0.0.1", port).endswith(f" 127.0.0.1:{port}: Connection refused")
    assert probes.listeners(port) == []
    with socket.create_server(("0.0.0.0", 0)) as listening:
        assert probes.listeners(listening.getsockname()[1]) == ["0.0.0.0"]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        assert probes.listeners(listening.getsockname()[1]) == ["::1"]


def weights(folder: Path, *shape: int) -> str:
    """A safetensors file that is nothing but a header with one tensor of that shape."""
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": shape}}).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return str(folder)


def test_adapters_are_compared_with_their_base_and_looked_for_on_every_node(tmp_path: Path) -> None:
    base = base_at(tmp_path / "base")
    other = {"model.layers.7.mlp.down_proj": (4, 8)}
    adapters = {
        "fits": adapter_at(tmp_path / "fits"),
        "foreign": adapter_at(tmp_path / "foreign", other),
        "later": "run:sft/m/forward/adapter",
        "gone": str(tmp_path / "gone"),
    }
    models = {"m": {"source": base}, **{name: {"base": "m", "adapter": one} for name, one in adapters.items()}}
    run = RunConfig.model_validate({"run": str(tmp_path / "run"), "models": models})
    known, _ = doctor.model_places(run)
    assert {name: one.folder for name, one in known.items()} == {"m": base}
    folders, found = doctor.adapter_places(run, {"m": base})
    assert folders == {name: str(tmp_path / name) for name in ("fits", "foreign", "gone")}
    assert [(one.what, one.level) for one in found] == [("model foreign", "bad"), ("model later", "note")]
    assert "model.layers.7.mlp.down_proj" in found[0].words
    assert probes.adapter_folder_problem(tmp_path / "fits") == ""
    assert "does not have the folder" in probes.adapter_folder_problem(tmp_path / "gone")
    (tmp_path / "fits" / "adapter_config.json").unlink()
    assert "lacks adapter_config.json" in probes.adapter_folder_problem(tmp_path / "fits")
    # The engine of the base is counted once.
    [demand] = doctor._demand_findings(run, [NodeType("node", {"CPU": 4}, 1)])
    assert "each of 1 models" in demand.words


@pytest.mark.parametrize(
    ("spec", "nodes", "level", "words"),
    [
        # 2**30 parameters. On a GPU 2 bytes each: 2 GiB, of 0.9 x 4 GiB.
        ({}, [{"gpus": [("T", 4 * GIB)]}], "ok", "2.0 GiB of 3.6 GiB on a GPU"),
        # The largest GPU counts: 0.9 x 2 GiB.
        ({}, [{"gpus": [("T", GIB)]}, {"gpus": [("T", 2 * GIB)]}], "bad", "2.0 GiB of "),
        # Two workers hold half of it each.
        ({"tensor_parallel_size": 2}, [{"gpus": [("T", 2 * GIB)]}], "ok", "1.0 GiB of "),
        ({"dtype": "float32"}, [{"gpus": [("T", 4 * GIB)]}], "bad", "4.0 GiB of 3.6 GiB on a GPU"),
        # On a CPU 4 bytes each and the cache of 2 GiB: 6 of 8 GiB.
        ({}, [{}], "ok", "6.0 GiB of 8.0 GiB on a node"),
        ({"kv_cache_gib": 5}, [{}], "bad", "9.0 GiB of "),
        ({"num_gpus": 0}, [{"gpus": [("T", 4 * GIB)]}], "ok", "6.0 GiB of "),
        # In bfloat16 2 bytes each and the cache of 2 GiB.
        ({}, [{"dtype": "bfloat16"}], "ok", "4.0 GiB of "),
        ({"dtype": "float32"}, [{"dtype": "bfloat16"}], "ok", "6.0 GiB of "),
        ({"dtype": "bfloat16"}, [{}], "ok", "4.0 GiB of "),
        ({}, [{"dtype": "bfloat16"}, {}], "ok", "6.0 GiB of "),
    ],
)
def test_memory_against_the_weights(
    tmp_path: Path, spec: dict[str, Any], nodes: list[dict[str, Any]], level: str, words: str
) -> None:
    folder = weights(tmp_path / "m", 2**15, 2**15)
    run = RunConfig.model_validate({"run": "r", "models": {"m": {"source": folder, **spec}}})
    (found,) = findings.memory_findings(
        run, {"m": folder}, [seen(str(place), **one) for place, one in enumerate(nodes)]
    )
    assert (found.what, found.level) == ("memory m", level)
    assert f" {words}" in found.words


def test_models_that_are_nowhere_yet_are_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    sources = {
        "embedded": {"source": "embedded:smollm2-135m-instruct"},
        "later": {"source": "run:sft/m/forward/merged"},
        "hub": {"source": "nobody/nothing-of-this-name"},
        "there": {"source": str(tmp_path)},
        "fake": {"backend": "scripted"},
    }
    run = RunConfig.model_validate({"run": str(tmp_path / "run"), "models": sources})
    folders, found = doctor.model_places(run)
    assert folders == {"there": (str(tmp_path), str(tmp_path))}
    assert [(one.what, one.level) for one in found] == [
        ("model embedded", "bad"),
        ("model later", "note"),
        ("model hub", "bad"),
    ]
    assert "`inverdict models fetch embedded:smollm2-135m-instruct`" in found[0].words
    assert str(tmp_path / "run" / "sft") in found[1].words
    assert "`inverdict models fetch nobody/nothing-of-this-name`" in found[2].words


def test_a_model_in_a_store_or_of_the_hub_is_known_by_its_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    address = model(tmp_path / "qwen").as_uri()
    run = RunConfig.model_validate({"run": str(tmp_path / "run"), "models": {"m": {"source": address}}})
    known, found = doctor.model_places(run)
    assert found == []
    reference = known["m"].reference
    assert (known["m"].folder, reference.partition("#")[0]) == ("", address)
    asked = probes.Look("", "", {"m": reference, "f": str(tmp_path / "none")}, {}, {}, ())
    node = probes.look(asked, "here")
    assert (node.fetches, node.models) == (["m"], {"m": "", "f": f"does not have the folder {tmp_path / 'none'}"})
    models.local_folder(reference)
    assert probes.look(asked, "here").fetches == []
    (tmp_path / "qwen" / "model.safetensors").rename(tmp_path / "qwen" / "pytorch_model.bin")
    assert "pickled weights" in doctor.model_places(run)[1][0].words
