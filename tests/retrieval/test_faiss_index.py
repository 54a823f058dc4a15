"""Indexes of examples: exact against numpy, saved and loaded, added to; what is broken or foreign is refused."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from retrieval.faiss_index import Example, ExampleIndex, Kind, recall
from tests.refusals import refused


def unit(num: int, dimension: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(num: int, first: int = 0) -> list[Example]:
    return [Example(f"e{place}", f"g{place // 3}") for place in range(first, first + num)]


def built(num: int = 200, kind: Kind = "flat") -> ExampleIndex:
    return ExampleIndex.build(unit(num), named(num), kind=kind, made_by="towers")


def test_flat_search_is_exact() -> None:
    queries = unit(5, seed=1)
    scores, rows = built().search(queries, 7)
    expected = np.argsort(-(queries @ unit(200).T), axis=1)[:, :7]
    assert rows.tolist() == expected.tolist()
    assert scores[0, 0] == pytest.approx(float((queries @ unit(200).T)[0].max()), abs=1e-6)


def test_more_than_there_are_gives_all() -> None:
    scores, rows = built(3).search(unit(2, seed=1), 10)
    assert scores.shape == rows.shape == (2, 3)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_saved_and_loaded_finds_the_same(kind: Kind, tmp_path: Path) -> None:
    index = built(kind=kind)
    index.save(tmp_path / "i")
    loaded = ExampleIndex.load(tmp_path / "i", made_by="towers")
    assert (loaded.kind, loaded.examples, loaded.dimension) == (kind, index.examples, 16)
    queries = unit(9, seed=2)
    assert loaded.search(queries, 4)[1].tolist() == index.search(queries, 4)[1].tolist()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_recall_of_an_approximate_index_is_measured(kind: Kind) -> None:
    queries = unit(50, seed=3)
    exact = built(2000)
    assert recall(exact, exact, queries, 4) == 1
    # Random vectors are the hardest case: a tenth of the lists holds little more than a tenth of the near ones.
    assert 0.15 < recall(built(2000, kind), exact, queries, 4) <= 1


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_added_examples_are_found_after_a_load_too(kind: Kind, tmp_path: Path) -> None:
    index = built(kind=kind)
    index.save(tmp_path / "i")
    loaded = ExampleIndex.load(tmp_path / "i", made_by="towers")
    new = unit(5, seed=9)
    loaded.add(new, named(5, first=200))
    loaded.save(tmp_path / "i")
    again = ExampleIndex.load(tmp_path / "i", made_by="towers")
    assert len(again) == 205
    assert [again.examples[row].id for row in again.search(new, 1)[1][:, 0]] == [
        f"e{place}" for place in range(200, 205)
    ]


def test_what_cannot_be_added() -> None:
    index = built(4)
    with refused("duplicate_id", naming="'e3'"):
        index.add(unit(1), [Example("e3", "g")])
    with refused("duplicate_id", naming="'new'"):
        index.add(unit(2), [Example("new", "g"), Example("new", "g")])
    with refused("other_configuration", naming="16 dimensions, the new embeddings have 8"):
        index.add(unit(1, 8), [Example("new", "g")])
    with refused("damaged_artifact", naming="embedding"):
        index.add(np.full((1, 16), np.nan, dtype=np.float32), [Example("new", "g")])
    assert len(index) == 4


def test_nothing_and_no_numbers_are_refused() -> None:
    with refused("no_records"):
        ExampleIndex.build(np.zeros((0, 4)), [], kind="flat", made_by="t")
    with refused("damaged_artifact", naming="embedding"):
        ExampleIndex.build(np.array([[np.inf, 0]]), named(1), kind="flat", made_by="t")
    with refused("damaged_artifact", naming="query"):
        built().search(np.full((1, 16), np.nan), 1)


def tampered(folder: Path) -> None:
    data = bytearray((folder / "index.faiss").read_bytes())
    data[-1] ^= 1
    (folder / "index.faiss").write_bytes(data)


def truncated(folder: Path) -> None:
    (folder / "index.faiss").write_bytes((folder / "index.faiss").read_bytes()[:100])


def foreign_ids(folder: Path) -> None:
    ExampleIndex.build(unit(200), named(200, first=7), kind="flat", made_by="towers").save(folder.parent / "other")
    (folder / "examples.parquet").write_bytes((folder.parent / "other" / "examples.parquet").read_bytes())


def no_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def other_count(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "num_examples": 199}))


def gone(folder: Path) -> None:
    (folder / "examples.parquet").unlink()


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (tampered, "index.faiss"),
        (truncated, "index.faiss"),
        (foreign_ids, "examples.parquet"),
        (gone, "examples.parquet"),
        (no_json, "i/manifest.json"),
        (other_count, "i does not match its manifest.json"),
    ],
)
def test_a_broken_index_is_refused(harm, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built().save(tmp_path / "i")
    harm(tmp_path / "i")
    if harm is not other_count:
        # FAISS never sees a file that the manifest does not vouch for.
        monkeypatch.setattr(faiss, "read_index", None)
    with refused("damaged_artifact", naming=file):
        ExampleIndex.load(tmp_path / "i", made_by="towers")


def test_an_index_of_other_towers_or_none_is_refused(tmp_path: Path) -> None:
    built().save(tmp_path / "i")
    with refused("other_configuration", naming=str(tmp_path / "i")):
        ExampleIndex.load(tmp_path / "i", made_by="others")
    with refused("missing_job", naming=str(tmp_path / "none")):
        ExampleIndex.load(tmp_path / "none", made_by="towers")
