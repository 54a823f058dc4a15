"""Pairs written by Ray tasks: the same as in one process, resumed, and never half written."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cluster.model_specs import VllmSpec
from cluster.tokens import encoder_of
from judging.records import content_id
from tests.train.tiny import tiny_model
from train.finetuning import prepare as preparing
from train.finetuning.pairs import Answered, Direction, candidates, encode
from train.finetuning.prepare import Plan, prepare, prepared
from train.finetuning.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
CUTOFF = 80


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> VllmSpec:
    return VllmSpec(source=tiny_model(tmp_path_factory.mktemp("base")))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "BLOCK_ROWS", 7)


def answered() -> list[Answered]:
    """50 rows: 3 cut off, 2 empty, 2 instructions without room, 5 answers of before in other blocks; 38 are left."""
    rows = []
    for n in range(50):
        answer = f"It is  {n - 20}." if n in (31, 33, 35, 37, 39) else "" if n in (4, 44) else f"it IS {n}."
        asked = "zjqv" * 30 if n in (5, 45) else f"Tell me about the number {n}."
        rows.append(Answered(content_id(f"{asked}{n}"), asked, answer, "cut_off" if n in (0, 20, 49) else ""))
    return rows


def in_one_process(rows: Iterable[Answered], plan: Plan) -> tuple[list[list[int]], list[list[int]], dict[str, int]]:
    """Train and dev ids in the order of the rows, and what is left out; duplicates found by their texts."""
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    splits: tuple[list[list[int]], list[list[int]]] = ([], [])
    by_id = {row.id: " ".join(row.answer.casefold().split()) for row in rows}
    more = {"direction": plan.direction, "chat": plan.chat, "dev_share": plan.dev_share}
    for pair, _, dev in candidates(rows, left_out=counts, **more):  # type: ignore[arg-type]
        if plan.direction == "inverse" and by_id[pair.id] in seen:
            counts["duplicate"] += 1
            continue
        seen.add(by_id[pair.id])
        (encoded,) = encode([pair], encoder_of(plan.base), plan.cutoff)
        if encoded is None:
            counts["too_long"] += 1
        else:
            splits[dev].append(encoded.input_ids)
    return *splits, dict(counts)


def on_disk(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    train, dev = Rows(str(folder), "train"), Rows(str(folder), "dev")
    return [train[n]["input_ids"] for n in range(len(train))], [dev[n]["input_ids"] for n in range(len(dev))]


@pytest.mark.parametrize("direction", ["inverse", "forward"])
def test_the_pairs_are_those_of_one_process(base: VllmSpec, direction: Direction, tmp_path: Path) -> None:
    plan = Plan(base, direction, True, 0.3, CUTOFF)
    counts = prepare(iter(answered()), 50, plan, tmp_path, what="t")
    train, dev, left_out = in_one_process(answered(), plan)
    assert on_disk(tmp_path) == (train, dev)
    assert counts == {"num_train": len(train), "num_dev": len(dev), "left_out": left_out} == prepared(tmp_path)
    if direction == "inverse":
        assert left_out == {"cut_off": 3, "duplicate": 5, "empty": 2, "too_long": 2}
        assert len(train) + len(dev) == 38 and len(dev) > 5


def test_an_interrupted_preparation_goes_on_where_it_was(base: VllmSpec, tmp_path: Path) -> None:
    plan = Plan(base, "inverse", True, 0.3, CUTOFF)

    def interrupted() -> Iterator[Answered]:
        yield from answered()[:25]
        for _ in range(1200):
            if preparing.parts(tmp_path):
                break
            time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(interrupted(), 50, plan, tmp_path, what="t")
    assert prepared(tmp_path) is None
    (tmp_path / ".part-00004.arrow").write_bytes(b"half of a part")
    first, *_ = preparing.parts(tmp_path)
    before = first.stat().st_mtime_ns
    counts = prepare(iter(answered()), 50, plan, tmp_path, what="t")
    train, dev, left_out = in_one_process(answered(), plan)
    assert on_disk(tmp_path) == (train, dev)
    assert counts["left_out"] == left_out
    assert first.stat().st_mtime_ns == before
    assert len(preparing.parts(tmp_path)) == 8  # 50 rows in blocks of 7
    assert not list(tmp_path.glob(".part-*"))


def test_without_a_training_pair_nothing_counts_as_prepared(base: VllmSpec, tmp_path: Path) -> None:
    plan = Plan(base, "inverse", True, 0.0, CUTOFF)
    rows = [Answered("x", "Ask.", "", "error"), Answered("y", "k" * 500, "Too long.")]
    assert prepare(iter(rows), 2, plan, tmp_path / "some", what="t")["left_out"] == {"error": 1, "too_long": 1}
    assert prepare(iter([]), 0, plan, tmp_path / "none", what="t") == {"num_train": 0, "num_dev": 0, "left_out": {}}
    assert prepared(tmp_path / "some") is prepared(tmp_path / "none") is None
