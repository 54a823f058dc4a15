"""Model sources: what is accepted, what is refused with which code, and what a fingerprint stands for."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster import models
from cluster.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder that is complete by name, with real safetensors files."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text('{"model_type": "llama"}')
    (place / "tokenizer.json").write_text("{}")
    save_file({"a": np.zeros((4, 4), np.float32)}, place / "model.safetensors")
    return place


def refusal(code: str, source: str, **options: object) -> str:
    """The message of a source that is refused with that code."""
    with pytest.raises(UserError) as caught:
        models.resolve(source, **options)
    assert (caught.value.code, caught.value.key) == (code, "")
    return str(caught.value)


def test_a_local_folder_is_found_by_any_spelling(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [
        models.resolve(source, cache_dir=tmp_path / "c") for source in (str(folder), "./model", "model", "~/model")
    ]
    assert {model.path for model in found} == {folder}
    assert {model.kind for model in found} == {"local"}
    assert len({model.fingerprint for model in found}) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("config.json", "config.json"), ("model.safetensors", "(the weights)"), ("tokenizer.json", "tokenizer files")],
)
def test_a_missing_piece_is_named(folder: Path, tmp_path: Path, name: str, words: str) -> None:
    (folder / name).unlink()
    message = refusal("missing_file", str(folder), cache_dir=tmp_path)
    assert words in message
    assert str(folder) in message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "last.ckpt"])
def test_pickled_weights_are_refused_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    message = refusal("unsupported", str(folder), cache_dir=tmp_path)
    assert f"({name})" in message
    assert "save_pretrained" in message


def test_a_module_of_an_encoder_may_be_no_pickle_either(folder: Path, tmp_path: Path) -> None:
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").touch()
    assert "(2_Dense/pytorch_model.bin)" in refusal("unsupported", str(folder), cache_dir=tmp_path)


def test_a_pickle_beside_safetensors_is_never_loaded_and_does_not_matter(folder: Path, tmp_path: Path) -> None:
    (folder / "training_args.bin").touch()
    (folder / "original").mkdir()
    (folder / "original" / "consolidated.00.pth").touch()  # a publisher's own format, which no loader here looks at
    assert models.resolve(str(folder), cache_dir=tmp_path).path == folder


def test_every_shard_of_the_index_must_be_there(folder: Path, tmp_path: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model.safetensors").rename(folder / shards["a"])
    assert f"lacks {shards['b']}." in refusal("missing_file", str(folder), cache_dir=tmp_path)
    shutil.copy(folder / shards["a"], folder / shards["b"])
    assert models.resolve(str(folder), cache_dir=tmp_path).path == folder
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "a readable model.safetensors.index.json" in refusal("missing_file", str(folder), cache_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "cut"])
def test_weights_that_are_not_whole_are_refused(folder: Path, tmp_path: Path, content: bytes | str) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] if isinstance(content, str) else content)
    assert "the rest of model.safetensors" in refusal("missing_file", str(folder), cache_dir=tmp_path)


def test_a_fingerprint_is_of_the_content(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = models.resolve(str(folder), cache_dir=tmp_path).fingerprint
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert models.resolve(str(copy), cache_dir=tmp_path).fingerprint == first
    save_file({"a": np.ones((4, 4), np.float32)}, copy / "model.safetensors")
    assert models.resolve(str(copy), cache_dir=tmp_path).fingerprint != first
    # Unchanged files are not read again.
    monkeypatch.setattr(models, "sha256", lambda path: pytest.fail(f"hashed {path} again"))
    assert models.resolve(str(folder), cache_dir=tmp_path).fingerprint == first


def test_a_job_looks_a_model_up_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    look_up = models._look_up
    monkeypatch.setattr(models, "_look_up", lambda *args: looked_up.append(args[0]) or look_up(*args))
    with models.looked_up_once():
        first = models.resolve(str(folder))
        with models.looked_up_once():  # a job that runs another: `certify` evaluates
            assert models.resolve(str(folder)) is first
        assert models.resolve(str(folder)) is first
        with pytest.raises(UserError):
            models.resolve(str(folder.parent / "none"))
    assert looked_up == [str(folder), str(folder.parent / "none")]
    save_file({"a": np.ones((4, 4), np.float32)}, folder / "model.safetensors")
    with models.looked_up_once():  # the next job sees the weights as they are now
        assert models.resolve(str(folder)).fingerprint != first.fingerprint


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The commit of `main` of each model of a hub, which has all commits."""
    commits: dict[str, str] = {}

    def snapshot(repo: str, revision: str | None, *, weights: bool) -> Path:
        return tmp_path / "hub" / repo / (revision or commits[repo])

    monkeypatch.setattr("cluster.model_hub.snapshot", snapshot)
    return commits


