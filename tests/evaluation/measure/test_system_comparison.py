"""From a scores file to rankings by panel, judges and people; what does not match is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.measure.system_comparison import PEOPLE, SystemsPart, compare_systems
from tests.evaluation.making import scores_file


def too_few(num: int) -> str:
    return f"Fewer than 6 groups (sources) are too few for an interval: {num}. Judge texts on more sources."


def row(group: int, system: str, score: float | None, label: float | None = None, **more: Any) -> dict[str, Any]:
    scores = {"j": score, "k": None if score is None else 6 - score}
    return {"id": f"{group}{system}", "group": f"g{group}", "system": system, "label": label, "scores": scores, **more}


def parts(tmp_path: Path, rows: list[dict[str, Any]]) -> list[SystemsPart]:
    scores_file(tmp_path, rows)
    return compare_systems(tmp_path / "scores.parquet", resamples=100, seed=0)


def order(part: SystemsPart, column: str) -> list[str]:
    return [one.system for one in part.rankings[column].systems]


def test_each_column_has_its_ranking(tmp_path: Path) -> None:
    rows = [row(group, name, group % 2 + 1 + step, 5 - step) for group in range(4) for step, name in enumerate("abc")]
    (part,) = parts(tmp_path, rows)
    # j likes c, k the opposite, their mean (the panel) nobody; people like a.
    assert list(part.rankings) == ["panel", "j", "k", PEOPLE]
    assert order(part, "j") == ["c", "b", "a"] and order(part, "k") == ["a", "b", "c"]
    assert order(part, PEOPLE) == ["a", "b", "c"]
    assert [one.rank for one in part.rankings["panel"].systems] == [1, 1, 1]
    assert part.notes == [too_few(4)] and part.powered == {} and (part.num_groups, part.num_labelled_groups) == (4, 4)
    json.dumps(part.to_json(), allow_nan=False)


def test_parts_of_the_data_stay_apart(tmp_path: Path) -> None:
    rows = [row(group, name, 2.0) for group in range(2) for name in "ab"]
    rows += [row(group, name, 4.0, aspect="utility") for group in range(2) for name in "ab"]
    rows += [row(group, name, 1.0, dataset="e") for group in range(2) for name in "ab"]
    found = parts(tmp_path, rows)
    assert [(part.title, part.num_rows) for part in found] == [
        ("qa / d / overall", 4),
        ("qa / d / utility", 4),
        ("qa / e / overall", 4),
    ]
    assert [part.rankings["j"].systems[0].mean.value for part in found] == [2, 4, 1]


def test_what_does_not_match_is_said(tmp_path: Path) -> None:
    rows = [row(group, name, 2.0) for group in range(3) for name in "ab"][:-1]
    (part,) = parts(tmp_path, [*rows, row(9, "", 5.0)])
    nameless, lacking, rough = part.notes
    assert rough == too_few(3)
    assert nameless == "1 of 6 rows name no system and are left out here. Set `system` in the data."
    assert lacking.startswith("Not every system has a score in each of the 3 groups (b has 2).")
    (apart,) = parts(tmp_path, [row(1, "a", 2.0), row(2, "a", 3.0), row(3, "b", 2.0)])
    assert apart.notes[0].startswith("No two systems answer the same group")
    (stray,) = parts(tmp_path, [*rows, row(8, "c", 1.0), row(7, "d\ne", None)])
    assert stray.notes[0].startswith("Not compared: c, d e (no score, or no group")
    assert [one.system for one in stray.rankings["panel"].systems] == ["a", "b"]
    (alone,) = parts(tmp_path, [row(1, "a", 2.0), row(1, "b", 3.0)])
    assert alone.notes == [too_few(1)]
    json.dumps(alone.to_json(), allow_nan=False)


def test_no_system_and_no_score(tmp_path: Path) -> None:
    (nameless,) = parts(tmp_path, [row(1, "", 2.0), row(2, "", 3.0)])
    assert nameless.systems == [] and nameless.rankings == {}
    (unscored,) = parts(tmp_path, [row(1, "a", None, 3.0), row(2, "a", None, 4.0)])
    assert list(unscored.rankings) == [PEOPLE]


def few(*, labelled: int = 24, groups: int = 36) -> list[dict[str, Any]]:
    """Scores 1, 2, 3, 4 in turn, b one point above a; labels around one point above the scores."""
    return [
        row(
            group,
            name,
            1.0 + group % 4 + step,
            2.0 + group % 4 + step + (group % 3 - 1) / 2 if group < labelled else None,
        )
        for group in range(groups)
        for step, name in enumerate("ab")
    ]


def test_labels_on_some_groups(tmp_path: Path) -> None:
    (part,) = parts(tmp_path, few())
    means, differences = part.powered["j"].means, part.powered["j"].differences
    # Labels of groups 0 to 23: 2, 3, 4, 5 six times with a half more or less, mean 3.5; the judge's mean is 2.5.
    found = (means["a"].labels.value, means["a"].judge.value, means["a"].powered.value)
    assert found == pytest.approx((3.5, 2.5, 3.5))
    assert (means["a"].labels.n, means["a"].judge.n) == (24, 36) and means["a"].effective > 24
    assert differences["b", "a"].powered.value == pytest.approx(1)
    # k turns the scale around, so a is its best; labels say b.
    assert order(part, "k") == ["a", "b"] and list(part.powered["k"].differences) == [("b", "a")]
    (test,) = part.powered["k"].tests
    # Both systems are a point apart in every labelled group: b is surely better.
    assert (test.first, test.is_told, test.won, test.tied, test.lost) == ("b", True, 24, 0, 0)
    assert part.to_json()["with_few_labels"]["k"]["differences"][0]["can_be_told_apart"] is True


def test_means_are_estimated_only_where_every_system_is_in_every_group(tmp_path: Path) -> None:
    (part,) = parts(tmp_path, few()[:-1])
    assert part.powered["j"].means == {} and len(part.powered["j"].differences) == 1


def test_labels_of_one_system_in_each_group_are_few_labels_too(tmp_path: Path) -> None:
    rows = [
        {**one, "label": None if (place // 2 + place) % 2 else one["label"]}
        for place, one in enumerate(few(labelled=36))
    ]
    (part,) = parts(tmp_path, rows)
    found = part.powered["j"]
    assert found.means["a"].labels.n == found.means["b"].labels.n == 18
    assert [(ways.labels.n, ways.p) for ways in found.differences.values()] == [(0, 1.0)] and not found.has_interval
    assert any(
        note.startswith("In the ranking by the labels: No two systems answer the same group") for note in part.notes
    )


def test_names_of_texts_are_not_systems(tmp_path: Path) -> None:
    (part,) = parts(tmp_path, [row(number, f"writer {number}", 2.0) for number in range(201)])
    assert part.rankings == {} and part.notes[0].startswith("201 systems are more than the 200")


def test_a_cell_with_an_unlabelled_row_has_no_label(tmp_path: Path) -> None:
    rows = [row(group, "a", 2.0 + group, 3.0) for group in range(3)]
    rows += [{**row(0, "a", 2.0), "id": "again"}, row(7, "a", 1.0)]
    (part,) = parts(tmp_path, rows)
    assert part.powered["j"].means["a"].labels.n == 2


def test_a_text_feature_is_no_opinion_on_systems(tmp_path: Path) -> None:
    modes = {"k": "feature"}
    (part,) = parts(tmp_path, [row(group, name, 2.0, modes=modes) for group in range(6) for name in "ab"])
    assert list(part.rankings) == ["panel", "j"]


def test_a_single_judges_ranking_says_what_it_lacks(tmp_path: Path) -> None:
    rows = [row(group, name, 2.0) for group in range(12) for name in "abc"]
    for one in rows:
        if one["system"] == "c":
            one["scores"] = {"j": None, "k": 2.0}
        if (one["group"], one["system"]) == ("g3", "b"):
            one["scores"]["k"] = None
    (part,) = parts(tmp_path, rows)
    by_j, by_k = part.notes
    assert by_j.startswith("In the ranking by j: Not compared: c (no score")
    assert by_k.startswith("In the ranking by k: Not every system has a score in each of the 12 groups (b has 11).")
    found = part.to_json()["rankings"]
    assert (found["j"]["left_out"], found["panel"]["left_out"]) == (["c"], [])
    # 12 of 36 rows have no score by j.
    assert found["j"]["coverage"] == pytest.approx(2 / 3)


def test_a_blank_name_is_no_system(tmp_path: Path) -> None:
    (part,) = parts(tmp_path, [row(group, name, 2.0) for group in range(6) for name in ("a", " \t", "\u00a0")])
    assert part.systems == ["a"] and part.notes[0].startswith("12 of 18 rows name no system")


def test_scales_are_in_the_title_where_a_part_has_several(tmp_path: Path) -> None:
    rows = [row(group, "a", 2.0, high=high) for group in range(2) for high in (5.0, 10.0)]
    rows += [row(group, "a", 2.0, aspect="utility") for group in range(2)]
    assert [part.title for part in parts(tmp_path, rows)] == [
        "qa / d / overall (1 to 5)",
        "qa / d / overall (1 to 10)",
        "qa / d / utility",
    ]
