"""What the shown examples say alone, and how far a judge goes along with it: worked out by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.examples import SCHEMA
from serve.metrics import Slice, measure
from serve.neighbours import Neighbours, neighbours, section, table_rows
from tests.serve.making import scores_file

LABELS = [1.0, 5.0, 2.0, 4.0, 1.0, 4.0]


def slices(run: Path, scores: dict[str, list[float | None]]) -> list[Slice]:
    rows = [
        {
            "id": f"r{place}",
            "group": f"g{place // 2}",
            "system": f"s{place % 2}",
            "label": label,
            "scores": {name: values[place] for name, values in scores.items()},
        }
        for place, label in enumerate(LABELS)
    ]
    (run / "evaluate").mkdir(parents=True)
    return measure(scores_file(run / "evaluate", rows), resamples=100, seed=0, interval="percentile")


def shown(run: Path, judge: str, means: list[float | None], *, aspect: str = "overall", size: int = 4) -> None:
    """The examples' parts of a judge, `size` rows each."""
    folder = run / "evaluate" / "examples" / judge
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"id": f"r{place}", "aspect": aspect, "examples": [], "mean_score": mean, "num_dropped": 0}
        for place, mean in enumerate(means)
    ]
    for first in range(0, len(rows), size):
        table = pa.Table.from_pylist(rows[first : first + size], schema=SCHEMA)
        pq.write_table(table, folder / f"part-{first}.parquet")


def found(run: Path, part: Slice) -> dict[str, Neighbours]:
    return neighbours(run, part, resamples=100, seed=0, interval="percentile")


def test_examples_that_know_the_answer_and_a_judge_that_says_the_opposite(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": [6 - label for label in LABELS], "plain": list(LABELS)})
    shown(tmp_path, "j", list(LABELS))
    told = found(tmp_path, part)
    assert list(told) == ["j"]
    one = told["j"]
    assert one.alone["dataset.spearman"].value == pytest.approx(1)
    assert one.alone["group.spearman"].value == pytest.approx(1)
    assert one.alone["dataset.mean_absolute_error"].value == 0
    assert one.minus_alone["dataset.spearman"].value == pytest.approx(-2)
    assert one.follows["dataset.spearman"].value == pytest.approx(-1)
    assert one.follows["dataset.spearman"].n == 6


def test_a_judge_that_copies(tmp_path: Path) -> None:
    means: list[float | None] = [3, 3, 1, 1, 5, 5]  # the same examples for both texts of a group
    (part,) = slices(tmp_path, {"j": means})
    shown(tmp_path, "j", means)
    one = found(tmp_path, part)["j"]
    assert one.follows["dataset.spearman"].value == pytest.approx(1)
    # Within a group there is nothing that could be ranked.
    assert one.alone["group.spearman"].num_undefined == 3
    assert one.minus_alone["dataset.spearman"].value == 0


def test_texts_without_examples_lower_the_coverage(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": [*LABELS[:5], None]})
    shown(tmp_path, "j", [None, *LABELS[1:]])
    one = found(tmp_path, part)["j"]
    assert one.alone["dataset.spearman"].coverage == pytest.approx(5 / 6)
    assert one.alone["dataset.spearman"].n == 5
    # The last row is unscored: four are left where the judge and its examples both speak.
    assert (one.follows["dataset.spearman"].n, one.minus_alone["dataset.spearman"].n) == (4, 4)


@pytest.mark.parametrize("aspect", ["overall", "style"])
def test_examples_of_another_aspect_or_none_at_all(tmp_path: Path, aspect: str) -> None:
    (part,) = slices(tmp_path, {"j": list(LABELS)})
    shown(tmp_path, "j", [None] * 6 if aspect == "overall" else list(LABELS), aspect=aspect)
    assert found(tmp_path, part) == {}


def test_parts_of_an_evaluation_before_there_were_means(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": list(LABELS)})
    folder = tmp_path / "evaluate" / "examples" / "j"
    folder.mkdir(parents=True)
    old = pa.schema([one for one in SCHEMA if one.name != "mean_score"])
    rows = [{"id": "r0", "aspect": "overall", "examples": ["e"], "num_dropped": 0}]
    pq.write_table(pa.Table.from_pylist(rows, schema=old), folder / "part-0.parquet")
    assert found(tmp_path, part) == {}


def test_the_terminal_and_the_page(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": list(LABELS)})
    shown(tmp_path, "j", list(LABELS))
    told = found(tmp_path, part)
    head, line = table_rows(told)
    assert len(head) == len(line) == 4
    assert line[0] == "j"
    assert line[1].startswith("1.00 [")
    assert line[2].startswith(".00 [")
    assert section(told).count("<td>") == 5
    assert section({}) == ""
    assert set(told["j"].to_json()) == {"alone", "minus_alone", "follows"}
