"""LoRA adapters: which folders are refused with which code, the fingerprint, and the engine's arguments."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster import adapters, models
from cluster.adapters import RANKS, _fingerprint, adapter_of, check_here, lora_arguments, misfit, weights_of
from cluster.generate import ADAPTER, Sampling, _requests, _to_engine
from cluster.identity import model_identity
from cluster.model_specs import ScriptedSpec, VllmSpec
from cluster.vllm_arguments import vllm_arguments
from tests.adapting import BASE, adapter_at, base_at
from tests.refusals import refused

FOREIGN = {name.replace("layers.0", "layers.7"): shape for name, shape in BASE.items()}
WIDE = {name: (outputs, inputs + 1) for name, (outputs, inputs) in BASE.items()}


@pytest.fixture
def base(tmp_path: Path) -> str:
    return base_at(tmp_path / "base")


def spec(base: str, adapter: str) -> VllmSpec:
    return VllmSpec(source=base, base="m", adapter=adapter, num_gpus=0, dtype="float32")


def test_an_adapter_is_known_by_what_vllm_reads_of_it_and_of_its_base(base: str, tmp_path: Path) -> None:
    one = spec(base, adapter_at(tmp_path / "a"))
    found = adapter_of(one)
    assert (found.path, found.rank, found.modules) == (tmp_path / "a", 2, {"q_proj", "down_proj"})
    (tmp_path / "a" / "README.md").write_text("not read")
    copy = spec(base, str(shutil.copytree(tmp_path / "a", tmp_path / "copy")))
    assert adapter_of(copy).fingerprint == adapter_of(one).fingerprint == found.fingerprint
    assert model_identity(copy) == model_identity(one)
    assert weights_of(copy) == weights_of(one)
    # Other weights, another configuration, or another base: another model.
    others = [spec(base, adapter_at(tmp_path / "b", rank=3)), spec(base, adapter_at(tmp_path / "c", lora_alpha=1))]
    weights = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in BASE.items()}
    save_file(weights, Path(base_at(tmp_path / "other")) / "model.safetensors")
    others.append(spec(str(tmp_path / "other"), one.adapter or ""))
    plain = VllmSpec(source=base, num_gpus=0, dtype="float32")
    assert len({str(model_identity(each)) for each in (one, *others, plain)}) == 5
    assert len({weights_of(each) for each in (one, *others, plain)}) == 5
    assert weights_of(plain) == models.resolve(base).fingerprint
    assert weights_of(ScriptedSpec(backend="scripted")) == "none"


def test_a_model_without_an_adapter_is_what_it_was(base: str) -> None:
    assert not {"base", "adapter"} & model_identity(VllmSpec(source=base)).keys()


def test_weights_that_are_changed_behind_its_back_are_another_adapter(base: str, tmp_path: Path) -> None:
    one = spec(base, adapter_at(tmp_path / "a"))
    before = adapter_of(one).fingerprint
    file = tmp_path / "a" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert adapter_of(one).fingerprint != before


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora: true"),
        ({"bias": "all"}, 'bias: "all"'),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"r": 513}, "513"),
        ({"r": "8"}, "'8'"),
        ({"a_key_of_tomorrow": 1}, "a_key_of_tomorrow"),
    ],
)
def test_what_vllm_computes_otherwise_than_peft_is_refused(
    base: str, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    with refused("unsupported", naming=named):
        adapter_of(spec(base, adapter_at(tmp_path / "a", **config)))


def test_what_changes_nothing_is_accepted(base: str, tmp_path: Path) -> None:
    known = {"use_rslora": True, "init_lora_weights": "eva", "rank_pattern": {}, "modules_to_save": None}
    assert adapter_of(spec(base, adapter_at(tmp_path / "a", target_modules=["q_proj"], **known))).rank == 2


def test_other_tensors_are_refused_by_name(base: str, tmp_path: Path) -> None:
    adapter = Path(adapter_at(tmp_path / "a"))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight"
    save_file({name: np.zeros(6, np.float32)}, adapter / "adapter_model.safetensors")
    with refused("unsupported", naming=name):
        adapter_of(spec(base, str(adapter)))


def test_layers_of_another_rank_than_the_adapters_are_refused(base: str, tmp_path: Path) -> None:
    with refused("unsupported", naming="lora_A.weight [2, "):
        adapter_of(spec(base, adapter_at(tmp_path / "a", rank=2, r=3)))


def test_an_adapter_without_layers_is_refused(base: str, tmp_path: Path) -> None:
    with refused("missing_file", naming="of any layer"):
        adapter_of(spec(base, adapter_at(tmp_path / "a", {})))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_or_damaged_file_is_named(base: str, tmp_path: Path, name: str) -> None:
    one = spec(base, adapter_at(tmp_path / "a"))
    file = tmp_path / "a" / name
    file.write_bytes(file.read_bytes()[:-5])
    with refused("missing_file", naming=name):
        adapter_of(one)
    file.unlink()
    with refused("missing_file", naming=name):
        adapter_of(one)


def test_pickled_weights_are_refused(base: str, tmp_path: Path) -> None:
    one = spec(base, adapter_at(tmp_path / "a"))
    file = tmp_path / "a" / "adapter_model.safetensors"
    (tmp_path / "a" / "training_args.bin").touch()  # beside safetensors it is never loaded
    adapter_of(one)
    file.rename(file.with_name("adapter_model.bin"))
    with refused("unsupported", naming="adapter_model.bin"):
        adapter_of(one)


@pytest.mark.parametrize(("layers", "named"), [(FOREIGN, "model.layers.7."), (WIDE, "for a size of 9, which is 8")])
def test_an_adapter_of_another_model_is_refused_by_its_layers(
    base: str, tmp_path: Path, layers: dict[str, tuple[int, int]], named: str
) -> None:
    with refused("conflict", naming=named):
        adapter_of(spec(base, adapter_at(tmp_path / "a", layers)))


def test_the_layers_of_a_multimodal_checkpoint_have_another_prefix_than_those_of_its_adapters(tmp_path: Path) -> None:
    base = base_at(tmp_path / "base", {f"language_model.{name}": shape for name, shape in BASE.items()})
    loaded = {name.replace("model.", "model.language_model.", 1): shape for name, shape in BASE.items()}
    assert misfit(Path(adapter_at(tmp_path / "a", loaded)), Path(base)) == ""
    wider = {name: (outputs, inputs + 1) for name, (outputs, inputs) in loaded.items()}
    assert "for a size of 9, which is 8" in misfit(Path(adapter_at(tmp_path / "b", wider)), Path(base))


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of a base's name."""
    said: list[str] = []
    monkeypatch.setattr(adapters, "say", said.append)
    adapters._say_other_name.cache_clear()
    return said


