"""Columns for tests of the statistics: a worked example, and simulated ones."""

import numpy as np

from judging.stats.rows import Columns, Rows, complete_rows, numbers

# Four questions, four systems each. a: turned round. b: four concordant pairs, one model tie, one human tie (see
# test_correlation: accuracy .9, tau-b .8, Spearman .8333). c: people tie all. d: a constant model.
HUMAN = {"a": [1, 2, 3, 4], "b": [1, 1, 2, 3], "c": [2, 2, 2, 2], "d": [1, 2, 3, 4]}
SCORE = {"a": [4, 3, 2, 1], "b": [1, 2, 2, 3], "c": [1, 2, 3, 4], "d": [5, 5, 5, 5]}


def worked_example() -> Columns:
    return Columns(
        group=[group for group in HUMAN for _ in range(4)],
        human=[value for values in HUMAN.values() for value in values],
        score=[value for values in SCORE.values() for value in values],
        system=["s1", "s2", "s3", "s4"] * 4,
    )


def simulated(num_groups: int, size: int, *, seed: int = 0, levels: int | None = None, noise: float = 1.0) -> Columns:
    draws = np.random.default_rng(seed)
    systems = np.tile(np.arange(size), num_groups)
    human = draws.normal(size=num_groups * size) + np.repeat(draws.normal(size=num_groups), size) + systems / size
    if levels is not None:
        human = np.clip(np.round(human + levels / 2), 1, levels)
    score = human + noise * draws.normal(size=len(human))
    groups = [f"q{group}" for group in np.repeat(np.arange(num_groups), size)]
    return Columns(group=groups, human=human, score=score, system=[f"s{system}" for system in systems])


def sorted_rows(columns: Columns) -> Rows:
    score = numbers(columns.score, "score", missing=True)
    return complete_rows(columns, score, ~np.isnan(score))
