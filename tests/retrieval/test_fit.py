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
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record, content_id
from retrieval.feedback import SCHEMA
from retrieval.ndcg import ARMS, order_ndcg
from retrieval.pool import pool_identity
from retrieval.ranked_lists import query_lists
from retrieval.retriever import LEARNED, Retriever
from retrieval.texts import example_text, plain_text, query_text
from tests.killing import killed_when
from tests.retrieval.making import configuration, jsonl, rated

SUBJECTS = ("rivers", "bread", "planets", "chess", "violins", "glaciers", "bees", "bridges", "coffee", "sheep")
KINDS = ("polite", "angry", "brief", "funny", "formal", "sad")
NUM_QUERIES, NUM_TRIED = 240, 12
DIMENSIONS = 64


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
    """One layer of random weights, with MiniLM's way to cut words and the words of this world: it trains in seconds."""
    from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve("embedded:all-minilm-l6-v2").path)
    texts = [text(world(number), "overall") for number in range(NUM_QUERIES) for text in (query_text, example_text)]
    special = range(tokenizer.mask_token_id + 1)  # [PAD], [UNK], [CLS], [SEP], [MASK]
    kept = sorted({*special, *(id for ids in tokenizer(texts)["input_ids"] for id in ids)})
    vocabulary = {token: place for place, token in enumerate(tokenizer.convert_ids_to_tokens(kept))}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder / "one")
    size = {"hidden_size": DIMENSIONS, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(kept), max_position_embeddings=128, **size)).save_pretrained(folder / "one")
    start = SentenceTransformer(modules=[Transformer(str(folder / "one")), Pooling(DIMENSIONS)])
    start.save_pretrained(str(folder / "start"))
    return str(folder / "start")


def minilms_first_layer(folder: Path) -> str:
    """The first of MiniLM's six layers: it trains in a minute."""
    from transformers import AutoModel, AutoTokenizer

    source = models.resolve("embedded:all-minilm-l6-v2").path
    AutoModel.from_pretrained(source, num_hidden_layers=1).save_pretrained(folder / "one")
    AutoTokenizer.from_pretrained(source).save_pretrained(folder / "one")
    start = SentenceTransformer(modules=[Transformer(str(folder / "one")), Pooling(384)])
    start.save_pretrained(str(folder / "start"))
    return str(folder / "start")


def fitted(folder: Path, encoder: str, learning_rate: float) -> None:
    """The jobs `fit` and `index` on the whole world, below `folder`."""
    records = [world(number) for number in range(NUM_QUERIES)]
    fit = {"encoder": encoder, "max_length": 64, "epochs": 4, "patience": 2, "learning_rate": learning_rate}
    judged = jsonl(folder / "judged.jsonl", map(world, range(1000, 1012)))
    judges = {"diverse": {"model": "m", "icl": {"arm": "diverse", "k": 4, "k1": 2, "k2": 2}}}
    path = configuration(
        folder, records, data={"records": [judged]}, fit=fit, index={"max_length": 64}, evaluate={"judges": judges}
    )
    feedback(folder / "run", records)
    assert main(["fit", path]) == 0
    assert main(["index", path]) == 0


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    fitted(folder, small_encoder(folder), 3e-3)
    return folder


def semantic_ndcg(done: Path) -> float:
    """Of the whole MiniLM's order of all texts."""
    records = {record.id: record for record in map(world, range(NUM_QUERIES))}
    encoder = SentenceTransformer(str(models.resolve("embedded:all-minilm-l6-v2").path))
    texts = [plain_text(one) for one in records.values()]
    vectors = dict(zip(records, encoder.encode(texts, normalize_embeddings=True), strict=True))
    found = [
        order_ndcg(one.utilities, [float(vectors[one.query_id] @ vectors[id]) for id in one.example_ids])
        for one in query_lists(done / "run" / "feedback")
    ]
    return sum(found) / len(found)


@pytest.mark.ray
def test_the_towers_learn_what_helps_where_plain_search_does_not(done: Path) -> None:
    facts = json.loads((done / "run" / "fit" / "fit.json").read_text())
    assert facts["ndcg"]["before"] < 0.6
    assert facts["ndcg"]["random"] < 0.6
    assert semantic_ndcg(done) < 0.6
    assert facts["ndcg"]["after"] >= 0.9
    assert facts["by_epoch"][facts["best_epoch"]] == facts["ndcg"]["after"] == max(facts["by_epoch"])


@pytest.mark.ray
@pytest.mark.slow
def test_a_pretrained_encoder_learns_it_too(tmp_path: Path, ray_cluster: None) -> None:
    fitted(tmp_path, minilms_first_layer(tmp_path), 3e-4)
    ndcg = json.loads((tmp_path / "run" / "fit" / "fit.json").read_text())["ndcg"]
    assert ndcg["before"] < 0.6
    assert ndcg["after"] >= 0.9


