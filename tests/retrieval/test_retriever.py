"""The retriever's arms: order, leaks, merging, one and many alike; and the job `index` that it searches."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster import models
from cluster.__main__ import main
from judging.records import Record
from retrieval.faiss_index import Example, ExampleIndex
from retrieval.retriever import Arm, Retriever, merged, semantic_encoder, semantic_folder
from tests.refusals import refused
from tests.retrieval.making import configuration, pool_of, rated

POOL = pool_of(32)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("index")
    assert main(["index", configuration(folder, POOL.values(), index={"max_length": 48})]) == 0
    return folder


@pytest.fixture(scope="module")
def retriever(indexed: Path) -> Retriever:
    return Retriever(POOL, folder=indexed / "run" / "index", seed=3)


def query(number: int = 100, subject: str = "chess", **changes: object) -> Record:
    texts = {"source": f"What is known about {subject} in the year 1899?", "candidate": f"It is about {subject} alone"}
    return rated(number, **{"group": "new", **texts, **changes})


@pytest.mark.ray
@pytest.mark.parametrize("arm", ["random", "bm25", "semantic"])
def test_one_alone_and_many_together_get_the_same(arm: Arm, retriever: Retriever) -> None:
    records = [query(), *(rated(number) for number in range(0, 32, 3))]
    together = retriever.retrieve(records, "overall", arm, k=5)
    assert together == [retriever.retrieve([record], "overall", arm, k=5)[0] for record in records]
    assert together == Retriever(POOL, folder=retriever._folder, seed=3).retrieve(records, "overall", arm, k=5)
    assert all(len(set(ids)) == 5 for ids in together)


@pytest.mark.ray
@pytest.mark.parametrize("arm", ["bm25", "semantic"])
def test_the_nearest_stands_last(arm: Arm, retriever: Retriever) -> None:
    (ids,) = retriever.retrieve([query()], "overall", arm, k=4)
    # chess is the fourth of eight subjects: records 6 and 7, and 22 and 23.
    assert set(ids) == {"r6", "r7", "r22", "r23"}
    assert retriever.retrieve([query()], "overall", arm, k=1) == [ids[-1:]]


@pytest.mark.ray
@pytest.mark.parametrize("arm", ["random", "bm25", "semantic"])
def test_leaks_are_never_shown(arm: Arm, retriever: Retriever) -> None:
    own = rated(6)
    (ids,) = retriever.retrieve([own], "overall", arm, k=100)
    assert len(ids) == 30
    assert not {"r6", "r7"} & set(ids)
    copy = query(candidate=POOL["r9"].candidate.replace("says", "said"))
    assert "r9" not in retriever.retrieve([copy], "overall", arm, k=100)[0]


def test_none_shows_nothing_and_an_aspect_without_labels_neither() -> None:
    plain = Retriever(POOL)
    assert plain.retrieve([query()], "overall", "none") == [[]]
    assert plain.retrieve([query(task="story")], "coherence", "random") == [[]]


def test_records_of_several_tasks_keep_their_places() -> None:
    pool = {**POOL, "s": rated(50, id="s", task="story", scores={"coherence": 2.0}, scales=dict(POOL["r0"].scales))}
    pool["s"] = replace(pool["s"], scores={"overall": 2.0})
    found = Retriever(pool).retrieve([query(), query(task="story"), query()], "overall", "random", k=2)
    assert found[1] == ["s"]
    assert found[0] == found[2]
    assert len(found[0]) == 2


def test_merged_has_no_doubles_and_the_best_last() -> None:
    def order(*ids: str) -> Iterator[str]:
        yield from ids

    assert merged(order("a", "b", "c"), order("b", "x", "a", "y"), 2, 2) == ["y", "x", "b", "a"]
    assert merged(order("a"), order("a", "b"), 2, 2) == ["b", "a"]
    assert merged(order(), order("a", "b"), 2, 1) == ["a"]


@pytest.mark.ray
def test_what_the_job_leaves(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = indexed / "run" / "index"
    summary = json.loads((folder / "manifest.json").read_text())["summary"]
    assert summary["indexes"] == {"semantic/qa": {"num_examples": 32, "dimension": 384}}
    index = ExampleIndex.load(semantic_folder(folder, "qa"), made_by=summary["encoders"]["semantic_made_by"])
    assert [example.id for example in index.examples] == list(POOL)
    assert main(["index", str(indexed / "c.yaml")]) == 0
    told = capsys.readouterr()
    assert "done before" in told.err
    assert "semantic/qa: 32 examples, 384 dimensions, flat" in told.out


@pytest.mark.ray
def test_an_approximate_index_tells_its_recall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, POOL.values(), index={"max_length": 48, "kind": "hnsw"})
    assert main(["index", path]) == 0
    assert "recall@4 1.000" in capsys.readouterr().out  # 32 examples are all visited


@pytest.mark.ray
def test_an_index_of_another_pool_or_encoder_is_refused(indexed: Path) -> None:
    smaller = {id: record for id, record in POOL.items() if id != "r6"}
    with refused("other_configuration", "data.pool", naming="'r6'"):
        Retriever(smaller, folder=indexed / "run" / "index").retrieve([query()], "overall", "semantic", k=4)
    with refused("missing_job", naming="inverdict fit"):
        Retriever(POOL, folder=indexed / "run" / "index").retrieve([query()], "overall", "trained")
    with refused("missing_job", naming="`semantic`"):
        Retriever(POOL).retrieve([query()], "overall", "semantic")
    with refused("missing_job", naming=str(indexed / "run" / "nowhere")):
        Retriever(POOL, folder=indexed / "run" / "nowhere")


def test_a_worker_encodes_with_the_commit_that_the_run_has_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(source: str, revision: str | None, *_: object) -> models.ModelFolder:
        commit = revision or "moved-on"  # what the hub has now
        return models.ModelFolder(source, tmp_path / commit, f"f-{commit}", "hub", f"{source}@{commit}")

    monkeypatch.setattr(models, "_look_up", look_up)
    run, examples = tmp_path / "run", [Example(one.id, one.group_key) for one in POOL.values()]
    index = ExampleIndex.build(np.eye(32, dtype=np.float32), examples, kind="flat", made_by="f-pinned/48")
    index.save(semantic_folder(run / "index", "qa"))
    made = {"semantic": "org/name", "semantic_made_by": "f-pinned/48", "trained_made_by": "", "max_length": 48}
    (run / "index" / "manifest.json").write_text(json.dumps({"summary": {"encoders": made}}))
    (run / "models.json").write_text(json.dumps({"org/name": "pinned"}))
    with models.looked_up_once(run):
        encoder = semantic_encoder(run / "index", "diverse")
    assert semantic_encoder(run / "index", "trained") is semantic_encoder(run / "index", "bm25") is None
    # A worker knows no pins, only what is sent to it.
    sent = pickle.loads(pickle.dumps({"pool": POOL, "folder": run / "index", "encoder": encoder}))
    there = Retriever(sent["pool"], folder=sent["folder"], encoder=sent["encoder"])
    there.open([("qa", "overall")], "semantic")
    assert there._model("semantic") == "org/name@pinned"
    with refused("other_configuration"):
        Retriever(POOL, folder=run / "index").open([("qa", "overall")], "semantic")
