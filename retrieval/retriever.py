"""Which rated texts are shown as few-shot examples when a text is judged: a retriever's ranking without leakage.

Retrievers (the key `arm`): `none`; `random`; `bm25` (shared words); `semantic` (a sentence encoder); `trained` (the
towers of `fit`); `diverse` (k1 of `trained` and k2 of `semantic`). An example is never the text itself, of its group or
a near-duplicate of it. The best example comes last. A text gets the same examples alone and in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cluster import models
from cluster.artifacts import JobDir
from judging.errors import InputError
from judging.records import Record, content_id
from retrieval.encode import encode_here
from retrieval.faiss_index import ExampleIndex
from retrieval.pool import towers_identity
from retrieval.rankers import Bm25, random_order
from retrieval.texts import may_serve, plain_text, query_text

Arm = Literal["none", "random", "bm25", "semantic", "trained", "diverse"]
LEARNED: tuple[Arm, ...] = ("trained", "diverse")
INDEXED: tuple[Arm, ...] = ("semantic", *LEARNED)
SCORE_DIGITS = 5  # further digits depend on the batch, so they must not order equal texts


class Encoders(NamedTuple):
    """What the job `index` used: a model source, fingerprints ("": no towers), and the tokens read of a text."""

    semantic: str
    semantic_made_by: str
    trained_made_by: str
    max_length: int


class Retriever:
    """The pool and its indexes, which are opened when first needed.

    `folder`: the output of the job `index`. `encoder`: of `semantic`, from `semantic_encoder`; None: resolved here,
    for which a worker does not know the run's commits.
    """

    def __init__(
        self,
        pool: Mapping[str, Record],
        *,
        folder: Path | None = None,
        seed: int = 0,
        encoder: models.ModelFolder | None = None,
    ) -> None:
        self._pool = dict(pool)
        self._folder = folder
        self._seed = seed
        self._rated: dict[tuple[str, str], list[Record]] = {}
        self._words: dict[tuple[str, str], Bm25] = {}
        self._indexes: dict[str, ExampleIndex] = {}
        self._encoders = _encoders(folder) if folder else None
        self._encoder = encoder
        self._towers: str | None = None  # their fingerprint as they are now

    def retrieve(
        self, records: Sequence[Record], aspect: str, arm: Arm, *, k: int = 4, k1: int = 2, k2: int = 2
    ) -> list[list[str]]:
        """Retrieve few-shot examples.

        Args:
            records: the texts to be judged.
            aspect: examples are rated on it.
            arm: the retriever.
            k: examples a record; fewer where the pool has no more.
            k1: of `diverse`, those of `trained`.
            k2: of `diverse`, those of `semantic`.

        Returns:
            For each record the ids of its examples, the best last.

        Raises:
            InputError: where the arm's index is missing or of another pool.
        """
        found: list[list[str]] = [[] for _ in records]
        for task in dict.fromkeys(record.task for record in records):
            places = [place for place, record in enumerate(records) if record.task == task]
            some = [records[place] for place in places]
            for place, ids in zip(places, self._of_task(some, task, aspect, arm, k=k, k1=k1, k2=k2), strict=True):
                found[place] = ids
        return found

    def _of_task(
        self, records: Sequence[Record], task: str, aspect: str, arm: Arm, *, k: int, k1: int, k2: int
    ) -> list[list[str]]:
        if arm == "none" or not self._those_rated(task, aspect):
            return [[] for _ in records]
        if arm == "diverse":
            trained = self._orders(records, task, aspect, "trained")
            semantic = self._orders(records, task, aspect, "semantic")
            return [merged(first, second, k1, k2) for first, second in zip(trained, semantic, strict=True)]
        orders = self._orders(records, task, aspect, arm)
        return [list(islice(order, k))[::-1] for order in orders]

    def _orders(self, records: Sequence[Record], task: str, aspect: str, arm: Arm) -> list[Iterator[str]]:
        """For each record the ids of all its possible examples, best first, lazily."""
        rated = self._those_rated(task, aspect)
        if arm == "random":
            orders: list[Iterator[Record]] = [random_order(record, rated, self._seed) for record in records]
        elif arm == "bm25":
            if (task, aspect) not in self._words:
                self._words[task, aspect] = Bm25(rated)
            orders = [self._words[task, aspect].order(record) for record in records]
        else:
            orders = self._searched(records, task, aspect, arm)
        return [_serving(order, record, aspect) for order, record in zip(orders, records, strict=True)]

    def _those_rated(self, task: str, aspect: str) -> list[Record]:
        key = (task, aspect)
        if key not in self._rated:
            self._rated[key] = [r for r in self._pool.values() if r.task == task and aspect in r.scores]
        return self._rated[key]

    def _searched(self, records: Sequence[Record], task: str, aspect: str, arm: Arm) -> list[Iterator[Record]]:
        index, model = self._opened(task, aspect, arm), self._model(arm)
        is_plain = arm == "semantic"
        texts = [plain_text(record) if is_plain else query_text(record, aspect) for record in records]
        assert self._encoders is not None
        vectors = encode_here(model, texts, self._encoders.max_length, at_once=1)
        return [_deepening(index, vector, self._example) for vector in vectors]

    def open(self, wanted: Sequence[tuple[str, str]], arm: Arm) -> None:
        """Check and open the indexes that the arm needs for these (task, aspect) pairs. Raises InputError."""
        needed: tuple[Arm, ...] = ("trained", "semantic") if arm == "diverse" else (arm,)
        for task, aspect in wanted if arm in INDEXED else ():
            for one in needed if self._those_rated(task, aspect) else ():
                self._opened(task, aspect, one)

    def _model(self, arm: Arm) -> str:
        """The reference of the model that encodes the text to be judged."""
        assert self._folder is not None and self._encoders is not None
        if arm == "semantic":
            return self._plain_encoder().reference
        return str((self._folder.parent / "fit" / "query").resolve())

    def _plain_encoder(self) -> models.ModelFolder:
        if self._encoder is None:
            assert self._encoders is not None
            self._encoder = models.resolve(self._encoders.semantic)
        return self._encoder

    def _opened(self, task: str, aspect: str, arm: Arm) -> ExampleIndex:
        if self._folder is None or self._encoders is None:
            raise InputError(f"The retriever `{arm}` needs an index. Run `inverdict index` first.", code="missing_job")
        if arm == "semantic":
            made_by = f"{self._plain_encoder().fingerprint}/{self._encoders.max_length}"
            return self._index(semantic_folder(self._folder, task), made_by)
        if not self._encoders.trained_made_by:
            raise InputError(
                f"The index in {self._folder} has no trained towers. Run `inverdict fit`, then `inverdict index`.",
                code="missing_job",
            )
        if self._towers is None:
            self._towers = towers_identity(self._folder.parent / "fit")
        return self._index(trained_folder(self._folder, task, aspect), self._towers)

    def _example(self, id: str) -> Record:
        if id not in self._pool:
            raise InputError(
                f"The index in {self._folder} has the example {id!r}, which is not in data.pool. Run `inverdict index` "
                "again.",
                code="other_configuration",
                key="data.pool",
            )
        return self._pool[id]

    def _index(self, folder: Path, made_by: str) -> ExampleIndex:
        if str(folder) not in self._indexes:
            self._indexes[str(folder)] = ExampleIndex.load(folder, made_by=made_by)
        return self._indexes[str(folder)]


def _serving(order: Iterable[Record], record: Record, aspect: str) -> Iterator[str]:
    for example in order:
        if aspect in example.scores and may_serve(example, record):
            yield example.id


def merged(first: Iterator[str], second: Iterator[str], k1: int, k2: int) -> list[str]:
    """Combine two rankings.

    Args:
        first: ids, best first.
        second: ids, best first.
        k1: ids taken from `first`.
        k2: further ids taken from `second`.

    Returns:
        The ids, the best of `first` last.
    """
    best = list(islice(first, k1))
    others = list(islice((id for id in second if id not in best), k2))
    return [*others[::-1], *best[::-1]]


def _deepening(index: ExampleIndex, vector: np.ndarray, record: Callable[[str], Record]) -> Iterator[Record]:
    """The index's examples by descending score, ties by id; the search is widened until the caller has enough."""
    given: set[str] = set()
    wanted = 64
    while True:
        scores, rows = index.search(vector[None], wanted)
        found = [
            (-round(float(score), SCORE_DIGITS), index.examples[row].id)
            for score, row in zip(scores[0], rows[0], strict=True)
            if row >= 0
        ]
        is_all = wanted >= len(index)
        # The last result may tie with the first one that was not returned, so it waits for the next round.
        settled = [one for one in sorted(found) if is_all or one[0] < found[-1][0]]
        for _, id in settled:
            if id not in given:
                given.add(id)
                yield record(id)
        if is_all:
            return
        wanted *= 4


def semantic_folder(folder: Path, task: str) -> Path:
    return folder / "semantic" / f"{_plain(task)}-{content_id(task)[:6]}"


def trained_folder(folder: Path, task: str, aspect: str) -> Path:
    """Where the index of trained embeddings lies.

    Args:
        folder: of the job `index`.
        task: name, or path of a task file.
        aspect: that its examples are rated on.

    Returns:
        The folder; a hash keeps names apart that differ only in special characters.
    """
    return folder / "trained" / f"{_plain(task)}.{_plain(aspect)}-{content_id(task, aspect)[:6]}"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def semantic_encoder(folder: Path, arm: Arm) -> models.ModelFolder | None:
    """The encoder of the index at the commit that the run has pinned; None where the arm needs none.

    Args:
        folder: of the job `index`.
        arm: the retriever.
    """
    if arm not in ("semantic", "diverse"):
        return None
    return models.resolve(_encoders(folder).semantic)


def _encoders(folder: Path) -> Encoders:
    manifest = JobDir(folder.parent, folder.name).manifest()
    if manifest is None:
        raise InputError(f"No finished `index` found in {folder}. Run `inverdict index` first.", code="missing_job")
    return Encoders(**manifest["summary"]["encoders"])
