"""Jobs `feedback` and `index` on a pool, a model or settings that are not usable: refused, nothing written."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import load
from cluster.errors import UserError
from cluster.jobs import sections
from retrieval.build_index import main as index
from retrieval.feedback import main as feedback
from tests.refusals import refused
from tests.retrieval.making import configuration, pool_of, rated

FEEDBACK = {"model": "m", "random": 2, "bm25": 1, "semantic": 0}
UNRATED: list[Any] = [rated(0, scores={}, scales={}), rated(2, scores={}, scales={})]


@pytest.mark.parametrize(
    ("pool", "settings", "code", "key"),
    [
        (UNRATED, {}, "no_scores", "data.pool"),
        ([rated(0), rated(1)], {}, "not_enough_groups", "data.pool"),
        ([rated(0), rated(2)], {"aspects": ["charm"]}, "no_scores", "feedback.aspects"),
        ([rated(0), rated(2)], {"random": 1, "bm25": 0}, "invalid_value", "feedback"),
        ([rated(0), rated(2)], {"trained": 2}, "conflict", "feedback"),
        ([rated(0), rated(2)], {"trained": 2, "towers": "nowhere"}, "missing_job", ""),
    ],
    ids=["no labels", "one group", "unknown aspect", "one example", "no towers", "no earlier round"],
)
def test_feedback_without_usable_input_is_refused_and_leaves_nothing(
    pool: list[Any], settings: dict[str, Any], code: str, key: str, tmp_path: Path
) -> None:
    path = Path(configuration(tmp_path, pool, feedback={**FEEDBACK, **settings}))
    with refused(code, key):
        feedback(load(path, [], sections()))
    assert not (tmp_path / "run" / "feedback").exists()


def test_an_unknown_judge_of_feedback_is_named(tmp_path: Path) -> None:
    path = Path(configuration(tmp_path, pool_of(4).values(), feedback={**FEEDBACK, "model": "nobody"}))
    with pytest.raises(UserError, match="nobody") as caught:
        feedback(load(path, [], sections()))
    assert "feedback.model" in f"{caught.value.key} {caught.value}"
    assert not (tmp_path / "run" / "feedback").exists()


def test_jobs_without_a_pool_are_refused(tmp_path: Path) -> None:
    path = Path(configuration(tmp_path, pool_of(4).values(), feedback=FEEDBACK, index={}, data={"pool": []}))
    for job in (feedback, index):
        with refused("missing_key", "data.pool"):
            job(load(path, [], sections()))


def test_an_index_of_a_pool_without_scores_is_refused(tmp_path: Path) -> None:
    path = Path(configuration(tmp_path, UNRATED, index={}))
    with refused("no_scores", "data.pool"):
        index(load(path, [], sections()))
    assert not (tmp_path / "run" / "index").exists()


def test_an_index_with_towers_needs_them(tmp_path: Path) -> None:
    path = Path(configuration(tmp_path, pool_of(4).values(), index={}, fit={}))
    with refused("missing_job", naming="inverdict fit"):
        index(load(path, [], sections()))
