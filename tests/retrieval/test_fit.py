"""The job `fit`: on a world where it is known what helps, the towers learn it and plain semantic search does not."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer

from cluster import models
from cluster.__main__ import main
from cluster.artifacts import JobDir
from cluster.parts import sound_rows, write_part
from judging.datasets import DataConfig
from judging.errors import InputError
from judging.records import Record, content_id
from retrieval.feedback import SCHEMA
from retrieval.fitting import Query, batches_of, lists_of, mean_ndcg, random_ndcg
from retrieval.pool import pool_identity
from retrieval.retriever import LEARNED, Retriever
from retrieval.settings import Settings
from retrieval.texts import plain_text
from tests.retrieval.making import configuration, jsonl, rated

SUBJECTS = ("rivers", "bread", "planets", "chess", "violins", "glaciers", "bees", "bridges", "coffee", "sheep")
KINDS = ("polite", "angry", "brief", "funny", "formal", "sad")
NUM_QUERIES, NUM_TRIED = 240, 12


def world(number: int) -> Record:
    """A text about a subject, of a kind. What helps depends on the kinds alone: the next kind on the list helps."""
    drawing = random.Random(number)
    subject, kind = drawing.choice(SUBJECTS), drawing.choice(KINDS)
    return rated(number, group=f"g{number}", source=f"About {subject}?", candidate=f"{kind} {subject} answer {number}")


def utility(query: Record, example: Record) -> float:
    kind, other = (KINDS.index(record.candidate.split()[0]) for record in (query, example))
    return 0.9 if other == (kind + 1) % len(KINDS) else 0.4


def feedback(folder: Path, records: list[Record], *, same_pool: bool = True) -> None:
    """What the job `feedback` would leave of this world."""
    job = JobDir(folder, "feedback")
    with job.opened({"by": "hand"}):
        job.claim()
        rows: list[dict[str, Any]] = []
        for query in records:
            others = [record for record in records if record is not query]
            for example in random.Random(query.id).sample(others, NUM_TRIED):
                keys = {"query_id": query.id, "example_id": example.id, "task": "qa", "aspect": "overall"}
                told = {"score": 3.0, "utility": utility(query, example), "label_mass": 1.0, "error": ""}
                rows.append({"id": content_id(*keys.values()), **keys, "arm": "random", **told})
        write_part(job.path, rows, SCHEMA, (row["id"] for row in rows))
        pool = DataConfig(records=("x",), pool=(str(folder.parent / "rated.jsonl"),))
        job.finish({"pool": pool_identity(pool) if same_pool else "another"})


def small_encoder(folder: Path) -> str:
    """The first of MiniLM's six layers: it trains in seconds."""
    from transformers import AutoModel, AutoTokenizer

    source = models.resolve("embedded:all-minilm-l6-v2").path
    model = AutoModel.from_pretrained(source, num_hidden_layers=1)
    model.save_pretrained(folder / "one")
    AutoTokenizer.from_pretrained(source).save_pretrained(folder / "one")
    start = SentenceTransformer(modules=[Transformer(str(folder / "one")), Pooling(384)])
    start.save_pretrained(str(folder / "start"))
    return str(folder / "start")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    records = [world(number) for number in range(NUM_QUERIES)]
    fit = {"encoder": small_encoder(folder), "max_length": 64, "epochs": 4, "patience": 2, "learning_rate": 3e-4}
    judged = jsonl(folder / "judged.jsonl", map(world, range(1000, 1012)))
    judges = {arm: {"model": "m", "icl": {"arm": arm, "k": 4, "k1": 2, "k2": 2}} for arm in ("trained", "diverse")}
    path = configuration(
        folder, records, data={"records": [judged]}, fit=fit, index={"max_length": 64}, evaluate={"judges": judges}
    )
    feedback(folder / "run", records)
    assert main(["fit", path]) == 0
    assert main(["index", path]) == 0
    return folder


def semantic_ndcg(done: Path) -> float:
    """Of the whole MiniLM's order of the same held-out texts."""
    records = {record.id: record for record in map(world, range(NUM_QUERIES))}
    encoder = SentenceTransformer(str(models.resolve("embedded:all-minilm-l6-v2").path))
    vectors = dict(
        zip(
            records,
            encoder.encode([plain_text(one) for one in records.values()], normalize_embeddings=True),
            strict=True,
        )
    )
    by_query: dict[str, list[Any]] = {}
    for row in sound_rows(done / "run" / "feedback", ["query_id", "example_id", "utility"]):
        by_query.setdefault(row["query_id"], []).append(row)
    lists = [Query("qa", 0, list(range(len(tried))), [row["utility"] for row in tried]) for tried in by_query.values()]
    kept = [place for place, one in enumerate(lists) if len(set(one.utilities)) > 1]
    scores = [
        [float(vectors[row["query_id"]] @ vectors[row["example_id"]]) for row in tried] for tried in by_query.values()
    ]
    return mean_ndcg([lists[place] for place in kept], [scores[place] for place in kept])


@pytest.mark.ray
def test_the_towers_learn_what_helps_where_plain_search_does_not(done: Path) -> None:
    facts = json.loads((done / "run" / "fit" / "fit.json").read_text())
    assert facts["ndcg"]["before"] < 0.6
    assert facts["ndcg"]["random"] < 0.6
    assert semantic_ndcg(done) < 0.6
    assert facts["ndcg"]["after"] >= 0.9
    assert facts["by_epoch"][facts["best_epoch"]] == facts["ndcg"]["after"] == max(facts["by_epoch"])


