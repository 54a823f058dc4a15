"""How well each retriever ranks the examples that the judge has scored: NDCG@4 on the held-out texts.

Q held-out queries in G groups, A retrievers (arms). Gain: an example's utility above the lowest of its query; without
that any order would be near 1.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from judging.records import Record
from judging.stats.bootstrap import Floats, Resample, intervals, paired
from retrieval.encode import encode_here
from retrieval.ranked_lists import QueryList
from retrieval.rankers import Bm25
from retrieval.texts import example_text, plain_text, query_text

NDCG_AT = 4
RANDOM_ORDERS = 100
TOWERS = "trained"
ARMS = (TOWERS, "semantic", "bm25", "random")


def order_ndcg(utilities: Sequence[float], scores: Sequence[float]) -> float:
    """NDCG@4 of the order by descending score."""
    import torch

    from retrieval.lambdarank import ndcg

    gains = torch.tensor([utilities], dtype=torch.float64) - min(utilities)
    return float(ndcg(torch.tensor([list(scores)]), gains, k=NDCG_AT))


def random_ndcg(utilities: Sequence[float], seed: str = "") -> float:
    """Mean NDCG@4 of random orders of these examples: the chance baseline."""
    drawing = random.Random(f"orders/{seed}")
    orders = ([drawing.random() for _ in utilities] for _ in range(RANDOM_ORDERS))
    return sum(order_ndcg(utilities, scores) for scores in orders) / RANDOM_ORDERS


def compare(
    lists: Sequence[QueryList], pool: Mapping[str, Record], folders: Mapping[str, str], max_length: int, seed: int
) -> dict[str, Any]:
    """NDCG@4 of every retriever, and the differences between the towers and the others. Loads torch.

    Args:
        lists: the held-out queries with the utilities of their examples.
        pool: the records by id.
        folders: of the models `query`, `example` (the towers) and `semantic` (the plain encoder).
        max_length: tokens read of a text.
        seed: of the random orders and the bootstrap.

    Returns:
        `num_queries`, `num_groups`, and by retriever `ndcg` and `trained_minus` with 95 % intervals over groups.
    """
    scored = _scores(lists, pool, folders, max_length)
    found_A = {
        arm: [order_ndcg(one.utilities, scores) for one, scores in zip(lists, of_arm, strict=True)]
        for arm, of_arm in scored.items()
    }
    found_A["random"] = [random_ndcg(one.utilities, f"{seed}/{one.query_id}/{one.aspect}") for one in lists]
    groups = [pool[one.query_id].group_key for one in lists]
    means = {arm: _mean_over_groups(values, groups) for arm, values in found_A.items()}
    return {
        "num_queries": len(lists),
        "num_groups": len(set(groups)),
        "ndcg": {arm: _estimate(mean, len(set(groups)), seed) for arm, mean in means.items()},
        "trained_minus": {
            arm: _estimate(paired(means[TOWERS], mean), len(set(groups)), seed)
            for arm, mean in means.items()
            if arm != TOWERS
        },
    }


def _scores(
    lists: Sequence[QueryList], pool: Mapping[str, Record], folders: Mapping[str, str], max_length: int
) -> dict[str, list[list[float]]]:
    """By retriever the score of each example of each list."""
    found: dict[str, list[list[float]]] = {TOWERS: [], "semantic": [], "bm25": []}
    words: dict[str, tuple[Bm25, dict[str, int]]] = {}
    for one in lists:
        query, examples = pool[one.query_id], [pool[id] for id in one.example_ids]
        if one.task not in words:
            known = [record for record in pool.values() if record.task == one.task]
            words[one.task] = Bm25(known), {record.id: place for place, record in enumerate(known)}
        bm25, place = words[one.task]
        shared = bm25.scores(query)
        found["bm25"].append([float(shared[place[example.id]]) for example in examples])
        texts = {
            TOWERS: (query_text(query, one.aspect), [example_text(example, one.aspect) for example in examples]),
            "semantic": (plain_text(query), [plain_text(example) for example in examples]),
        }
        for arm, (asked, shown) in texts.items():
            sides = ("query", "example") if arm == TOWERS else ("semantic", "semantic")
            (vector,) = encode_here(folders[sides[0]], [asked], max_length)
            found[arm].append([float(score) for score in encode_here(folders[sides[1]], shown, max_length) @ vector])
    return found


def _mean_over_groups(values_Q: Sequence[float], groups_Q: Sequence[str]) -> Resample:
    place = {name: number for number, name in enumerate(dict.fromkeys(groups_Q))}
    at_Q = np.array([place[name] for name in groups_Q])
    sums_G = np.bincount(at_Q, weights=np.asarray(values_Q))
    counts_G = np.bincount(at_Q)

    def mean(weights_BG: Floats) -> Floats:
        values_B: Floats = (weights_BG @ sums_G) / (weights_BG @ counts_G)
        return values_B[:, None]

    return mean


def _estimate(mean: Resample, num_groups: int, seed: int) -> list[float | None]:
    """Value, low, high; the ends are None where one group alone gives no interval."""
    value = float(mean(np.ones((1, num_groups)))[0, 0])
    (interval,) = intervals(mean, np.array([value]), num_groups, seed=seed)
    return [value, *(None if np.isnan(end) else end for end in (interval.low, interval.high))]


def render(found: Mapping[str, Any]) -> str:
    """A table for the terminal."""
    lines = [f"NDCG@{NDCG_AT} on {found['num_queries']} held-out texts of {found['num_groups']} groups, 95 % intervals"]
    for arm in ARMS:
        estimate, less = found["ndcg"][arm], found["trained_minus"].get(arm)
        lines.append(f"  {arm:<10}{_shown(estimate):<22}" + (f"towers minus it {_shown(less)}" if less else ""))
    return "\n".join(line.rstrip() for line in lines)


def _shown(estimate: Sequence[float | None]) -> str:
    value, low, high = estimate
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")
