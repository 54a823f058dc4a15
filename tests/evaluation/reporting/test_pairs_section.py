"""The report's section on pairs: tables by hand, hostile names, comparisons in two parts, no labels."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import JobDir
from cluster.config import RunConfig
from evaluation.batch.pairs_table import _schema
from evaluation.measure import pair_comparison
from evaluation.measure.formatting import one_line
from evaluation.measure.pair_comparison import compared_pairs
from evaluation.reporting import pairs_section as section_module
from evaluation.reporting import report
from evaluation.reporting.pairs_section import accuracy_rows, judge_rows, notes, pairs_section, system_rows, tables
from judging.comparison import winner as winner_of
from judging.errors import InputError
from tests.evaluation.making import scores_file
from tests.evaluation.reporting.test_report import HOSTILE, Page, check_self_contained, finished
from tests.evaluation.reporting.test_report import page as page_of
from tests.refusals import refused

ROWS = [
    # Group, systems, how far the first is preferred in each order; people's scores of both.
    ("g0", "a", "b", 0.9, 0.9, (5.0, 1.0)),
    ("g0", "a", "c", 0.8, 0.2, (5.0, 5.0)),
    ("g1", "a", "b", 0.7, 0.9, (1.0, 5.0)),
    ("g1", "b", "c", None, 0.4, (3.0, 1.0)),
]


def pairs_at(run: Path, rows: list[Any], *, names: dict[str, str] | None = None, rated: bool = True) -> Path:
    """A finished `pairs/` of one judge `j`."""
    known = names or {}
    columns = []
    for number, (group, first, second, given, turned, labels) in enumerate(rows):
        mean = None if given is None or turned is None else (given + turned) / 2
        winner = None if mean is None else winner_of(1 - mean, 0.02)
        columns.append(
            {
                "id": f"p{number}",
                "task": "qa",
                "dataset": known.get("dataset", "d"),
                "group": group,
                "aspect": "overall",
                "first": f"{group}{first}",
                "second": f"{group}{second}",
                "first_system": known.get(first, first),
                "second_system": known.get(second, second),
                "first_chars": 10,
                "second_chars": 20,
                **({"first_label": labels[0], "second_label": labels[1]} if rated else {}),
                "j.given": given,
                "j.turned": turned,
                "j.order_changed": None if mean is None else (given - 0.5) * (turned - 0.5) < 0,
                **{f"{name}.first_wins": mean for name in ("j", "panel")},
                **{f"{name}.winner": winner for name in ("j", "panel")},
                **({"j.unscored": "timeout", "panel.unscored": "no_quorum"} if winner is None else {}),
            }
        )
    job = JobDir(run / "evaluate", "pairs")
    with job.opened({"pairs": {}}):
        job.claim()
        pq.write_table(pa.Table.from_pylist(columns, schema=_schema(["j"])), job.path / "pairs.parquet")
        job.finish({})
    return run


def single_scores(run: Path) -> None:
    """The judge rates every `a` with 4, every `b` with 3, and no `c`."""
    ids = {(group, system) for group, *systems, _, _, _ in ROWS for system in systems}
    rows = [
        {"id": f"{group}{system}", "group": group, "label": 3.0, "scores": {"j": {"a": 4.0, "b": 3.0}.get(system)}}
        for group, system in sorted(ids)
    ]
    scores_file(run / "evaluate", rows)


def test_the_tables_by_hand(tmp_path: Path) -> None:
    single_scores(tmp_path)
    [part] = compared_pairs(pairs_at(tmp_path, ROWS))
    assert part.shape == "4 pairs, 2 groups, 3 systems; fewer than 6 groups, so no intervals"
    # a: 1 + .5 + 1 of 3; c: .5 of 1; b: 0 of 2. The pair that lost an order is in none. c tied a, which won against b.
    assert part.ranking() == ["a", "c", "b"]
    found = part.judges["j"]
    assert {name: round(one.value, 3) for name, one in found.wins.of.items()} == {"a": 0.833, "b": 0, "c": 0.5}
    assert found.order_changed is not None and found.order_changed.value == pytest.approx(1 / 3)
    # Decided by people: g0 a-b (right), g1 a-b (wrong), g1 b-c (unscored).
    accuracy = found.accuracy
    assert (accuracy["pairs"].value, accuracy["pairs"].n, accuracy["pairs"].coverage) == (0.5, 2, 2 / 3)
    # Single scores prefer a in both: one right, one wrong, like the pairs.
    assert (accuracy["points"].value, accuracy["pairs_minus_points"].value) == (0.5, 0)
    assert (found.tie_share, found.coverage, found.unscored) == (1 / 3, 0.75, {"timeout": 1})
    assert [row[0] for row in system_rows(part)] == ["panel", "a", "c", "b"]
    assert [row[0] for row in judge_rows(part)] == ["pairs", "j", "panel"]
    # Two pairs scored, both also as single texts.
    of_accuracy = ["2", ".50 [–, –]", "2", ".50 [–, –]", ".00 [–, –]"]
    assert accuracy_rows(part, "human score")[1:] == [["j", *of_accuracy], ["panel", *of_accuracy]]
    # c is in one scored pair of two.
    assert system_rows(part)[2][:4] == ["c", "1", ".500", ".50 [–, –]"]
    found_notes = " ".join(notes(part))
    assert "Not every two systems were compared in every group" in found_notes
    assert "j, panel: b lost every pair with stronger systems: the strength has no lower end." in found_notes


def test_the_terminal_has_one_table_of_a_part_and_the_rest_on_request(tmp_path: Path) -> None:
    single_scores(tmp_path)
    slices = compared_pairs(pairs_at(tmp_path, ROWS))
    first, rest = (tables(slices, "human score", rest=one) for one in (False, True))
    assert "qa / d / overall: candidates compared in both orders" in first[0] and ".83 [" in first[0]
    assert first[1:] == notes(slices[0])
    assert "order changed" in rest[0] and "accuracy (human score)" in rest[1] and len(rest) == 2


def test_pairs_without_a_score_have_dashes(tmp_path: Path) -> None:
    single_scores(tmp_path)
    rows = [(*row[:3], None, 0.5, row[5]) for row in ROWS]
    [part] = compared_pairs(pairs_at(tmp_path, rows))
    assert judge_rows(part)[1] == ["j", "–", "–", "–", "–", ".000"]
    assert accuracy_rows(part, "human score")[1] == ["j", "0", "–", "0", "–", "–"]
    assert system_rows(part)[1] == ["a", "0", ".000", "–", "–", "–"]
    assert part.to_json()["judges"]["j"]["tie_share"] is None
    assert pairs_section([part], "human score")


def test_names_with_line_breaks_stay_in_their_cells(tmp_path: Path) -> None:
    single_scores(tmp_path)
    names = {"a": "a\nfake row", "b": "b\rb", "dataset": "d\nd"}
    slices = compared_pairs(pairs_at(tmp_path, ROWS, names=names))
    [table, *more] = tables(slices, "human score")
    assert len(table.splitlines()) == 5 and "a fake row" in table and "\r" not in table
    assert all(len(note.splitlines()) == 1 for note in more)
    assert all("\n" not in cell for row in system_rows(slices[0]) for cell in row)


def test_of_too_many_systems_there_is_no_table_of_each_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single_scores(tmp_path)
    pairs_at(tmp_path, ROWS)
    assert "row against the column" in pairs_section(compared_pairs(tmp_path), "human score")
    for module in (pair_comparison, section_module):
        monkeypatch.setattr(module, "MOST_SYSTEMS", 2)
    slices = compared_pairs(tmp_path)
    assert "row against the column" not in pairs_section(slices, "human score")
    assert notes(slices[0])[0].startswith("3 systems are more than the 2") and len(notes(slices[0])) == 1
    assert slices[0].ranking() == ["a", "c", "b"]


def test_systems_that_nothing_connects_are_said_and_not_ranked(tmp_path: Path) -> None:
    single_scores(tmp_path)
    rows = [ROWS[0], ("g1", "c", "e", 0.9, 0.9, (1.0, 1.0))]
    [part] = compared_pairs(pairs_at(tmp_path, rows))
    [unbalanced, apart] = notes(part)
    assert unbalanced.startswith("Not every two systems")
    assert apart.startswith("j, panel: ") and "a, b; c, e" in apart
    assert [row[4] for row in system_rows(part)[1:]] == ["–"] * 4
    assert part.to_json()["judges"]["j"]["not_connected"] == [["a", "b"], ["c", "e"]]


def test_without_labels_there_is_no_accuracy_and_all_else(tmp_path: Path) -> None:
    single_scores(tmp_path)
    [part] = compared_pairs(pairs_at(tmp_path, ROWS, rated=False))
    assert not part.judges["j"].accuracy and part.num_rated == 0
    assert accuracy_rows(part, "human score") == []
    assert "Accuracy" not in pairs_section([part], "human score")
    assert pairs_section([], "human score") == ""


def test_the_page_holds_the_section_and_escapes_names(tmp_path: Path) -> None:
    rows = [
        {"id": f"{group}{system}", "group": group, "system": system, "label": label, "scores": {"j": label}}
        for group in ("g0", "g1")
        for system, label in (("a", 4.0), ("b", 3.0))
    ]
    run = finished(tmp_path / "run", rows)
    pairs_at(tmp_path / "run", [ROWS[0], ROWS[2]], names={"a": HOSTILE, "dataset": HOSTILE})
    page = page_of(run)
    check_self_contained(page)
    assert "Pairwise comparisons" in page.text and one_line(HOSTILE) in page.text


def rated(group: str, system: str) -> dict[str, Any]:
    return {"id": f"{group}{system}", "group": group, "system": system, "label": 3.0, "scores": {"j": 3.0}}


def test_the_terminal_has_one_short_table_a_part(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", [rated(group, system) for group in ("g0", "g1") for system in "abc"])
    pairs_at(tmp_path / "run", ROWS)
    summary = report.main(run).summary
    short, whole = report.render(summary), report.render(summary, verbose=True)
    for text in (short, whole):
        assert text.count("candidates compared in both orders") == text.count("Bradley-Terry") == 1
    assert "order changed" not in short and "accuracy (human score)" not in short and "`--verbose`" in short
    assert whole.count("order changed") == whole.count("accuracy (human score)") == 1


def test_unfinished_pairs_leave_the_report_of_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(run: RunConfig) -> bool:
        raise InputError("`evaluate.pairs`: no finished pairs", code="missing_job", key="evaluate.pairs")

    run = finished(tmp_path / "run", [rated(group, system) for group in ("g0", "g1") for system in "ab"])
    monkeypatch.setattr(report, "has_pairs", missing)
    done = report.main(run)
    assert done.exit_code == 0 and done.summary["pairs"] == []
    [warning] = done.summary["warnings"]
    assert "pairs" in warning and "not finished" in warning
    assert warning in page_of(run).text
    # Finished ones of another configuration are refused, before anything is measured.
    pairs_at(tmp_path / "run", ROWS[:1])
    monkeypatch.setattr(report, "measure", lambda *_, **__: pytest.fail("measured"))
    with refused("missing_job", "evaluate.pairs"):
        report.main(run)


def test_damaged_pairs_are_one_sentence(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", [rated(group, system) for group in ("g0", "g1") for system in "ab"])
    pairs_at(tmp_path / "run", ROWS[:1])
    (tmp_path / "run" / "evaluate" / "pairs" / "pairs.parquet").write_bytes(b"PAR1 no more")
    with refused("damaged_artifact", naming="pairs.parquet"):
        report.main(run)


def test_a_run_without_pairs_has_no_section(tmp_path: Path) -> None:
    rows = [
        {"id": f"r{n}", "group": f"g{n // 2}", "system": "s", "label": float(n), "scores": {"j": 1.0}} for n in range(4)
    ]
    page = page_of(finished(tmp_path / "run", rows))
    assert isinstance(page, Page) and "Pairwise comparisons" not in page.text
