"""scores.parquet -> agreement by slice, never pooled, and only on labelled rows."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evaluation.measure.formatting import shown
from evaluation.measure.slices import Comparison, Slice, comparisons, measure, score_columns, worst
from tests.evaluation.making import scores_file


def rows(scores: dict[str, list[float | None]], labels: list[float | None], **more: Any) -> list[dict[str, Any]]:
    """Rows of two in a group; `scores`: a column's score for each row."""
    return [
        {
            "id": f"{more.get('task', 'qa')}-{place}",
            "group": f"g{place // 2}",
            "system": f"s{place % 2}",
            "label": label,
            "scores": {name: values[place] for name, values in scores.items()},
            **more,
        }
        for place, label in enumerate(labels)
    ]


def measured(folder: Path, given: list[dict[str, Any]], **more: Any) -> list[Slice]:
    return measure(scores_file(folder, given), resamples=100, seed=0, interval="percentile", **more)


def test_a_judge_that_agrees_and_one_that_says_the_opposite(tmp_path: Path) -> None:
    labels: list[float | None] = [1, 5, 2, 4, 1, 4]
    scores: dict[str, list[float | None]] = {"good": [1, 5, 2, 4, 1, 4], "bad": [5, 1, 4, 2, 5, 2]}
    (part,) = measured(tmp_path, rows(scores, labels))
    assert (part.num_rows, part.num_groups, part.num_systems, part.scale) == (6, 3, 2, (1, 5))
    assert part.title == "qa / d / overall"
    assert list(part.estimates) == ["good", "bad", "panel", "length"]
    good, bad = part.estimates["good"], part.estimates["bad"]
    assert good["dataset.pearson"].value == pytest.approx(1)
    assert bad["dataset.pearson"].value == pytest.approx(-1)
    # In every group of two, the text with the higher label has the higher score, or the lower one.
    assert (good["group.pairwise_accuracy"].value, bad["group.pairwise_accuracy"].value) == (1, 0)
    # (4 + 4 + 2 + 2 + 4 + 2) / 6 points.
    assert bad["dataset.mean_absolute_error"].value == pytest.approx(3)
    # The panel's mean is 3 everywhere: no ranks.
    assert math.isnan(part.estimates["panel"]["dataset.spearman"].value)
    assert part.against_panel["good"]["group.pairwise_accuracy"].value == pytest.approx(-0.5)


def test_the_baseline_is_the_length_without_distances_to_the_scale(tmp_path: Path) -> None:
    given = rows({"j": [1, 2, 3, 4]}, [1, 2, 3, 4])
    for one, chars in zip(given, [400, 300, 200, 100], strict=True):
        one["candidate_chars"] = chars
    (part,) = measured(tmp_path, given)
    assert part.estimates["length"]["dataset.spearman"].value == pytest.approx(-1)
    assert part.against_length["j"]["dataset.spearman"].value == pytest.approx(2)
    for found in (part.estimates["length"], part.against_length["j"]):
        assert not [name for name in found if name.endswith(("mean_absolute_error", "krippendorff_alpha"))]


def test_a_prompt_minus_the_rubric_on_the_rows_where_both_scored(tmp_path: Path) -> None:
    labels: list[float | None] = [1, 5, 2, 4, 1, 4]
    scores: dict[str, list[float | None]] = {
        "plain": [5, 1, 4, 2, 5, None],
        "learned": [1, 5, 2, 4, 1, 1],
        "other": [1, 5, 2, 4, 1, 4],
    }
    (part,) = measured(tmp_path, rows(scores, labels), pairs=[Comparison("learned", "plain", "rubric")])
    (found,) = part.against_baseline.values()
    # Without the last row, one judge equals the labels and the other is their opposite: 1 - -1.
    assert found["dataset.spearman"].value == pytest.approx(2)
    assert (found["dataset.spearman"].n, found["dataset.spearman"].coverage) == (5, pytest.approx(5 / 6))
    # Two groups keep a pair: 1 - 0.
    assert (found["group.pairwise_accuracy"].value, found["group.pairwise_accuracy"].n) == (pytest.approx(1), 2)
    (written,) = part.to_json()["difference_to_baseline"]
    assert written["agreement"]["dataset"]["spearman"]["value"] == pytest.approx(2)
    assert (written["judge"], written["baseline"], written["what"]) == ("learned", "plain", "rubric")


