"""The light of the panel, for every reason."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evaluation.measure.slices import Slice, measure
from evaluation.measure.trust import trust
from judging.stats.estimate import Estimate
from tests.evaluation.making import scores_file


def part(tmp_path: Path, noise: float, groups: int = 20, **more: Any) -> Slice:
    """Texts of three systems whose scores follow the labels, with noise; lengths are random."""
    random = np.random.default_rng(0)
    rows = [
        {
            "id": f"r{group}-{system}",
            "group": f"g{group}",
            "system": f"s{system}",
            "label": float(label := random.integers(1, 6)),
            "scores": {"j": float(np.clip(label + random.normal(0, noise), 1, 5))},
            "candidate_chars": int(random.integers(10, 900)),
            **more,
        }
        for group in range(groups)
        for system in range(3)
    ]
    scores_file(tmp_path, rows)
    return measure(tmp_path / "scores.parquet", resamples=200, seed=0, interval="percentile")[0]


def test_no_label_is_unknown() -> None:
    found = trust(None, None, "human")
    assert found.light == "grey" and "plan-labels" in found.words


@pytest.mark.parametrize(
    ("noise", "groups", "labels", "light", "words"),
    [
        (0.5, 20, "human", "green", "above chance and above the texts' length"),
        (0.5, 8, "human", "yellow", "fewer than 10 groups have different labels"),
        (0.5, 20, "constructed", "yellow", "constructed levels are not ratings"),
        (50.0, 20, "human", "red", "cannot be told from chance"),
    ],
)
def test_each_light(tmp_path: Path, noise: float, groups: int, labels: str, light: str, words: str) -> None:
    found = trust(part(tmp_path, noise, groups), None, labels)
    assert (found.light, words in found.words) == (light, True), found


def test_a_judge_that_follows_length_has_a_reservation(tmp_path: Path) -> None:
    found = part(tmp_path, 0.5)
    longer = [{**row, "candidate_chars": int(100 * row["panel.score"])} for row in found.rows]
    from evaluation.measure.slices import _measure_slice

    settings = {"resamples": 200, "seed": 0, "interval": "percentile"}
    same = _measure_slice((found.task, found.dataset, found.aspect), longer, (), settings)
    assert trust(same, None, "human").light == "yellow"
    assert "not surely above the texts' length" in trust(same, None, "human").words


def test_equal_lengths_and_missing_scores_are_reservations(tmp_path: Path) -> None:
    found = trust(part(tmp_path, 0.5, candidate_chars=100), None, "human")
    assert found.light == "yellow" and "a comparison with the texts' length is not possible" in found.words


def test_the_groups_that_count_are_those_with_different_labels(tmp_path: Path) -> None:
    """Of 20 labelled groups 18 have one text, so the agreement within groups is of two."""
    random = np.random.default_rng(0)
    rows = [
        {
            "id": f"r{group}-{system}",
            "group": f"g{group}",
            "label": float(1 + system * 2),
            "scores": {"j": float(1 + system * 2)},
            "candidate_chars": int(random.integers(10, 900)),
        }
        for group in range(20)
        for system in range(3 if group < 2 else 1)
    ]
    scores_file(tmp_path, rows)
    found = trust(measure(tmp_path / "scores.parquet", resamples=200, seed=0, interval="percentile")[0], None, "human")
    assert found.light != "green" and "in 2 groups" in found.words


def test_few_scored_texts_are_a_reservation(tmp_path: Path) -> None:
    known = part(tmp_path, 0.5, 40)
    names = ("id", "group", "system", "label", "candidate_chars")
    rows = [
        {**{name: row[name] for name in names}, "scores": {"j": row["j.score"] if place < 60 else None}}
        for place, row in enumerate(known.rows)
    ]
    scores_file(tmp_path, rows)
    found = trust(measure(tmp_path / "scores.parquet", resamples=200, seed=0, interval="percentile")[0], None, "human")
    assert found.light == "yellow" and "only 50% of the labelled texts have a score" in found.words


def known(value: float, low: float, high: float, coverage: float = 1.0) -> Any:
    """A part of 30 groups with that agreement of the panel; chance is 0."""
    found = Estimate(value, low, high, 30, coverage)
    of = {"group.spearman": found, "floor.group.spearman": Estimate(0.0, -0.1, 0.1, 30, 1.0)}
    return SimpleNamespace(estimates={"panel": of}, num_groups=30, against_length={"panel": {"group.spearman": found}})


def certified() -> Any:
    """A certificate that holds by another statistic than the one that the light looks at."""
    figure = Estimate(0.6, 0.5, 0.7, 80, 1.0)
    return SimpleNamespace(
        verdict=SimpleNamespace(holds=True, failed=()),
        date="2026-01-01T00:00:00Z",
        criteria=SimpleNamespace(statistic="dataset.pearson"),
        agreement={"dataset.pearson": SimpleNamespace(model_dump=figure.to_json)},
        num_groups=40,
    )


def test_below_chance_is_a_contradiction() -> None:
    found = trust(known(-0.4, -0.5, -0.3), None, "human")
    assert found.light == "red"
    said = (
        "The panel contradicts people: its group.spearman with people is -.40 [-.50, -.30] in 30 groups, below chance"
    )
    assert found.words.startswith(said)


def test_a_certificate_is_quoted_by_its_own_statistic() -> None:
    found = trust(known(0.05, -0.2, 0.3), certified(), "human")
    assert found.light == "green"
    assert found.words.endswith("dataset.pearson with people is .60 [.50, .70] in 40 groups.")


def test_constructed_levels_are_never_green() -> None:
    assert trust(known(0.5, 0.3, 0.7), certified(), "constructed").light == "yellow"


def test_coverage_is_not_rounded_up_to_the_bar() -> None:
    found = trust(known(0.5, 0.3, 0.7, coverage=0.9499), None, "human")
    assert found.light == "yellow" and "only 94% of the labelled texts" in found.words
