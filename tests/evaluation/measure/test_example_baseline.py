"""The baseline of the examples alone, and how a judge correlates with it: expected values worked out by hand."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.judges.few_shot import SCHEMA
from evaluation.measure.example_baseline import Neighbours, means_of, neighbours
from evaluation.measure.slices import Slice, measure
from evaluation.reporting.examples_section import section, table_rows
from tests.evaluation.making import examples_parts, scores_file
from tests.refusals import refused

LABELS = [1.0, 5.0, 2.0, 4.0, 1.0, 4.0]


def slices(run: Path, scores: dict[str, list[float | None]], *, aspects: tuple[str, ...] = ("overall",)) -> list[Slice]:
    rows = [
        {
            "id": f"r{place}",
            "aspect": aspect,
            "group": f"g{place // 2}",
            "system": f"s{place % 2}",
            "label": label,
            "scores": {name: values[place] for name, values in scores.items()},
        }
        for aspect in aspects
        for place, label in enumerate(LABELS)
    ]
    (run / "evaluate").mkdir(parents=True)
    return measure(scores_file(run / "evaluate", rows), resamples=100, seed=0, interval="percentile")


def found(run: Path, part: Slice) -> dict[str, Neighbours]:
    means = means_of(run, {"j": {"icl": {}}, "plain": {}})
    return neighbours(part, means, resamples=100, seed=0, interval="percentile")


def test_examples_that_know_the_answer_and_a_judge_that_says_the_opposite(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": [6 - label for label in LABELS], "plain": list(LABELS)})
    examples_parts(tmp_path, "j", list(LABELS))
    baselines = found(tmp_path, part)
    assert list(baselines) == ["j"]
    one = baselines["j"]
    assert one.alone["dataset.spearman"].value == pytest.approx(1)
    assert one.alone["group.spearman"].value == pytest.approx(1)
    assert one.alone["dataset.mean_absolute_error"].value == 0
    assert one.minus_alone["dataset.spearman"].value == pytest.approx(-2)
    assert one.follows["dataset.spearman"].value == pytest.approx(-1)
    assert one.follows["dataset.spearman"].n == 6


def test_a_judge_that_copies(tmp_path: Path) -> None:
    means: list[float | None] = [3, 3, 1, 1, 5, 5]  # the same examples for both texts of a group
    (part,) = slices(tmp_path, {"j": means})
    examples_parts(tmp_path, "j", means)
    one = found(tmp_path, part)["j"]
    assert one.follows["dataset.spearman"].value == pytest.approx(1)
    # Within a group, there is nothing to rank.
    assert one.alone["group.spearman"].num_undefined == 3
    assert one.minus_alone["dataset.spearman"].value == 0


def test_texts_without_examples_lower_the_coverage(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": [*LABELS[:5], None]})
    examples_parts(tmp_path, "j", [None, *LABELS[1:]])
    one = found(tmp_path, part)["j"]
    # The first row has no examples and the last no score: all three are measured on the other four.
    assert one.alone["dataset.spearman"].coverage == pytest.approx(4 / 6)
    for estimates in (one.alone, one.minus_alone, one.follows):
        assert estimates["dataset.spearman"].n == 4


@pytest.mark.parametrize("aspect", ["overall", "style"])
def test_examples_of_another_aspect_or_none_at_all(tmp_path: Path, aspect: str) -> None:
    (part,) = slices(tmp_path, {"j": list(LABELS)})
    examples_parts(tmp_path, "j", [None] * 6 if aspect == "overall" else list(LABELS), aspect=aspect)
    assert found(tmp_path, part) == {}


def test_parts_of_an_evaluation_before_there_were_means(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": list(LABELS)})
    folder = tmp_path / "evaluate" / "examples" / "j"
    folder.mkdir(parents=True)
    old = pa.schema([one for one in SCHEMA if one.name != "mean_score"])
    rows = [{"id": "r0", "aspect": "overall", "examples": ["e"], "num_dropped": 0}]
    pq.write_table(pa.Table.from_pylist(rows, schema=old), folder / "part-0.parquet")
    assert found(tmp_path, part) == {}


def test_each_slice_has_the_means_of_its_own_aspect(tmp_path: Path) -> None:
    parts = slices(tmp_path, {"j": [3.0, 1.0, 2.0, 5.0, 4.0, 4.5]}, aspects=("overall", "style"))
    examples_parts(tmp_path, "j", list(LABELS))
    examples_parts(tmp_path, "j", [6 - label for label in LABELS], aspect="style")
    baselines = {part.aspect: found(tmp_path, part)["j"].alone["dataset.spearman"].value for part in parts}
    assert baselines == {"overall": pytest.approx(1), "style": pytest.approx(-1)}


def test_a_damaged_part_is_refused(tmp_path: Path) -> None:
    examples_parts(tmp_path, "j", list(LABELS))
    (part, *_) = sorted((tmp_path / "evaluate" / "examples" / "j").glob("*"))
    part.write_bytes(b"PAR1")
    with refused("damaged_artifact", naming="part-overall-0.parquet"):
        means_of(tmp_path, {"j": {"icl": {}}})


def test_the_terminal_and_the_page(tmp_path: Path) -> None:
    (part,) = slices(tmp_path, {"j": list(LABELS)})
    examples_parts(tmp_path, "j", list(LABELS))
    baselines = found(tmp_path, part)
    head, line = table_rows(baselines)
    assert len(head) == len(line) == 5
    assert line[0] == "j"
    assert line[1].startswith("1.00 [")
    assert line[2].startswith(".00 [")
    assert line[4] == "1.000"
    assert section(baselines, "human score").count("<td>") == 6
    assert "scored with examples: j 6" in section(baselines, "human score")
    assert section({}, "human score") == ""
    assert set(baselines["j"].to_json()) == {"alone", "minus_alone", "follows"}