def test_a_commit_that_another_job_of_the_run_has_kept_meanwhile_is_used(
    published: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "run" / "models.json"
    published |= {"org/a": "3" * 40, "org/b": "3" * 40}
    with models.looked_up_once(tmp_path / "run"):
        file.parent.mkdir()
        file.write_text(json.dumps({"org/a": "1" * 40, "org/c": "1" * 40}))
        for _ in range(2):
            assert models.resolve("org/a").reference == f"org/a@{'1' * 40}"
        assert models.resolve("org/b").reference == f"org/b@{'3' * 40}"
    assert json.loads(file.read_text()) == {"org/a": "1" * 40, "org/b": "3" * 40, "org/c": "1" * 40}


def test_jobs_at_once_keep_all_commits_and_one_of_each_model(tmp_path: Path) -> None:
    file = tmp_path / "run" / "models.json"

    def pin(number: int) -> str:
        return models._pin(models._Job({}, {}, file), f"org/{number % 20}", f"commit {number}")

    with ThreadPoolExecutor(8) as pool:
        used = list(pool.map(pin, range(40)))
    kept = json.loads(file.read_text())
    assert len(kept) == 20
    assert used == [kept[f"org/{number % 20}"] for number in range(40)]


def test_a_hash_cache_that_is_damaged_or_not_writable_only_costs_time(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "hashes.json").write_text("{")
    first = models.resolve(str(folder), cache_dir=tmp_path).fingerprint
    (tmp_path / "a file").touch()
    assert models.resolve(str(folder), cache_dir=tmp_path / "a file").fingerprint == first


def test_names_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    assert "must be one of smollm2-135m-instruct, gemma3-270m, " in refusal("unknown_model", "embedded:gpt-5")
    assert "'gpt2'" in refusal("unknown_model", "gpt2")
    assert str(tmp_path / "nowhere") in refusal("missing_file", str(tmp_path / "nowhere"))
    assert "'main'" in refusal("conflict", "embedded:gemma3-270m", revision="main")


def run_resolve(source: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Resolve in a process of its own: the hub's library reads its settings once, when it is imported."""
    words = "from cluster.models import resolve; import sys; m = resolve(sys.argv[1]); print(m.kind, m.path.name)"
    return subprocess.run(
        [sys.executable, "-c", words, source],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_id_offline_comes_from_the_local_cache_or_says_the_way_out(folder: Path, tmp_path: Path) -> None:
    missing = run_resolve("org/name", tmp_path / "empty")
    assert "UserError: Model org/name" in missing.stderr
    assert "`inverdict models fetch org/name`" in missing.stderr

    commit = "0123456789" * 4
    place = tmp_path / "home" / "hub" / "models--org--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)
    assert run_resolve("org/name", tmp_path / "home").stdout.split() == ["hub", commit]
    module = place / "snapshots" / commit / "2_Dense"
    module.mkdir()
    (module / "pytorch_model.bin").touch()
    assert "(2_Dense/pytorch_model.bin)" in run_resolve("org/name", tmp_path / "home").stderr
    shutil.rmtree(module)
    (place / "snapshots" / commit / "config.json").unlink()
    assert "UserError: Model org/name" in run_resolve("org/name", tmp_path / "home").stderr


def test_the_module_loads_no_heavy_library() -> None:
    words = "import cluster.models, sys; print({'ray', 'torch', 'transformers', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", words]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
