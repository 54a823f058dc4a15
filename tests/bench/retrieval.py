"""Speed and memory of the retriever, as ratios within one run: `make bench-retrieval`, or one part by name.

loss: forward and backward of 64 queries x 64 examples against the loop over pairs and against sentence-transformers'
LambdaLoss on the same scores. search: 100,000 x 384 vectors, batches of 256, against raw FAISS, and what retrieval adds
to one record. feedback: the job against plain vLLM. million: a flat index of 1,000,000 examples,
built and searched: peak memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.bench import feedback
from tests.bench.measure import PeakMemory, in_child

Q, K = 64, 64
NUM, DIMENSION, BATCH = 100_000, 384, 256


def main(parts: Sequence[str]) -> int:
    work = {"loss": _loss, "search": _search, "feedback": feedback.measure, "million": _million_apart}
    for part in parts or work:
        found = work[part]()
        print(f"{part}: {json.dumps(found)}", flush=True)
    return 0


def _median_s(work: Callable[[], Any], times: int) -> float:
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


# ---------------------------------------------------------------------------- loss


def _loss() -> dict[str, Any]:
    import torch
    from sentence_transformers.cross_encoder.losses import LambdaLoss
    from sentence_transformers.cross_encoder.losses.lambda_loss import LambdaRankScheme

    from retrieval.lambdarank import lambdarank_loss

    generator = torch.Generator().manual_seed(0)
    scores = torch.randn((Q, K), generator=generator, requires_grad=True)
    gains = torch.rand((Q, K), generator=generator)
    theirs = LambdaLoss(_Told(scores), weighting_scheme=LambdaRankScheme(), mini_batch_size=-1)
    inputs = [["q"] * Q, [["d"] * K] * Q]
    labels = list(gains)

    def step(loss: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            scores.grad = None
            loss().backward()

        return run

    ours_s = _median_s(step(lambda: lambdarank_loss(scores, gains)), 50)
    loop_s = _median_s(step(lambda: _loop(scores, gains)), 1)
    theirs_s = _median_s(step(lambda: theirs(inputs, labels)), 50)
    return {
        "ours_ms": round(1e3 * ours_s, 2),
        "times_the_loop": round(loop_s / ours_s),
        "target": 50,
        "times_sentence_transformers": round(theirs_s / ours_s, 2),
        "target_sentence_transformers": 1.0,
    }


class _Told:
    """Stands for a cross-encoder whose scores are known."""

    def __new__(cls, scores: Any) -> Any:
        import torch

        class Model(torch.nn.Module):
            num_labels = 1
            device = torch.device("cpu")

            def preprocess(self, pairs: Any, **more: Any) -> dict[str, Any]:
                return {"x": torch.zeros(1)}

            def forward(self, tokens: Any) -> dict[str, Any]:
                return {"scores": scores.view(-1)}

        return Model()


def _loop(scores: Any, gains: Any) -> Any:
    """The formula pair by pair."""
    import torch

    terms = []
    for row in range(Q):
        told, known = scores[row], gains[row].tolist()
        rank = [1 + sum(other > gain for other in known) for gain in known]
        for i in range(K):
            for j in range(K):
                if known[i] > known[j]:
                    terms.append((1 / rank[i] - 1 / rank[j]) * torch.nn.functional.softplus(told[j] - told[i]))
    return torch.stack(terms).sum() / Q


# ---------------------------------------------------------------------------- search


def _vectors(num: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _search() -> dict[str, Any]:
    import faiss

    from retrieval.faiss_index import Example, ExampleIndex
    from retrieval.retriever import _deepening, _serving
    from tests.retrieval.making import rated

    vectors, queries = _vectors(NUM, 0), _vectors(BATCH, 1)
    raw = faiss.IndexFlatIP(DIMENSION)
    raw.add(vectors)
    records = {f"e{place}": rated(place, id=f"e{place}") for place in range(NUM)}
    index = ExampleIndex.build(
        vectors, [Example(id, record.group_key) for id, record in records.items()], kind="flat", made_by="bench"
    )
    raw_s = [_median_s(lambda: raw.search(queries, 64), 5) for _ in range(2)]
    ours_s = _median_s(lambda: index.search(queries, 64), 5)

    def one(place: int) -> None:
        order = _deepening(index, queries[place], records.__getitem__)
        found = _serving(order, rated(-1 - place, id="q", group="new"), "overall")
        for _ in range(4):
            next(found)

    def bare(place: int) -> None:
        raw.search(queries[place : place + 1], 64)

    whole = statistics.median(_median_s(lambda place=place: one(place), 1) for place in range(64))
    search = statistics.median(_median_s(lambda place=place: bare(place), 1) for place in range(64))
    return {
        "of_raw_faiss": round(statistics.mean(raw_s) / ours_s, 3),
        "target": 0.90,
        "added_ms_p50": round(1e3 * (whole - search), 2),
        "with_search_ms_p50": round(1e3 * whole, 2),
        "target_ms": 5,
    }


def _million_apart() -> dict[str, Any]:
    return in_child("tests.bench.retrieval", "million")


def _million() -> dict[str, Any]:
    from retrieval.faiss_index import Example, ExampleIndex

    with PeakMemory() as memory:
        start = time.perf_counter()
        vectors = _vectors(1_000_000, 0)
        index = ExampleIndex.build(
            vectors,
            [Example(f"e{place}", f"g{place // 4}") for place in range(len(vectors))],
            kind="flat",
            made_by="bench",
        )
        built_s = time.perf_counter() - start
        index.search(vectors[:BATCH], 4)
    return {"built_s": round(built_s, 1), "peak_gib": round(memory.peak_mib / 1024, 2), "target_gib": 6}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_million()))
    else:
        sys.exit(main(sys.argv[1:]))
