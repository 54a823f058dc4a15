"""Data sets of the Hugging Face hub, with a stub in place of the package: names, rows, hashes, errors."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from judging import hub
from judging.datasets import read_records
from judging.readers import places_of
from judging.records import Record
from tests.judging.ratedfiles import RECORD, row
from tests.refusals import refused


class Stub(types.ModuleType):
    """The package `datasets` as far as it is used. `asked`: the arguments of each call."""

    def __init__(self, rows: Any) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[Any, ...]] = []
        self.rows = rows
        self.exceptions = types.SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))

    def load_dataset(self, repo: str, config: str | None, *, split: str, revision: str | None) -> Any:
        self.asked.append((repo, config, split, revision))
        if isinstance(self.rows, type) and issubclass(self.rows, Exception):
            raise self.rows("no such set.\nsecond line")
        return self.rows


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    hub._load.cache_clear()
    hub._hash.cache_clear()


def stubbed(monkeypatch: pytest.MonkeyPatch, rows: Any) -> Stub:
    stub = Stub(rows)
    monkeypatch.setitem(sys.modules, "datasets", stub)
    return stub


def test_the_rows_of_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = stubbed(monkeypatch, [row(), row(id="r2"), row()])
    first, second, third = read_records(["hf://someone/answers:test"])
    assert first == RECORD and isinstance(second, Record)
    assert str(third) == (
        "hf://someone/answers:test, line 3: duplicate id 'r1', first in hf://someone/answers:test, line 1"
    )
    assert stub.asked == [("someone/answers", None, "test", None)]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("hf://a/b/c:test", ("a/b", "c", "test", None)),
        ("hf://datasets/a/b:train[:10%]", ("a/b", None, "train[:10%]", None)),
        ("hf://a-1/b.2@v1.0:dev", ("a-1/b.2", None, "dev", "v1.0")),
        ("hf://a/b/c_d@refs/pr/1:test", ("a/b", "c_d", "test", "refs/pr/1")),
    ],
)
def test_names_of_data_sets(monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[Any, ...]) -> None:
    stub = stubbed(monkeypatch, [row()])
    assert places_of(name) == [name] and list(read_records([name])) == [RECORD] and stub.asked == [asked]


@pytest.mark.parametrize("name", ["hf://", "hf://a", "hf://a/b", "hf://a/b:", "hf://a/b/c/d:test", "hf://a b/c:test"])
def test_a_name_without_owner_or_split(name: str) -> None:
    with refused("invalid_value", "data.records", naming="hf://OWNER/NAME:SPLIT"):
        list(read_records([name]))


@pytest.mark.parametrize("error", [FileNotFoundError, ValueError, ConnectionError, RuntimeError])
def test_a_data_set_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    stubbed(monkeypatch, error)
    with refused("missing_file", "data.records", naming="hf://a/b:test could not be loaded: no such set. "):
        list(read_records(["hf://a/b:test"]))


def test_without_the_package_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # import raises ImportError
    with refused("missing_package", "data.records", naming="pip install datasets"):
        list(read_records(["hf://a/b:test"]))


def test_the_hash_does_not_depend_on_places_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = []
    kept = [object(), object()]
    for one in kept:
        stubbed(monkeypatch, [{"image": one}])
        hashes.append(hub._hash("hf://a/b:test"))
        hub._load.cache_clear()
        hub._hash.cache_clear()
    assert hashes[0] == hashes[1]


def test_the_hash_is_that_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = stubbed(monkeypatch, [row(), {"when": object}])
    before = hub.hub_hashes(["hf://a/b:test", "x.jsonl"])
    assert list(before) == ["hf://a/b:test"] and len(before["hf://a/b:test"]) == 64
    assert hub.hub_hashes(["hf://a/b:test"]) == before and len(stub.asked) == 1  # loaded once
    hub._load.cache_clear()
    hub._hash.cache_clear()
    stub.rows = [row(candidate="Else."), {"when": object}]
    assert hub.hub_hashes(["hf://a/b:test"]) != before
