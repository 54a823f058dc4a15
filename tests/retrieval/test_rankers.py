"""Who is tried for whom: each order, the filling up, the leaks."""

from itertools import islice

import numpy as np

from retrieval.rankers import Bm25, by_score, candidates, random_order
from tests.retrieval.making import pool_of, rated

POOL = list(pool_of(16).values())


def test_random_order_is_each_query_s_own_and_does_not_depend_on_the_order_of_the_pool() -> None:
    one = [record.id for record in random_order(POOL[0], POOL, 7)]
    assert sorted(one) == sorted(record.id for record in POOL)
    assert one == [record.id for record in random_order(POOL[0], POOL[::-1], 7)]
    assert one != [record.id for record in random_order(POOL[1], POOL, 7)]
    assert one != [record.id for record in random_order(POOL[0], POOL, 8)]


def test_bm25_puts_shared_rare_words_first() -> None:
    query = rated(99, id="q", group="gq", source="Tell me about chess", candidate="nothing more")
    # chess is the fourth subject: records 6 and 7, alike but for the numbers.
    assert {record.id for record in islice(Bm25(POOL).order(query), 2)} == {"r6", "r7"}


def test_bm25_of_unknown_words_is_the_order_of_ids() -> None:
    query = rated(99, id="q", group="gq", source="zzz", candidate="qqq")
    assert not Bm25(POOL).scores(query).any()
    assert [record.id for record in Bm25(POOL).order(query)] == sorted(record.id for record in POOL)


def test_equal_scores_go_by_id() -> None:
    # The first two differ in a digit that encoding in other company moves: r1 before r2 all the same.
    scores = np.array([0.500000004, 0.5, 0.9], dtype=np.float32)
    assert [record.id for record in by_score([POOL[2], POOL[1], POOL[9]], scores)] == ["r9", "r1", "r2"]


def test_each_arm_fills_up_behind_the_one_before_and_no_leak_is_chosen() -> None:
    query = POOL[0]
    copy = rated(40, id="copy", candidate=query.candidate.upper())
    order = [query, POOL[1], copy, POOL[4], POOL[6], POOL[8]]  # itself, its group, its copy, and three others
    chosen = candidates(query, {"random": (order, 1), "bm25": (order, 2), "semantic": (order, 0)})
    assert chosen == {"r4": "random", "r6": "bm25", "r8": "bm25"}


def test_a_pool_that_is_too_small_gives_what_there_is() -> None:
    assert candidates(POOL[0], {"random": (POOL[:3], 5)}) == {"r2": "random"}


def test_bm25_of_a_pool_without_words_is_the_order_of_ids() -> None:
    pool = [rated(number, source="of the", candidate="and a") for number in range(4)]
    assert [record.id for record in Bm25(pool).order(POOL[0])] == ["r0", "r1", "r2", "r3"]
