"""The registry and `dataset:NAME`: names, local copies, parts, hashes, what is said of a data set that is not here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from cluster.download import COMMIT
from cluster.embedded import cache_root
from cluster.identity import input_hashes
from judging.data_config import DataConfig
from judging.datasets import Rejected, read_records
from judging.hub import hub_hashes
from judging.public_data import places
from judging.public_data.converters import CONVERTERS
from judging.public_data.registry import INSTRUCTIONS, named, registry
from judging.records import Record
from judging.tasks import load_task
from tests.judging.ratedfiles import row
from tests.refusals import refused
from train.instructions import InstructionConfig, read_instructions
from train.inversion.config import Config as InvertConfig


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no local copies."""
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INVERDICT_DATA", raising=False)


def local(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *rows: object) -> Path:
    """A folder of local copies with that file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    monkeypatch.setenv("INVERDICT_DATA", str(folder))
    return path


def test_the_registry_is_complete() -> None:
    taken: list[str] = []
    for name, entry in registry().items():
        taken += [name, *entry.parts]
        assert entry.converter in CONVERTERS, name
        assert COMMIT.fullmatch(entry.revision) or f"`{entry.revision}` is a branch" in entry.note, name
        assert entry.checksums.keys() <= set(entry.files), name
        assert entry.at.format(revision=entry.revision).startswith("https://") and "{revision}" in entry.at, name
        assert all([entry.licence, entry.citation, entry.homepage.startswith("https://")]), name
        assert entry.verified or entry.note, f"{name} does not say what has not been verified"
        if entry.task != INSTRUCTIONS:
            assert all(load_task(task) for task in entry.task.split(", "))
    assert len(set(taken)) == len(taken)
    assert all(name.isidentifier() for name in taken)  # a file name, and safe in YAML


def test_an_unknown_name_is_refused_when_the_configuration_loads() -> None:
    with refused("unknown_dataset", naming="Did you mean 'summeval'?"):
        named("sumeval")
    for build in (
        lambda: DataConfig(records=("dataset:sumeval",)),
        lambda: DataConfig(records=("x.jsonl",), dev=("dataset:sumeval",)),
        lambda: InstructionConfig(files=("dataset:alpaca_of_mine",)),
        lambda: InvertConfig(models=("m",), dev=("dataset:sumeval",)),
    ):
        with pytest.raises(ValidationError, match="Unknown data set"):
            build()
    assert DataConfig(records=("dataset:wmt23_ende",), pool=("x.jsonl",)).records == ("dataset:wmt23_ende",)


def test_local_copies_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.cache_folder() == cache_root() / "data"
    with refused("missing_dataset"):
        places.located("dataset:alce")
    fetched = places.cache_folder() / "alce.jsonl"
    fetched.parent.mkdir(parents=True)
    fetched.write_text("{}\n")
    assert places.located("dataset:alce") == (fetched, None) and places.is_here("dataset:alce")
    own = local(monkeypatch, tmp_path / "own", "alce", row())
    assert places.located("dataset:alce") == (own, None)
    assert places.located("dataset:alce_eli5") == (own, "alce_eli5")


def test_what_is_said_of_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = (
        "Dataset topical_chat is not on this machine. Fetch it with `inverdict data fetch topical_chat`, or set "
        "INVERDICT_DATA to a folder with topical_chat.jsonl."
    )
    with refused("missing_dataset", naming=one):
        list(read_records(["dataset:topical_chat"]))
    with refused("missing_dataset", naming=one):
        hub_hashes(["x.jsonl", "dataset:topical_chat"])
    local(monkeypatch, tmp_path / "own", "topical_chat", row())
    places.check_here(["dataset:topical_chat", "x.jsonl"])
    # A part is fetched with its whole, which is named once.
    with refused("missing_dataset", naming=f"put wmt23.jsonl, hanna.jsonl into {tmp_path}/own (INVERDICT_DATA)"):
        places.check_here(["dataset:wmt23_ende", "dataset:topical_chat", "dataset:wmt23_zhen", "dataset:hanna"])


def test_a_part_has_its_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(id=pair, dataset=pair, task="qa") for pair in ("wmt23_ende", "wmt23_zhen")]
    local(monkeypatch, tmp_path / "own", "wmt23", *rows, {"dataset": "wmt23_zhen"})
    good, bad = read_records(["dataset:wmt23_zhen"], format="csv")  # whatever the format of other files
    assert isinstance(good, Record) and good.id == "wmt23_zhen"
    assert isinstance(bad, Rejected) and (bad.file, bad.line) == ("dataset:wmt23_zhen", 3)
    assert len(list(read_records(["dataset:wmt23"]))) == 3


def test_the_identity_is_the_content_and_not_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["dataset:wmt23_ende"]
    own = local(monkeypatch, tmp_path / "own", "wmt23", row(dataset="wmt23_ende"))
    before = input_hashes(names, hub_hashes(names))
    monkeypatch.delenv("INVERDICT_DATA")
    places.cache_folder().mkdir(parents=True)
    shutil.copy(own, places.cache_folder())
    assert input_hashes(names, hub_hashes(names)) == before and list(before) == names
    (places.cache_folder() / "wmt23.jsonl").write_text(json.dumps(row(dataset="wmt23_ende", candidate="Else.")) + "\n")
    assert input_hashes(names, hub_hashes(names)) != before


def test_an_instruction_set_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(monkeypatch, tmp_path / "own", "sft_roleplay", {"instruction": "Be a pirate.", "input": "", "output": "Arr."})
    (only,) = read_instructions(InstructionConfig(files=("dataset:sft_roleplay",))).instructions
    assert (only.text, only.output) == ("Be a pirate.", "Arr.")
