"""Which sentence is said first, by whom, and how names get on the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.reporting import report
from tests.evaluation.reporting.test_report import finished


def opposite(labelled: int, groups: int = 60) -> list[dict[str, Any]]:
    """People rate A about 4 and B about 2, the judge the reverse."""
    random = np.random.default_rng(0)
    by_people, by_judge = {"A": 4.0, "B": 2.0}, {"A": 2.0, "B": 4.0}
    return [
        {
            "id": f"r{group}-{name}",
            "group": f"g{group:02}",
            "system": name,
            "label": by_people[name] + random.normal(0, 0.3) if group < labelled else None,
            "scores": {"j": by_judge[name] + random.normal(0, 0.3)},
            "candidate_chars": int(random.integers(10, 900)),
        }
        for group in range(groups)
        for name in by_people
    ]


def answer(tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    (part,) = report.main(finished(tmp_path / "run", rows, **more)).summary["systems"]
    return dict(part)


@pytest.mark.parametrize(
    ("labelled", "start", "light"),
    [
        (60, "By people, A is better than B on overall by 2.0", "red"),
        # The judge has a weight where it narrows the interval, else the labels stay alone.
        (20, "By people's labels in 20 of 60 groups", "red"),
        (8, "By people's labels in 8 of 60 groups, A is better than B on overall by", "red"),
        (3, "The panel ranks B above A on overall, but is not trusted here.", "red"),
        (0, "By the panel, B is better than A on overall by 2.1", "grey"),
    ],
)
def test_people_come_before_the_panel(tmp_path: Path, labelled: int, start: str, light: str) -> None:
    found = answer(tmp_path, opposite(labelled))
    assert (found["sentence"].startswith(start), found["trust"]["light"]) == (True, light), found["sentence"]
    assert labelled < 6 or "A is better than B" in found["sentence"]


def test_constructed_levels_are_no_people(tmp_path: Path) -> None:
    found = answer(tmp_path, opposite(60), labels="constructed")
    assert found["sentence"] == "The panel ranks B above A on overall, but is not trusted here."


def test_the_judge_and_few_labels_together_are_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = opposite(20)
    for one in rows:
        quality = random.normal(0, 1)
        one["scores"]["j"] += quality
        if one["label"] is not None:
            one["label"] += quality
    words = answer(tmp_path, rows)["sentence"]
    assert words.startswith(
        "By people's labels in 20 of 60 groups and the panel (PPI++), A is better than B on overall"
    )


def test_too_many_systems_are_the_reason(tmp_path: Path) -> None:
    rows = [{**opposite(0)[0], "id": f"r{number}", "system": f"s{number}"} for number in range(201)]
    said = "No systems are compared on overall: 201 systems are more than the 200 that are compared."
    assert answer(tmp_path, rows)["sentence"] == said


def test_names_turn_nothing_round_and_the_plot_comes_first(tmp_path: Path) -> None:
    rows = [{**one, "system": {"A": "A\u202e", "B": "\u05d1 <b>"}[one["system"]]} for one in opposite(15)]
    report.main(finished(tmp_path / "run", rows))
    page = (tmp_path / "run" / "report" / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in page.split("<h2>Details</h2>")[0]
    assert "<bdi>A\\u202e</bdi> is better than <bdi>\u05d1 &lt;b&gt;</bdi> on <bdi>overall</bdi>" in page
    assert page.index("class=sentence") < page.index("<img") < page.index("class=trust")
    assert "human score (15 groups)" in page
