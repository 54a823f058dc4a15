"""What decides a result: models without speed and place, weights and input files by content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster.config import RunConfig
from cluster.identity import input_hashes, model_identity, spec_of
from cluster.model_specs import HttpSpec, ScriptedSpec, ScriptRule, VllmSpec
from tests.refusals import refused

RUN = RunConfig(run=Path("r"), models={"m": {"backend": "scripted"}, "n": {"source": "x"}})
HTTP: dict[str, Any] = {"backend": "http", "base_url": "http://h/v1", "model": "m"}


def test_a_model_is_found_by_its_name() -> None:
    assert spec_of(RUN, "n", "distill.models") == VllmSpec(source="x")


@pytest.mark.parametrize("name", ["none", "", "M"])
def test_an_unknown_model_is_named_with_its_place(name: str) -> None:
    with refused("unknown_model", "distill.models", naming=repr(name)):
        spec_of(RUN, name, "distill.models")
    with refused("unknown_model", "distill.models", naming="m, n"):
        spec_of(RUN, name, "distill.models")


def test_without_any_model_the_message_says_so() -> None:
    with refused("unknown_model", "a", naming="no `models`"):
        spec_of(RunConfig(run=Path("r")), "m", "a")


@pytest.mark.parametrize(
    ("changed", "is_other"),
    [
        ({"timeout_s": 1}, False),
        ({"max_retries": 0}, False),
        ({"max_in_flight": 2}, False),
        ({"num_engines": 3}, False),
        ({"api_key_env": "KEY"}, False),
        ({"api_key_file": "key.txt"}, False),
        ({"model": "other"}, True),
        ({"base_url": "http://other/v1"}, True),
        ({"json_schema": False}, True),
    ],
)
def test_an_endpoint_is_its_address_and_model(changed: dict[str, Any], is_other: bool) -> None:
    other = model_identity(HttpSpec(**{**HTTP, **changed}))
    assert (other != model_identity(HttpSpec(**HTTP))) is is_other
    # Neither a key nor where it lies gets into a file.
    assert not {"api_key_env", "api_key_file"} & other.keys()


@pytest.mark.parametrize(
    ("changed", "is_other"),
    [
        ({"delay_s": 1}, False),
        ({"num_engines": 3}, False),
        ({"garbage_share": 0.5}, True),
        ({"max_prompt_chars": 9}, True),
        ({"rules": (ScriptRule(contains="x", reply="y"),)}, True),
    ],
)
def test_a_scripted_model_is_its_rules(changed: dict[str, Any], is_other: bool) -> None:
    other = model_identity(ScriptedSpec(backend="scripted", **changed))
    assert (other != model_identity(ScriptedSpec(backend="scripted"))) is is_other


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder that is complete by name; hashes are cached below the test's own folder."""
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "tokenizer.json").write_text("{}")
    save_file({"a": np.zeros(4, np.float32)}, place / "model.safetensors")
    return place


@pytest.mark.parametrize(
    ("changed", "is_other"),
    [
        ({"num_gpus": 0}, False),
        ({"num_cpus": 4}, False),
        ({"num_engines": 2}, False),
        ({"num_engines": (1, 4)}, False),
        ({"batch_size": 8}, False),
        ({"kv_cache_gib": 1}, False),
        ({"accelerator_type": "A100"}, False),
        ({"resources": {"batch": 0.001}}, False),
        ({"tensor_parallel_size": 2}, False),
        ({"pipeline_parallel_size": 2}, False),
        ({"max_model_len": 512}, True),
        ({"prompt_style": "completion"}, True),
        ({"dtype": "bfloat16"}, True),
        ({"engine": {"seed": 1}}, True),
    ],
)
def test_a_model_of_ours_is_its_specification_without_speed(
    folder: Path, changed: dict[str, Any], is_other: bool
) -> None:
    known = model_identity(VllmSpec(source=str(folder)))
    assert (model_identity(VllmSpec(source=str(folder), **changed)) != known) is is_other


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_of_ours_is_its_weights_and_files(folder: Path, name: str) -> None:
    before = model_identity(VllmSpec(source=str(folder)))
    if name == "model.safetensors":
        save_file({"a": np.ones(4, np.float32)}, folder / name)
    else:
        (folder / name).write_text('{"a": 1}')
    after = model_identity(VllmSpec(source=str(folder)))
    assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_a_model_that_is_not_there_is_the_users_mistake(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with refused("missing_file", naming="(the weights)"):
        model_identity(VllmSpec(source=str(folder)))


def test_input_files_and_folders_are_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.parquet").write_text("2")
    paths = [str(tmp_path / "a.jsonl"), str(tmp_path / "b")]
    known = input_hashes(paths)
    # sha256 of the one character "1", as `printf 1 | sha256sum` prints it.
    assert known[paths[0]] == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert list(known) == paths
    (tmp_path / "b" / "x.parquet").write_text("3")
    changed = input_hashes(paths)
    assert (changed[paths[0]] == known[paths[0]], changed[paths[1]] == known[paths[1]]) == (True, False)
    (tmp_path / "b" / "x.parquet").write_text("2")
    assert input_hashes(paths) == known
    (tmp_path / "b" / "x.parquet").rename(tmp_path / "b" / "y.parquet")
    assert input_hashes(paths) != known


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    with refused("missing_file", naming=f"{tmp_path}/none.jsonl"):
        input_hashes([str(tmp_path / "a"), str(tmp_path / "none.jsonl")])


def test_paths_may_come_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    assert list(input_hashes(str(path) for path in [tmp_path / "a"])) == [str(tmp_path / "a")]


def test_an_input_that_is_no_file_has_a_known_hash(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("a")
    found = input_hashes([str(file), "hf://a/b:test"], {"hf://a/b:test": "h"})
    assert found == {**input_hashes([str(file)]), "hf://a/b:test": "h"}
    with refused("missing_file", naming="hf://a/b:dev"):
        input_hashes(["hf://a/b:dev"], {})