@pytest.mark.ray
def test_the_orders_of_all_arms_stand_side_by_side(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((done / "run" / "fit" / "manifest.json").read_text())["summary"]["orders"]
    facts = json.loads((done / "run" / "fit" / "fit.json").read_text())
    assert set(found["ndcg"]) == set(ARMS)
    # The towers as they lie on disk order the texts as they did in training.
    assert found["ndcg"]["trained"][0] == pytest.approx(facts["ndcg"]["after"], abs=1e-3)
    for arm in ("semantic", "bm25", "random"):
        value, low, high = found["ndcg"][arm]
        assert low <= value <= high < 0.8
        assert found["trained_minus"][arm][1] > 0
    assert main(["fit", str(done / "c.yaml")]) == 0
    assert f"NDCG@4 on {found['num_queries']} held-out texts of {found['num_groups']} groups" in capsys.readouterr().out


@pytest.mark.ray
def test_a_second_round_tries_what_the_towers_of_the_first_find(done: Path) -> None:
    again = {
        "model": "m",
        "queries": 10,
        "random": 1,
        "bm25": 0,
        "semantic": 0,
        "trained": 3,
        "towers": str(done / "run"),
    }
    folder = done / "second"
    records = [world(number) for number in range(NUM_QUERIES)]
    same = {"pool": [str(done / "rated.jsonl")]}
    assert main(["feedback", configuration(folder, records, feedback=again, data=same)]) == 0
    pool = {record.id: record for record in records}
    tried: dict[str, list[tuple[str, float]]] = {}
    for row in sound_rows(folder / "run" / "feedback", ["query_id", "example_id", "arm"]):
        worth = utility(pool[row["query_id"]], pool[row["example_id"]])
        tried.setdefault(row["query_id"], []).append((row["arm"], worth))
    assert len(tried) == 10
    for of_one in tried.values():
        assert sorted(of_one)[-3:] == [("trained", 0.9)] * 3
        assert min(of_one)[0] == "random"


@pytest.mark.ray
def test_towers_of_another_pool_mine_nothing(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = {"model": "m", "trained": 3, "towers": str(done / "run")}
    path = configuration(done / "other", [world(number) for number in range(20)], feedback=again)
    assert main(["feedback", path]) == 2
    assert "was made from another data.pool" in capsys.readouterr().err
    assert main(["feedback", path, "--set", "feedback.trained=0"]) == 2
    assert "trained and towers go together" in capsys.readouterr().err
    assert not (done / "other" / "run" / "feedback").exists()


def small_training(folder: Path, **changes: Any) -> str:
    """A configuration of a training of seconds, with its feedback."""
    records = [world(number) for number in range(40)]
    fit = {
        "encoder": small_encoder(folder),
        "max_length": 32,
        "epochs": 3,
        "patience": 3,
        "batch_queries": 4,
        **changes,
    }
    path = configuration(folder, records, fit=fit)
    feedback(folder / "run", records)
    return path


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_one_pair_of_towers(tmp_path: Path) -> None:
    path = small_training(tmp_path, num_workers=2)
    assert main(["fit", path]) == 0
    facts = json.loads((tmp_path / "run" / "fit" / "fit.json").read_text())
    assert len(facts["losses"]) == 3
    assert facts["losses"][-1] < facts["losses"][0]


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    path = small_training(tmp_path / "killed")
    folder = tmp_path / "killed" / "run" / "fit"
    killed_when("fit", path, lambda: any(folder.glob("checkpoints/**/state.pt")))
    assert not (folder / "manifest.json").exists()
    assert main(["fit", path]) == 0
    assert main(["fit", small_training(tmp_path / "whole")]) == 0
    ended, whole = (
        json.loads((tmp_path / name / "run" / "fit" / "fit.json").read_text()) for name in ("killed", "whole")
    )
    assert ended["losses"] == pytest.approx(whole["losses"], rel=1e-4)
    assert ended["by_epoch"] == pytest.approx(whole["by_epoch"], abs=1e-3)
    assert ended["best_epoch"] == whole["best_epoch"]


@pytest.mark.ray
def test_both_towers_load_and_say_what_they_are(done: Path) -> None:
    for side in ("query", "example"):
        folder = done / "run" / "fit" / side
        assert SentenceTransformer(str(folder)).encode(["a text"]).shape == (1, DIMENSIONS)
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
    assert summary["judges"]["diverse"]["coverage"] == 1
    assert summary["judges"]["diverse"]["icl"]["mean_examples"] == 4


@pytest.mark.ray
def test_towers_of_another_training_or_pool_are_refused(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = {record.id: record for record in map(world, range(NUM_QUERIES))}
    card = done / "run" / "fit" / "query" / "README.md"
    text = card.read_text()
    card.write_text(text + "changed")
    try:
        with pytest.raises(InputError, match="made by another encoder"):
            Retriever(pool, folder=done / "run" / "index").open([("qa", "overall")], "trained")
    finally:
        card.write_text(text)
    Retriever(pool, folder=done / "run" / "index").open([("qa", "overall")], "diverse")
    # With a smaller pool some of what has taught would be judged.
    for job in ("index", "evaluate"):
        assert main([job, str(done / "c.yaml"), "--set", "data.pool_share=0.5"]) == 2
        assert "was made from another data.pool" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.parametrize(
    ("harm", "words"),
    [("no feedback", "No finished `feedback` found in"),
     ("all alike", "no text has two examples of different utility"),
     ("other pool", "was made from another data.pool")],
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
