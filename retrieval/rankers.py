"""Rankings of the pool for a query: random, BM25, by given scores; and the examples selected from several of them.

The pool is the records of one task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from judging.records import Record
from retrieval.texts import may_serve, plain_text


def random_order(query: Record, pool: Sequence[Record], seed: int) -> Iterator[Record]:
    """The pool in a random order.

    Args:
        query: each query has an order of its own.
        pool: records of one task.
        seed: with the ids it decides the order, whatever other records there are.

    Yields:
        The records.
    """

    def key(example: Record) -> bytes:
        return hashlib.sha256(f"{seed}\0{query.id}\0{example.id}".encode()).digest()

    yield from sorted(pool, key=key)


class Bm25:
    """BM25 ranking (package bm25s) over source and candidate."""

    def __init__(self, pool: Sequence[Record]) -> None:
        import bm25s

        self._pool = pool
        self._bm25s = bm25s
        self._index = bm25s.BM25()
        tokens = self._tokens([plain_text(record) for record in pool])
        self._has_words = any(tokens)  # bm25s cannot index stop words alone
        if self._has_words:
            self._index.index(tokens, show_progress=False)

    def scores(self, query: Record) -> np.ndarray:
        """float32, one a record of the pool."""
        (words,) = self._tokens([plain_text(query)])
        known = [word for word in words if word in self._index.vocab_dict] if self._has_words else []
        if not known:
            return np.zeros(len(self._pool), dtype=np.float32)
        found: np.ndarray = self._index.get_scores(known)
        return found

    def order(self, query: Record) -> Iterator[Record]:
        yield from by_score(self._pool, self.scores(query))

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = self._bm25s.tokenize(texts, return_ids=False, show_progress=False)
        return found


def by_score(pool: Sequence[Record], scores: np.ndarray) -> Iterator[Record]:
    """The pool by descending score; ties by id, so that the order never depends on the order of the files."""
    # Rounded: embeddings of the same text differ in the last digits from batch to batch.
    order = sorted(range(len(pool)), key=lambda place: (-round(float(scores[place]), 5), pool[place].id))
    for place in order:
        yield pool[place]


def candidates(
    query: Record, orders: Mapping[str, tuple[Iterable[Record], int]], *, already: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Select examples for a query from several rankings, each example once.

    Args:
        query: the text to be judged.
        orders: by retriever the ranked pool and how many to take; a later retriever skips the examples of earlier ones.
        already: examples selected before, which come first.

    Returns:
        Example id -> the retriever that selected it.
    """
    chosen = dict(already or {})
    for arm, (order, number) in orders.items():
        wanted = number
        for example in order if number else ():
            if example.id in chosen or not may_serve(example, query):
                continue
            chosen[example.id] = arm
            wanted -= 1
            if not wanted:
                break
    return chosen