def test_another_base_by_name_is_said_once_where_the_layers_fit(base: str, tmp_path: Path, warned: list[str]) -> None:
    other = base_at(tmp_path / "other", {**BASE, "lm_head": (9, 4)})
    same = str(shutil.copytree(base, tmp_path / "same"))
    # Gone, a hub id beside a local folder, and a folder that is no model: nothing is known.
    for told in (base, same, str(tmp_path / "gone"), "org/name", str(tmp_path), "", None):
        adapter_of(spec(base, adapter_at(tmp_path / "a", base_model_name_or_path=told)))
    assert not warned
    for _ in range(2):
        adapter_of(spec(base, adapter_at(tmp_path / "a", base_model_name_or_path=other)))
    (line,) = warned
    assert f"{tmp_path / 'a'} was trained on {other} and runs on {base}" in line
    with refused("conflict", naming="model.layers.7."):
        adapter_of(spec(base, adapter_at(tmp_path / "b", FOREIGN, base_model_name_or_path=base)))


@pytest.mark.parametrize(
    ("told", "is_same"),
    [
        ("org/m", True),
        ("Org/M", True),
        ("mirror/m", False),
        ("/h/hub/models--org--m/snapshots/abc", True),
        ("/h/hub/models--org--before-it-was-renamed/snapshots/abc", False),
        ("/gone/m", True),
        ("", True),
    ],
)
def test_a_renamed_or_mirrored_hub_model_is_accepted(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str], told: str, is_same: bool
) -> None:
    found = models.ModelFolder("org/m", Path(base), "f", "hub", "org/m@abc")
    monkeypatch.setattr(models, "resolve", lambda source, **_: found)
    adapter_of(spec("org/m", adapter_at(tmp_path / "a", base_model_name_or_path=told)))
    assert [told in line for line in warned] == ([] if is_same else [True])


