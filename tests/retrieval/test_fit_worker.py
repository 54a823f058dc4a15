"""What a worker of `fit` trains on: batches of one task, lists padded to one length."""

from typing import Any

import pytest

from retrieval.fit_worker import Query, batches_of, lists_of
from retrieval.fit_worker_args import Settings


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
