"""Mining of the pairs that `feedback` scores: for each text, examples from several retrievers.

The retrievers: random, BM25, embedding similarity and, from the second round, the towers of an earlier round.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.terminal import say
from judging.records import Record, content_id
from retrieval.encode import encode
from retrieval.rankers import Bm25, by_score, candidates, random_order
from retrieval.texts import example_text, plain_text, query_text

if TYPE_CHECKING:
    from retrieval.feedback_config import Config

PAIR_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "query_id", "example_id", "task", "aspect", "arm")])
AS_TRAINED = 1_000_000  # tokens: the limit that is saved with the towers applies


def mine(
    config: Config, pool: Mapping[str, Record], wanted: Sequence[tuple[str, str]], seed: int
) -> Iterator[dict[str, str]]:
    """The pairs to score, each once. Needs `runtime.start`.

    Args:
        config: how many examples of each retriever.
        pool: the records by id.
        wanted: (task, aspect) pairs.
        seed: of the sampled texts and examples.

    Yields:
        Rows of PAIR_SCHEMA.
    """
    for task in sorted({task for task, _ in wanted}):
        aspects = [aspect for of, aspect in wanted if of == task]
        known = [record for record in pool.values() if record.task == task and any(a in record.scores for a in aspects)]
        queries = sorted(known, key=lambda record: content_id(str(seed), record.id))[: config.queries]
        say(f"feedback: {task}: mining examples for {len(queries)} of {len(known)} texts")
        words = Bm25(known) if config.bm25 else None
        nearness = _nearness(config, queries, known) if config.semantic else None
        by_towers = {aspect: _by_towers(config, queries, known, aspect) for aspect in aspects if config.towers}
        for place, query in enumerate(queries):
            orders: dict[str, tuple[Iterator[Record], int]] = {
                "random": (random_order(query, known, seed), config.random)
            }
            if words:
                orders["bm25"] = (words.order(query), config.bm25)
            if nearness is not None:
                orders["semantic"] = (by_score(known, nearness[place]), config.semantic)
            for_all = candidates(query, orders)
            for aspect in (aspect for aspect in aspects if aspect in query.scores):
                chosen = for_all
                if aspect in by_towers:
                    by_tower = by_score(known, by_towers[aspect][place])
                    chosen = candidates(query, {"trained": (by_tower, config.trained)}, already=for_all)
                for example_id, arm in chosen.items():
                    if aspect in pool[example_id].scores:
                        keys = {"query_id": query.id, "example_id": example_id, "task": task, "aspect": aspect}
                        yield {"id": content_id(*keys.values()), **keys, "arm": arm}


def _nearness(config: Config, queries: Sequence[Record], known: Sequence[Record]) -> np.ndarray:
    """Cosine of every query (row) with every record of the pool."""
    found = encode(config.encoder, [plain_text(record) for record in known], config.max_length)
    row = {record.id: place for place, record in enumerate(known)}
    nearness: np.ndarray = found[[row[query.id] for query in queries]] @ found.T
    return nearness


def _by_towers(config: Config, queries: Sequence[Record], known: Sequence[Record], aspect: str) -> np.ndarray:
    """The same by the towers of an earlier round; records that are not rated on the aspect come last."""
    assert config.towers is not None
    towers = config.towers.resolve() / "fit"
    rated = [place for place, record in enumerate(known) if aspect in record.scores]
    examples = encode(str(towers / "example"), [example_text(known[place], aspect) for place in rated], AS_TRAINED)
    asked = encode(str(towers / "query"), [query_text(one, aspect) for one in queries], AS_TRAINED)
    nearness: np.ndarray = np.full((len(queries), len(known)), -2.0, dtype=np.float32)
    nearness[:, rated] = asked @ examples.T
    return nearness


def write_pairs(folder: Path, pairs: list[dict[str, str]], block_rows: int) -> None:
    """Write `pairs/part-*.parquet`, all or none.

    Args:
        folder: of the job.
        pairs: rows of PAIR_SCHEMA; sorted here, so that neighbours share instruction and example (prefix caching).
        block_rows: rows a part.
    """
    pairs.sort(key=lambda pair: (pair["task"], pair["aspect"], pair["example_id"], pair["query_id"]))
    beside = folder / ".pairs"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for start in range(0, len(pairs), block_rows):
        block = pairs[start : start + block_rows]
        pq.write_table(pa.Table.from_pylist(block, schema=PAIR_SCHEMA), beside / f"part-{start:09d}.parquet")
    beside.rename(folder / "pairs")
