"""Models on many nodes: what the driver passes on, and what each node makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster import models
from cluster.errors import UserError
from cluster.model_hub import fetching
from cluster.run_store import mirror_of, opened_run
from tests.cluster.fake_hub import Hub, fake_hub

FIRST, SECOND = "1" * 40, "2" * 40
ROOT = Path(__file__).parents[2]


def model(place: Path, *, value: float = 0.0) -> Path:
    """A model folder that is complete by name, with real safetensors files."""
    place.mkdir(parents=True)
    (place / "config.json").write_text('{"model_type": "llama"}')
    (place / "tokenizer.json").write_text("{}")
    save_file({"a": np.full((4, 4), value, np.float32)}, place / "model.safetensors")
    return place


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with fake_hub() as found:
        found.add(model(tmp_path / "published"), FIRST)
        yield found


def started(words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """A process of a node: the hub's library reads its settings once, when it is imported."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    command = [sys.executable, "-c", f"from cluster import models\nfrom pathlib import Path\n{words}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**known, **env}, text=True, **pipes)


def told(words: str, env: dict[str, str]) -> str:
    out, err = started(words, env).communicate(timeout=120)
    return out.strip() or err.strip().splitlines()[-1]


def test_a_node_gets_a_hub_model_once_for_all_its_processes(hub: Hub, tmp_path: Path) -> None:
    on_node = f"print(models.local_folder('org/name@{FIRST}'))"
    several = [started(on_node, hub.environment(tmp_path / "node")) for _ in range(2)]
    folders = {one.communicate(timeout=120)[0].strip() for one in several}
    assert folders == {str(tmp_path / "node" / "hub" / "models--org--name" / "snapshots" / FIRST)}
    assert sorted(hub.log) == ["config.json", "model.safetensors", "tokenizer.json"]
    # Another node has a cache of its own.
    assert str(tmp_path / "other") in told(on_node, hub.environment(tmp_path / "other"))
    assert hub.log.count("model.safetensors") == 2


def test_the_driver_reads_no_weights_and_a_run_keeps_its_commit(hub: Hub, tmp_path: Path) -> None:
    on_driver = (
        f"with models.looked_up_once(Path({str(tmp_path / 'run')!r})):\n"
        "    print(models.resolve('org/name', weights=False).reference)"
    )
    env = hub.environment(tmp_path / "driver")
    assert told(on_driver, env) == f"org/name@{FIRST}"
    assert "model.safetensors" not in hub.log
    hub.add(model(tmp_path / "later", value=1), SECOND)
    assert told("print(models.resolve('org/name').reference)", hub.environment(tmp_path / "x")) == f"org/name@{SECOND}"
    for name in ("driver", "another machine"):
        assert told(on_driver, hub.environment(tmp_path / name)) == f"org/name@{FIRST}"
    assert json.loads((tmp_path / "run" / "models.json").read_text()) == {"org/name": FIRST}
    of_branch = on_driver.replace("'org/name'", "'org/name', revision='main'")
    assert told(of_branch, hub.environment(tmp_path / "y")) == f"org/name@{SECOND}"
    assert json.loads((tmp_path / "run" / "models.json").read_text())["org/name@main"] == SECOND
    of_commit = on_driver.replace("'org/name'", f"'org/name', revision='{FIRST}'")
    assert told(of_commit, env) == f"org/name@{FIRST}"
    assert len(json.loads((tmp_path / "run" / "models.json").read_text())) == 2