@pytest.mark.ray
def test_both_towers_load_and_say_what_they_are(done: Path) -> None:
    for side in ("query", "example"):
        folder = done / "run" / "fit" / side
        assert SentenceTransformer(str(folder)).encode(["a text"]).shape == (1, 384)
        card = (folder / "README.md").read_text()
        assert f"# {side} tower" in card
        assert "library_name: sentence-transformers" in card
    weights = [SentenceTransformer(str(done / "run" / "fit" / side)).state_dict() for side in ("query", "example")]
    name = next(iter(weights[0]))
    assert not torch.equal(weights[0][name], weights[1][name])


@pytest.mark.ray
def test_the_same_command_again_trains_nothing(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(done / "c.yaml")]) == 0
    told = capsys.readouterr()
    assert "done before" in told.err
    assert "NDCG@4 on" in told.out


@pytest.mark.ray
def test_the_trained_arm_finds_what_helps_alone_and_in_company(done: Path) -> None:
    pool = {record.id: record for record in map(world, range(NUM_QUERIES))}
    retriever = Retriever(pool, folder=done / "run" / "index")
    records = [world(number) for number in range(1000, 1012)]
    for arm in LEARNED:
        together = retriever.retrieve(records, "overall", arm)
        assert together == [retriever.retrieve([record], "overall", arm)[0] for record in records]
        helpful = [[utility(record, pool[id]) for id in ids] for record, ids in zip(records, together, strict=True)]
        # `diverse`: two of plain search first, which know nothing of it, then two of the towers.
        assert all(len(found) == 4 and found[-2:] == [0.9, 0.9] for found in helpful)


@pytest.mark.ray
def test_evaluate_shows_what_the_towers_find(done: Path) -> None:
    assert main(["evaluate", str(done / "c.yaml")]) == 0
    summary = json.loads((done / "run" / "evaluate" / "manifest.json").read_text())["summary"]
    for arm in ("trained", "diverse"):
        assert summary["judges"][arm]["coverage"] == 1
        assert summary["judges"][arm]["icl"]["mean_examples"] == 4


@pytest.mark.ray
def test_towers_of_another_training_or_pool_are_refused(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = {record.id: record for record in map(world, range(NUM_QUERIES))}
    card = done / "run" / "fit" / "query" / "README.md"
    text = card.read_text()
    card.write_text(text + "changed")
    try:
        with pytest.raises(InputError, match="made by other towers"):
            Retriever(pool, folder=done / "run" / "index").open([("qa", "overall")], "trained")
    finally:
        card.write_text(text)
    Retriever(pool, folder=done / "run" / "index").open([("qa", "overall")], "diverse")
    # With a smaller pool some of what has taught would be judged.
    for job in ("index", "evaluate"):
        assert main([job, str(done / "c.yaml"), "--set", "data.pool_share=0.5"]) == 2
        assert "was made of another data.pool" in capsys.readouterr().err


def settings(**changes: Any) -> Settings:
    made: dict[str, Any] = {
        "start": "", "source": "", "pairs": "", "out": "", "seed": 0, "shared": False, "max_length": 8, "scale": 20,
        "weight": "true_rank", "lambda_rank": 0.8, "learning_rate": 1e-4, "weight_decay": 0.0, "epochs": 1,
        "patience": 1, "batch_queries": 2, "task_power": 0.5,
    }  # fmt: skip
    return Settings(**{**made, **changes})


def test_batches_are_of_one_task_without_repeats_and_the_same_again() -> None:
    queries = [Query(task, place, [1, 2], [0.1, 0.2]) for task, size in (("a", 90), ("b", 10)) for place in range(size)]
    found = batches_of(queries, settings(), 3, 400, 2)
    assert found == batches_of(queries, settings(), 3, 400, 2)
    assert found != batches_of(queries, settings(), 4, 400, 2)
    assert all(len({one.task for one in batch}) == 1 and len(batch) == 4 for batch in found)
    of_a = [batch for batch in found if batch[0].task == "a"]
    # Sizes 90 and 10 to the power 0.5 are as 3 to 1: three quarters of 400, with a deviation of 9.
    assert 260 < len(of_a) < 340
    first = [one.query for batch in of_a for one in batch][:90]
    assert sorted(first) == list(range(90))


def test_lists_are_padded_and_masked() -> None:
    batch = [Query("a", 0, [7, 9], [0.2, 0.4]), Query("a", 1, [9], [0.3])]
    at, gains, mask = lists_of(batch, {7: 0, 9: 1})
    assert at.tolist() == [[0, 1], [1, 0]]
    assert gains.tolist() == [[pytest.approx(0.2), pytest.approx(0.4)], [pytest.approx(0.3), 0]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_gain_is_counted_above_the_least_example_of_the_text() -> None:
    # 0.9 and 0.5 become 0.4 and 0: the wrong order has 0.4 / log2(3) of 0.4.
    queries = [Query("a", 0, [1, 2], [0.9, 0.5])]
    assert mean_ndcg(queries, [[0.0, 1.0]]) == pytest.approx(0.63093, abs=1e-5)
    assert random_ndcg(queries) == pytest.approx((1 + 0.63093) / 2, abs=0.05)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("harm", "words"),
    [("no feedback", "holds no finished feedback: run `inverdict feedback` first"),
     ("all alike", "no text has two examples that the judge scored differently"),
     ("other pool", "was made of another data.pool")],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    harm: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [world(number) for number in range(20)]
    path = configuration(tmp_path, records, fit={})
    if harm == "all alike":
        monkeypatch.setitem(globals(), "utility", lambda query, example: 0.5)
    if harm != "no feedback":
        feedback(tmp_path / "run", records, same_pool=harm != "other pool")
    assert main(["fit", path]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run" / "fit").exists()