def test_without_a_rubric_judge_there_is_no_such_difference(tmp_path: Path) -> None:
    (part,) = measured(tmp_path, rows({"j": [1, 2, 3, 4]}, [1, 2, 3, 4]))
    assert (part.against_baseline, part.to_json()["difference_to_baseline"]) == ({}, [])


def test_the_rubric_judge_of_the_same_model_and_mode() -> None:
    def one(model: str, prompt: str, mode: str = "expected") -> dict[str, str]:
        return {"model": model, "prompt": prompt, "score_mode": mode}

    judges = {
        "a.inverse": one("a", "inverse"),
        "a.parsed": one("a", "rubric", "parsed"),
        "a.plain": one("a", "rubric"),
        "a.said": one("a", "prompts/x.txt", "parsed"),
        "a.second": one("a", "rubric"),
        "b.forward": one("b", "forward"),
        "c.inverse": one("c", "inverse", "parsed"),
        "c.plain": one("c", "rubric"),
        "panel": {},
    }
    # b has no rubric judge; c's counts although its score mode differs.
    assert comparisons(judges) == [
        ("a.inverse", "a.plain", "rubric"),
        ("a.said", "a.parsed", "rubric"),
        ("c.inverse", "c.plain", "rubric"),
    ]
    assert comparisons({"panel": {}}) == []


def test_found_examples_against_none_random_and_plain_search() -> None:
    def one(arm: str = "", **changes: Any) -> dict[str, Any]:
        settings = {"model": "m", "prompt": "rubric", "score_mode": "expected", **changes}
        return {**settings, "icl": {"arm": arm}} if arm else settings

    judges = {
        "plain": one(),
        "named": one(examples=["x"]),
        "said": one(score_mode="parsed"),
        "random": one("random"),
        "semantic": one("semantic"),
        "trained": one("trained"),
        "k1": one("trained"),
        "inverse": one("trained", prompt="inverse"),
        "panel": {},
    }
    assert comparisons(judges) == [
        ("random", "plain", "none"),
        ("semantic", "plain", "none"),
        ("semantic", "random", "random"),
        *(("trained", "plain", "none"), ("trained", "random", "random"), ("trained", "semantic", "semantic")),
        *(("k1", "plain", "none"), ("k1", "random", "random"), ("k1", "semantic", "semantic")),
        # Against the rubric with the same examples; no other judge has its prompt.
        ("inverse", "trained", "rubric"),
    ]


@pytest.mark.parametrize("key", ["task", "dataset", "aspect"])
def test_slices_are_never_pooled(tmp_path: Path, key: str) -> None:
    # Each slice alone agrees perfectly; pooled, (1, 4), (2, 5), (4, 1), (5, 2), the correlation would be negative.
    first = rows({"j": [4, 5]}, [1, 2], **{key: "first"})
    second = rows({"j": [1, 2]}, [4, 5], **{key: "second"})
    found = measured(tmp_path, [first[0], second[0], first[1], second[1]])
    assert [getattr(part, key) for part in found] == ["first", "second"]
    assert [part.estimates["j"]["dataset.spearman"].value for part in found] == [pytest.approx(1)] * 2
    assert [part.num_rows for part in found] == [2, 2]