def test_a_model_without_all_its_weights_is_refused_on_the_node(hub: Hub, tmp_path: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    files = hub.commits[FIRST]
    files[shards["a"]] = files.pop("model.safetensors")
    files["model.safetensors.index.json"] = json.dumps({"weight_map": shards}).encode()
    said = told(f"models.local_folder('org/name@{FIRST}')", hub.environment(tmp_path / "node"))
    assert f"UserError: Model org/name@{FIRST} of the hub lacks {shards['b']}" in said


def test_the_token_of_a_file_opens_a_model_and_none_says_so(hub: Hub, tmp_path: Path) -> None:
    hub.token = "secret"
    (tmp_path / "token").write_text("secret\n")
    on_node = f"print(models.local_folder('org/name@{FIRST}'))"
    refused = told(on_node, hub.environment(tmp_path / "node"))
    assert "UserError: Model org/name@" in refused
    assert "secret" not in refused
    env = {**hub.environment(tmp_path / "node"), "HF_TOKEN_PATH": str(tmp_path / "token")}
    assert told(on_node, env).endswith(FIRST)


def test_a_training_worker_asks_the_hub_for_its_model_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    env = {**hub.environment(tmp_path / "node"), **fetching()}
    place = str(tmp_path / "node" / "hub" / "models--org--name" / "snapshots" / FIRST)
    words = f"print(models.local_folder('org/name@{FIRST}'))\nfrom huggingface_hub import constants as c"
    assert told(f"{words}\nprint(c.HF_HUB_OFFLINE)", env).splitlines() == [place, "True"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    env = {**hub.environment(tmp_path / "offline"), **fetching()}
    assert "UserError" in told(words, env)


def test_a_folder_that_a_node_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="on a file system that all nodes mount") as caught:
        models.local_folder(str(tmp_path / "only on the driver"))
    assert caught.value.code == "missing_file"
    assert models.local_folder(str(tmp_path)) == str(tmp_path)


def test_a_model_in_a_store_is_downloaded_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = model(tmp_path / "bucket" / "qwen").as_uri()
    (tmp_path / "bucket" / "qwen" / "original").mkdir()
    (tmp_path / "bucket" / "qwen" / "original" / "consolidated.safetensors").touch()
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "driver"))
    light = models.resolve(address, weights=False)
    assert sorted(path.name for path in light.path.iterdir()) == ["config.json", "tokenizer.json"]
    whole = models.resolve(address)
    assert (light.fingerprint, light.reference) == (whole.fingerprint, whole.reference)
    assert sorted(path.name for path in whole.path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    models.local_folder.cache_clear()
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "node"))
    folder = Path(models.local_folder(whole.reference))
    assert folder == tmp_path / "node" / "models" / "stores" / whole.path.name
    # What is there is used without the store.
    shutil.rmtree(tmp_path / "bucket")
    models.local_folder.cache_clear()
    assert models.local_folder(whole.reference) == str(folder)
    with pytest.raises(UserError, match="has no files"):
        models.resolve((tmp_path / "nothing").as_uri())


def test_a_model_in_a_store_that_is_broken_or_has_changed_never_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    place = model(tmp_path / "bucket" / "qwen")
    weights = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(UserError, match=r"lacks the rest of model\.safetensors"):
        models.resolve(place.as_uri())
    (place / "model.safetensors").write_bytes(weights)
    reference = models.resolve(place.as_uri(), weights=False).reference
    time.sleep(0.01)
    (place / "model.safetensors").write_bytes(weights)
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "node"))
    with pytest.raises(UserError, match="has changed in the store") as caught:
        models.local_folder(reference)
    assert caught.value.code == "other_configuration"
    assert not [path for path in (tmp_path / "node").rglob("*") if path.suffix in (".json", ".safetensors")]
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights"):
        models.resolve(place.as_uri())


def test_a_model_of_a_run_on_a_store_is_sent_before_it_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "driver"))
    address = (tmp_path / "bucket" / "run").as_uri()
    with opened_run(mirror_of(address)):
        folder = model(mirror_of(address) / "fit-judge" / "models" / "cut")
        reference = models.resolve(str(folder)).reference
        assert reference.startswith(f"{address}/fit-judge/models/cut#")
        models.local_folder.cache_clear()
        monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "node"))
        here = Path(models.local_folder(reference))
    assert here.is_relative_to(tmp_path / "node")
    assert (here / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
