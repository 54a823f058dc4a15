"""Verdicts -> scores.parquet: on the human scale, voted, unscored rows counted by name."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evaluation.batch.scores import VerdictsOnDisk, write_scores
from evaluation.judges.aggregation import Ballot, VoteConfig
from tests.evaluation.making import judge, record, write_records, write_verdicts_file

MEAN = {"rule": "mean", "min_votes": 1, "weights": {}}


def written(folder: Path, judges: tuple[str, ...] = ("a", "b"), keys: Any = (), **rule: Any) -> tuple[list[Any], Any]:
    summary = write_scores(
        folder, {name: judge(name, *keys) for name in judges}, Ballot(VoteConfig(**{**MEAN, **rule}))
    )
    return pq.read_table(folder / "scores.parquet").to_pylist(), summary


def test_scores_are_in_points_of_the_human_scale(tmp_path: Path) -> None:
    # The judges answer on 1 to 5; people rated x on 1 to 5, y on 1 to 9, and z not at all.
    write_records(tmp_path, [record("x", label=2), record("y", label=8, high=9), record("z", label=None)])
    write_verdicts_file(tmp_path, "a", {("x", "overall"): 2, ("y", "overall"): 2, ("z", "overall"): 2})
    write_verdicts_file(tmp_path, "b", {("x", "overall"): 4.5, ("y", "overall"): 4.5, ("z", "overall"): 4.5})
    rows, _ = written(tmp_path)
    columns = ("id", "label", "scale_low", "scale_high", "a.score", "b.score", "panel.score")
    # 1 to 9 is twice as wide: 2 -> 1 + 2 * 1 = 3, 4.5 -> 1 + 2 * 3.5 = 8, their mean 3.25 -> 5.5.
    assert [tuple(one[name] for name in columns) for one in rows] == [
        ("x", 2, 1, 5, 2, 4.5, 3.25),
        ("y", 8, 1, 9, 3, 8, 5.5),
        ("z", None, 1, 5, 2, 4.5, 3.25),
    ]
    assert rows[0]["candidate_chars"] == len("Answer x.")
    assert (rows[0]["a.mode"], rows[0]["a.label_mass"], rows[0]["a.reason"]) == ("expected", 0.9, "a on x")


def test_texts_without_a_label_are_on_the_scale_of_the_labels_of_their_part(tmp_path: Path) -> None:
    texts = {"x": ("d", 9.0), "y": ("d", None), "z": ("e", None)}
    made = [record(name, f"g{name}", dataset=dataset, label=label, high=9) for name, (dataset, label) in texts.items()]
    # In parts of their own: the labels may come last.
    write_records(tmp_path, [made[1]], [made[2], made[0]])
    write_verdicts_file(tmp_path, "a", {(name, "overall"): 2 for name in texts})
    rows, _ = written(tmp_path, ("a",))
    # 2 on 1 to 5 is 3 on 1 to 9; the data set e has no labels, and keeps the task's scale.
    found = {one["id"]: (one["scale_high"], one["a.score"], one["panel.score"]) for one in rows}
    assert found == {"x": (9, 3, 3), "y": (9, 3, 3), "z": (5, 2, 2)}


def test_a_judge_without_a_score_abstains_and_is_counted(tmp_path: Path) -> None:
    write_records(tmp_path, [record("x"), record("y")], [record("z", "h"), record("w", "h")])
    write_verdicts_file(
        tmp_path,
        "a",
        {("x", "overall"): 2, ("y", "overall"): "unparsed", ("z", "overall"): "timeout", ("w", "overall"): 1},
    )
    write_verdicts_file(
        tmp_path, "b", {("x", "overall"): 4, ("y", "overall"): 4, ("z", "overall"): "too_long", ("w", "overall"): 1}
    )
    rows, summary = written(tmp_path)
    columns = ("id", "a.score", "a.unscored", "b.score", "b.unscored", "panel.score", "panel.unscored")
    assert [tuple(one[name] for name in columns) for one in rows] == [
        ("x", 2, None, 4, None, 3, None),
        ("y", None, "unparsed", 4, None, 4, None),
        ("z", None, "timeout", None, "too_long", None, "no_quorum"),
        ("w", 1, None, 1, None, 1, None),
    ]
    assert [(one["panel.num_votes"], one["panel.num_abstentions"]) for one in rows] == [(2, 0), (1, 1), (0, 2), (2, 0)]
    assert summary == {
        "num_records": 4,
        "num_scores": 4,
        "judges": {
            "a": {"coverage": 0.5, "unscored": {"unparsed": 1, "timeout": 1}},
            "b": {"coverage": 0.75, "unscored": {"too_long": 1}},
            "panel": {"coverage": 0.75, "unscored": {"no_quorum": 1}},
        },
        "file": str(tmp_path / "scores.parquet"),
    }


@pytest.mark.parametrize(
    ("rule", "score", "unscored"),
    [
        ({"rule": "median"}, 2, None),
        ({"rule": "majority"}, 2, None),
        ({"rule": "weighted", "weights": {"a": 1, "b": 0, "c": 3}}, 4.25, None),  # (2 + 3 * 5) / 4
        ({"min_votes": 4}, None, "no_quorum"),
    ],
)
def test_the_rules_of_the_vote(tmp_path: Path, rule: Any, score: float | None, unscored: str | None) -> None:
    write_records(tmp_path, [record("x")])
    for name, said in {"a": 2, "b": 2, "c": 5}.items():
        write_verdicts_file(tmp_path, name, {("x", "overall"): said})
    rows, _ = written(tmp_path, ("a", "b", "c"), **rule)
    assert (rows[0]["panel.score"], rows[0]["panel.unscored"]) == (score, unscored)


def test_each_aspect_of_a_record_has_its_row_and_only_what_was_judged(tmp_path: Path) -> None:
    keys = (("qa", "overall"), ("qa", "utility"), ("story", "empathy"))
    write_records(tmp_path, [record("x"), record("y", task="story")])
    write_verdicts_file(tmp_path, "a", {("x", "utility"): 1, ("x", "overall"): 2, ("y", "empathy"): 3})
    rows, summary = written(tmp_path, ("a",), keys)
    assert [(one["id"], one["aspect"], one["a.score"], one["label"]) for one in rows] == [
        ("x", "overall", 2, 3),
        ("x", "utility", 1, None),
        ("y", "empathy", 3, None),
    ]
    assert (summary["num_records"], summary["num_scores"]) == (2, 3)


def test_single_ratings_are_kept(tmp_path: Path) -> None:
    write_records(tmp_path, [record("x", ratings={"overall": (2.0, None, 4.0)})])
    write_verdicts_file(tmp_path, "a", {("x", "overall"): 3})
    rows, _ = written(tmp_path, ("a",))
    assert rows[0]["ratings"] == "[2.0, null, 4.0]"


def test_no_half_file_is_left_where_a_verdict_is_missing(tmp_path: Path) -> None:
    write_records(tmp_path, [record("x")], [record("y", "h")])
    write_verdicts_file(tmp_path, "a", {("x", "overall"): 3, ("y", "overall"): 3})
    write_verdicts_file(tmp_path, "b", {("x", "overall"): 3})
    with pytest.raises(KeyError):
        written(tmp_path)
    assert not (tmp_path / "scores.parquet").exists()


def test_verdicts_are_found_by_record_and_aspect_over_all_parts(tmp_path: Path) -> None:
    write_verdicts_file(tmp_path, "a", {("x", "overall"): 2, ("y", "utility"): "unparsed"})
    folder = tmp_path / "verdicts" / "a"
    (folder / "part-0.parquet").rename(tmp_path / "kept")
    folder.rmdir()
    # The second part says x once more: the first one's counts.
    write_verdicts_file(tmp_path, "a", {("y", "overall"): 4, ("x", "overall"): 5})
    (folder / "part-0.parquet").rename(folder / "part-1.parquet")
    (tmp_path / "kept").rename(folder / "part-0.parquet")
    known = VerdictsOnDisk(folder)
    asked = [("y", "overall"), ("z", "overall"), ("y", "utility"), ("x", "overall")]
    found = known.of(asked)
    assert {key: (row["score"], row["unscored"]) for key, row in found.items()} == {
        ("y", "overall"): (4, None),
        ("y", "utility"): (None, "unparsed"),
        ("x", "overall"): (2, None),
    }
    assert known.of([]) == {}
    assert known.of([("z", "overall")]) == {}
