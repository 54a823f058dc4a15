"""How good an order is: by hand, and all arms side by side with given embeddings."""

import math
from typing import Any

import numpy as np
import pytest

from retrieval import ndcg as orders
from retrieval.ndcg import compare, order_ndcg, random_ndcg, render
from retrieval.ranked_lists import QueryList
from tests.retrieval.making import rated


def test_gain_is_counted_above_the_least_example_of_the_text() -> None:
    # 0.9 and 0.5 become 0.4 and 0: the wrong order has 0.4 / log2(3) of 0.4.
    assert order_ndcg([0.9, 0.5], [0.0, 1.0]) == pytest.approx(0.63093, abs=1e-5)
    assert order_ndcg([0.9, 0.5], [1.0, 0.0]) == 1
    assert random_ndcg([0.9, 0.5]) == pytest.approx((1 + 0.63093) / 2, abs=0.05)


def test_random_orders_are_the_same_again() -> None:
    assert random_ndcg([0.1, 0.5, 0.9], "a") == random_ndcg([0.1, 0.5, 0.9], "a")
    assert random_ndcg([0.1, 0.5, 0.9], "a") != random_ndcg([0.1, 0.5, 0.9], "b")


WRONG = 1 / math.log2(3)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two texts of two groups; the towers always put the better example first, plain search the worse one."""
    pool = {record.id: record for record in map(rated, range(8))}

    def encode(folder: str, texts: list[str], max_length: int) -> np.ndarray:
        assert max_length == 99
        if folder == "query":
            return np.array([[1.0, 0.0]] * len(texts))
        is_better = [any(f"Answer {number} says" in text for number in (4, 6)) for text in texts]
        better, worse = ([1.0, 0.0], [0.0, 1.0]) if folder == "example" else ([0.0, 1.0], [1.0, 0.0])
        return np.array([better if yes else worse for yes in is_better])

    monkeypatch.setattr(orders, "encode_here", encode)
    lists = [
        QueryList("qa", "overall", "r0", ["r4", "r5"], [0.9, 0.5]),
        QueryList("qa", "overall", "r2", ["r6", "r7"], [0.8, 0.7]),
    ]
    return compare(lists, pool, {"query": "query", "example": "example", "semantic": "plain"}, 99, 0)


def test_all_arms_stand_side_by_side_with_intervals_over_groups(found: dict[str, Any]) -> None:
    assert (found["num_queries"], found["num_groups"]) == (2, 2)
    assert found["ndcg"]["trained"] == [1, 1, 1]
    # The query of plain search is a "worse" text itself, so the worse example is nearer.
    assert found["ndcg"]["semantic"] == pytest.approx([WRONG] * 3)
    assert found["trained_minus"]["semantic"] == pytest.approx([1 - WRONG] * 3)
    assert found["ndcg"]["random"][0] == pytest.approx((1 + WRONG) / 2, abs=0.05)
    assert set(found["trained_minus"]) == {"semantic", "bm25", "random"}


def test_the_table_says_on_how_much_it_stands(found: dict[str, Any]) -> None:
    told = render(found)
    assert told.splitlines()[0] == "NDCG@4 on 2 held-out texts of 2 groups, 95 % intervals"
    assert "  semantic  0.631 [0.631, 0.631]  towers minus it 0.369 [0.369, 0.369]" in told
    assert told.splitlines()[1] == "  trained   1.000 [1.000, 1.000]"


def test_one_group_alone_has_no_interval() -> None:
    mean = orders._mean_over_groups([0.2, 0.4], ["a", "a"])
    assert orders._estimate(mean, 1, 0) == [pytest.approx(0.3), None, None]