def test_unscored_rows_lower_the_coverage_and_nothing_else(tmp_path: Path) -> None:
    labels: list[float | None] = [1, 5, 2, 4, 1, 4, 2, 5]
    values: list[float | None] = [1, 5, 2, 4, None, 4, 2, None]
    given = rows({"j": values}, labels)
    for place, reason in ((4, "unparsed"), (7, "too_long")):
        given[place]["unscored"] = {"j": reason}
    (part,) = measured(tmp_path, given)
    one = part.estimates["j"]["dataset.spearman"]
    assert (one.value, one.n, one.coverage) == (pytest.approx(1), 6, 0.75)
    # Groups 3 and 4 have one scored row each: no pair to compare.
    assert part.estimates["j"]["group.pairwise_accuracy"].n == 2
    assert part.unscored["j"] == {"too_long": 1, "unparsed": 1}
    assert part.unscored["panel"] == {"no_quorum": 2}
    assert part.estimates["length"]["dataset.spearman"].coverage == 1


def test_rows_without_a_label_do_not_enter(tmp_path: Path) -> None:
    (part,) = measured(tmp_path, rows({"j": [1, 2, 3, 4]}, [1, 2, None, None]))
    assert (part.num_rows, part.num_groups) == (2, 1)
    assert part.estimates["j"]["dataset.spearman"].coverage == 1


def test_no_label_at_all_is_no_slice(tmp_path: Path) -> None:
    assert measured(tmp_path, rows({"j": [1, 2]}, [None, None])) == []


def test_all_unscored_is_undefined_and_becomes_null(tmp_path: Path) -> None:
    (part,) = measured(tmp_path, rows({"j": [None] * 4}, [1, 2, 3, 4]))
    one = part.estimates["j"]["dataset.spearman"]
    assert math.isnan(one.value)
    assert (one.n, one.coverage) == (0, 0)
    written = json.loads(json.dumps(part.to_json(), allow_nan=False))
    assert written["agreement"]["j"]["dataset"]["spearman"]["value"] is None
    assert written["agreement"]["length"]["dataset"]["spearman"]["n"] == 4
    assert worst(part, "panel", 5) == []


def test_single_ratings_give_the_human_ceiling(tmp_path: Path) -> None:
    given = rows({"j": [1, 2, 3, 4]}, [1, 2, 3, 4])
    (without,) = measured(tmp_path, given)
    assert without.ceiling is None
    for one in given:
        one["ratings"] = [one["label"]] * 3
    (part,) = measured(tmp_path, given)
    assert part.ceiling is not None
    assert part.ceiling["dataset.spearman"].value == pytest.approx(1)


def test_rows_without_systems_have_no_system_level(tmp_path: Path) -> None:
    given = rows({"j": [1, 2, 3, 4]}, [1, 2, 3, 4])
    (part,) = measured(tmp_path, given)
    assert "system.spearman" in part.estimates["j"]
    given[0]["system"] = ""
    (part,) = measured(tmp_path, given)
    # The row without a system is excluded there, and the heading says so.
    assert "1 without a system" in part.shape
    assert part.estimates["j"]["system.spearman"].n == len({one["system"] for one in given} - {""})
    for one in given:
        one["system"] = ""
    (part,) = measured(tmp_path, given)
    assert "system.spearman" not in part.estimates["j"] and "without a system" not in part.shape


def test_the_worst_are_farthest_in_points_and_scored(tmp_path: Path) -> None:
    (part,) = measured(tmp_path, rows({"j": [1, 5, 3, None]}, [1, 2, 5, 1]))
    assert [(one["id"], one["panel.score"]) for one in worst(part, "panel", 2)] == [("qa-1", 5), ("qa-2", 3)]


def test_the_columns_of_a_row_in_their_order() -> None:
    assert score_columns({"id": 1, "b.score": 1, "b.mode": 1, "a.c.score": 1, "panel.score": 1}) == [
        "b",
        "a.c",
        "panel",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.481, ".48"), (-0.031, "-.03"), (1, "1.00"), (-1, "-1.00"), (10.2, "10.20"), (0.0, ".00"), (0.999, "1.00"),
     (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_a_number_for_a_table(value: float, text: str) -> None:
    assert shown(value) == text