def test_an_adapter_of_a_local_copy_fits_the_same_model_in_a_store(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    there, resolve = models.ModelFolder("s3://b/m", Path(base), "by listing", "store", "s3://b/m#x"), models.resolve
    copy = str(shutil.copytree(base, tmp_path / "copy"))

    def stored(source: str, **options: Any) -> models.ModelFolder:
        return there if source == "s3://b/m" else resolve(source, **options)

    monkeypatch.setattr(models, "resolve", stored)
    adapter_of(spec("s3://b/m", adapter_at(tmp_path / "a", base_model_name_or_path=copy)))
    assert not warned
    with refused("conflict", naming="which is 8"):
        adapter_of(spec("s3://b/m", adapter_at(tmp_path / "b", WIDE, base_model_name_or_path=copy)))


def test_an_engines_machine_must_have_the_same_adapter(base: str, tmp_path: Path) -> None:
    known = adapter_of(spec(base, adapter_at(tmp_path / "a")))
    check_here(known, Path(base))
    node = os.uname().nodename
    file = tmp_path / "a" / "adapter_model.safetensors"
    kept = file.read_bytes()
    file.write_bytes(bytes([*kept[:-1], kept[-1] ^ 1]))
    with refused("conflict", naming=f"{tmp_path / 'a'} is another one on {node}"):
        check_here(known, Path(base))
    file.unlink()  # an image of a node may have an older folder, or half of it
    with refused("missing_file", naming=f"not found on {node}: {tmp_path / 'a'}."):
        check_here(known, Path(base))
    shutil.rmtree(tmp_path / "a")
    with refused("missing_file", naming=f"not found on {node}: {tmp_path / 'a'}."):
        check_here(known, Path(base))


def test_what_the_driver_cannot_compare_the_engines_machine_does(base: str, tmp_path: Path) -> None:
    """The driver of a cluster may have the tokenizer alone, or some of the weights."""
    driver = tmp_path / "driver"
    shutil.copytree(base, driver)
    (driver / "model.safetensors").rename(driver / "model-00001-of-00002.safetensors")
    shards = dict.fromkeys(BASE, "model-00001-of-00002.safetensors") | {"b": "model-00002-of-00002.safetensors"}
    (driver / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    folder = Path(adapter_at(tmp_path / "a", FOREIGN))
    assert misfit(folder, driver) == ""
    known = adapter_of(spec(base, adapter_at(tmp_path / "b")))._replace(path=folder, fingerprint=_fingerprint(folder))
    with refused("conflict", naming="model.layers.7."):
        check_here(known, Path(base))


@pytest.mark.engine
def test_an_engine_without_its_adapter_does_not_start(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.engine_stage import NodeEngine, vLLMEngineStageUDF

    started: list[str] = []

    def start(self: Any, model: str, **settings: Any) -> None:
        started.append(model)
        self.llm = SimpleNamespace()

    monkeypatch.setattr(vLLMEngineStageUDF, "__init__", start)
    known = adapter_of(spec(base, adapter_at(tmp_path / "a")))
    assert NodeEngine(model=base, base="/on/the/driver", adapters=[known]).llm.model == "/on/the/driver"
    shutil.rmtree(tmp_path / "a")
    with refused("missing_file", naming=str(tmp_path / "a")):
        NodeEngine(model=base, base="/on/the/driver", adapters=[known])
    assert started == [base]


def test_the_engine_has_room_for_the_largest_rank_and_all_layers(base: str, tmp_path: Path) -> None:
    few = {"model.layers.0.self_attn.q_proj": (6, 4)}
    made = [adapter_at(tmp_path / "a", few, rank=1), adapter_at(tmp_path / "b", rank=17)]
    found = [adapter_of(spec(base, one)) for one in made]
    assert lora_arguments(found, tokens_on_cpu=None) == {
        "enable_lora": True,
        "max_loras": 2,
        "max_lora_rank": 32,
        "lora_target_modules": ["down_proj", "q_proj"],
    }
    assert lora_arguments(found[:1], tokens_on_cpu=None)["max_lora_rank"] == 1
    assert lora_arguments([], tokens_on_cpu=None) == {}
    assert "enable_lora" not in vllm_arguments(spec(base, made[0]))["engine_kwargs"]


def test_on_a_cpu_one_place_stays_empty_and_a_step_is_smaller(base: str, tmp_path: Path) -> None:
    one = spec(base, adapter_at(tmp_path / "a"))
    found = adapter_of(one)
    assert found.width == 8
    told = vllm_arguments(one, adapters=[found])["engine_kwargs"]
    assert (told["max_loras"], told["max_num_batched_tokens"]) == (2, 4096)
    # A GiB of copies: 2^30 / (4 bytes x rank 64 x 8,960 outputs) = 468 tokens; never fewer than the 256 requests.
    wide = found._replace(rank=50, width=8960)
    assert vllm_arguments(one, adapters=[found, wide])["engine_kwargs"]["max_num_batched_tokens"] == 468
    wide = found._replace(rank=256, width=8960)
    assert vllm_arguments(one, adapters=[wide])["engine_kwargs"]["max_num_batched_tokens"] == 256
    # A sampled request on a CPU is prefilled as a whole.
    assert vllm_arguments(one, sampled=True, adapters=[wide])["engine_kwargs"]["max_num_batched_tokens"] == 2048


def test_the_ranks_are_those_of_vllm() -> None:
    lora = pytest.importorskip("vllm.config.lora")
    assert lora.MaxLoRARanks.__args__ == RANKS


def test_each_row_goes_to_its_adapter_or_to_the_base() -> None:
    folders = {"": "/m", "/a": "/a"}
    row = {"prompt_ids": [1], "label_ids": [], "json_schema": "", "error": ""}
    told = [
        _to_engine({**row, **more}, Sampling(), folders=folders)["model"]
        for more in ({ADAPTER: "/a"}, {ADAPTER: ""}, {})
    ]
    assert told == ["/a", "/m", "/m"]
    assert "model" not in _to_engine({**row, ADAPTER: ""}, Sampling())
    # An engine without LoRA does not see the column.
    batch = {"prompt": ["p"], "reply_prefix": [""], "labels": [[]], "json_schema": [""], ADAPTER: [""], "id": ["i"]}
    kept, requests = _requests(batch, Sampling())
    assert (kept, len(requests)) == ({"id": ["i"]}, 1)


def test_a_base_whose_weights_are_on_other_machines_is_not_fetched(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer").mkdir()
    asked: list[dict[str, Any]] = []

    def resolve(source: str, **options: Any) -> models.ModelFolder:
        asked.append(options)
        return models.ModelFolder(source, tmp_path / "tokenizer", "f", "hub", f"{source}@abc")

    monkeypatch.setattr(models, "resolve", resolve)
    one = spec("org/m", adapter_at(tmp_path / "a", base_model_name_or_path="org/m"))
    assert adapter_of(one).rank == 2
    assert [options["weights"] for options in asked] == [False]
