"""A finished run as data frames: their columns, also where there are no rows, and estimates with few labels."""

from pathlib import Path
from typing import Any

import pytest

import inverdict
from evaluation.reporting import report
from inverdict.results import AGREEMENT, DIFFERENCE, ESTIMATE, PART, SYSTEM
from tests.evaluation.reporting.test_report import few_labels, finished
from tests.refusals import refused


def opened(folder: Path, rows: list[dict[str, Any]]) -> inverdict.Evaluation:
    report.main(finished(folder, rows))
    return inverdict.load(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> inverdict.Evaluation:
    """40 groups of two systems; s1 is a point better. Labels of 24 groups, one point above the judge's scores."""
    return opened(tmp_path_factory.mktemp("results") / "run", few_labels())


def test_systems_and_their_differences(found: inverdict.Evaluation) -> None:
    systems = found.systems()
    assert tuple(systems.columns) == (*PART, *SYSTEM)
    # The judge's scores of s0 are 1, 2, 3, 4 in turn.
    assert systems[["system", "mean", "rank", "share_of_groups_won", "n"]].values.tolist() == [
        ["s1", 3.5, 1, 1.0, 40],
        ["s0", 2.5, 2, 0.0, 40],
    ]
    differences = found.differences()
    assert tuple(differences.columns) == (*PART, *DIFFERENCE)
    assert differences[["first", "second", "difference", "groups_won", "n"]].values.tolist() == [
        ["s1", "s0", 1, 40, 40]
    ]
    with refused("invalid_value", "by", naming="nobody"):
        found.systems(by="nobody")


def test_compare_has_the_same_columns(found: inverdict.Evaluation) -> None:
    scores = found.scores.rename(columns={"panel.score": "score"})[["group", "system", "score"]]
    alone = inverdict.compare(scores)
    assert tuple(alone.systems.columns) == SYSTEM and tuple(alone.differences.columns) == DIFFERENCE
    assert alone.systems["mean"].tolist() == found.systems()["mean"].tolist()
    frame = found.scores.rename(columns={"panel.score": "score", "label": "human"}).dropna(subset=["human"])
    measured = inverdict.agreement(frame[["group", "human", "score"]])
    assert tuple(measured.columns) == tuple(name for name in AGREEMENT if name != "judge")


def test_agreement_has_the_chance_level(found: inverdict.Evaluation) -> None:
    agreement = found.agreement()
    assert tuple(agreement.columns) == (*PART, *AGREEMENT)
    of_panel = agreement[agreement["judge"] == "panel"].set_index("statistic")
    # In each group both order the two texts alike; half of all orders of two do so by chance.
    row = of_panel.loc["group.pairwise_accuracy"]
    assert row["value"] == 1 and row["n"] == 24 and row["chance"] == pytest.approx(0.5, abs=0.2)


def test_means_and_pairs_with_few_labels(found: inverdict.Evaluation) -> None:
    means = found.with_few_labels()
    assert tuple(means.columns) == (*PART, "system", *ESTIMATE)
    first = means[means["system"] == "s1"].set_index("estimate")
    # People's 24 labels of s1 are 3, 4, 5, 6 in turn; the judge gives 2, 3, 4, 5, one less everywhere.
    assert first["value"].to_dict() == pytest.approx({"labels alone": 4.5, "judge alone": 3.5, "both": 4.5})
    assert first["n"].to_dict()["labels alone"] == 24
    assert first.loc["both", "worth"] > 24 and first["worth"].isna().tolist() == [True, True, False]
    pairs = found.with_few_labels("j", pairs=True)
    assert tuple(pairs.columns) == (*PART, "first", "second", *ESTIMATE)
    assert pairs["value"].tolist() == pytest.approx([1, 1, 1])
    with refused("invalid_value", "by"):
        found.with_few_labels("nobody")


def test_frames_without_rows_have_their_columns(tmp_path: Path) -> None:
    rows = [{**one, "label": None} for one in few_labels() if one["system"] == "s0"]
    alone = opened(tmp_path / "run", rows)
    assert tuple(alone.agreement().columns) == (*PART, *AGREEMENT) and alone.agreement().empty
    assert tuple(alone.differences().columns) == (*PART, *DIFFERENCE) and alone.differences().empty
    for pairs in (False, True):
        assert alone.with_few_labels(pairs=pairs).empty and "worth" in alone.with_few_labels(pairs=pairs).columns


def test_what_a_notebook_shows(found: inverdict.Evaluation) -> None:
    assert "qa / d / overall" in repr(found)
    assert "<table" in found._repr_html_() and "s1" in found._repr_html_()
    assert found.report().is_file()


def test_a_run_without_a_report(tmp_path: Path) -> None:
    with refused("no_report", naming=str(tmp_path)):
        inverdict.load(tmp_path)
    with refused("invalid_value", "run"):
        inverdict.load(5)  # type: ignore[arg-type]
