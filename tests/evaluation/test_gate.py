"""Requirements on a finished report: what holds, what fails, what is not understood; and the JUnit file."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cluster.config import RunConfig
from evaluation import compare, gate
from evaluation.reporting import report
from tests.evaluation.reporting.test_report import finished
from tests.refusals import refused

SEED = 2  # of scores that differ by an interval of one pair and not by the tests of all


def rows(num_groups: int = 12, labelled: int = 12) -> list[dict[str, Any]]:
    """s1 is one point better than s0 by judge and people; s0's scores are 1, 2, 3, 4 in turn."""
    return [
        {
            "id": f"r{group}-{system}",
            "group": f"g{group:02}",
            "system": f"s{system}",
            "label": group % 4 + 1 + system if group < labelled else None,
            "scores": {"j": float(group % 4 + 1 + system)},
            "candidate_chars": 10 + (group * 7 + system * 5) % 11,
        }
        for group in range(num_groups)
        for system in (0, 1)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    found = finished(tmp_path_factory.mktemp("gate") / "run", rows())
    report.main(found)
    return found


@pytest.mark.parametrize(
    ("requirement", "holds"),
    [
        ("panel.group.spearman >= .4", True),
        ("j.dataset.spearman >= .99", True),
        ("panel.group.spearman > 1", False),
        ("panel.coverage >= 1", True),
        ("panel.minus_length.group.spearman > 0", True),
        ("panel.dataset.mean_absolute_error <= 0", True),
        ("system s1 - s0 > 0", True),
        ("system s1 - s0 > 1", False),
        ("system s0 - s1 < 0", True),
        ("system s0 - s1 > -1", False),
        # The mean of s1 is 3.5, its interval's lower end is below.
        ("system s1 > 3.5", False),
        ("system s1 > 2", True),
        ("system s1 > 2 on qa/overall", True),
        ("  panel.group.spearman>=+0.4 on qa / d / overall ", True),
        ("system s1 > 2 on qa / d / overall (1 to 5)", True),
        ("system s1 - s0 > 1e-3", True),
        ("system s0.coverage >= 1", True),
    ],
)
def test_a_requirement_holds_where_the_end_of_its_interval_does(run: RunConfig, requirement: str, holds: bool) -> None:
    code, summary = gate.main(run, require=[requirement])
    assert (code, summary["num_failed"]) == ((0, 0) if holds else (gate.EXIT_FAILED, 1))
    [line, total] = gate.render(summary).splitlines()
    assert line.startswith("ok    " if holds else "FAILED") and "qa / d / overall" in line
    assert total == f"{int(holds)} of 1 requirements hold"


@pytest.mark.parametrize(
    ("requirement", "code", "naming"),
    [
        ("panel.group.spearman", "invalid_value", "'panel.group.spearman'"),
        ("panel.group.spearman >= much", "invalid_value", "much"),
        ("", "invalid_value", "''"),
        ("panel.group.spearmint > 0", "unknown_name", "j, panel, length"),
        ("nobody.group.spearman > 0", "unknown_name", "j, panel, length"),
        ("panel.group > 0", "unknown_name", "panel.group"),
        ("system s1 - s9 > 0", "unknown_name", "s0, s1"),
        ("system s7 > 0", "unknown_name", "s0, s1"),
        ("powered s1 > 0", "unknown_name", "s0, s1"),
        ("system s1 > 0 on qa/other", "unknown_name", "qa / d / overall"),
    ],
)
def test_a_requirement_that_names_nothing_is_refused(run: RunConfig, requirement: str, code: str, naming: str) -> None:
    with refused(code, naming=naming):
        gate.main(run, require=[requirement])


def test_labels_on_some_groups_can_be_required_with_the_judge(tmp_path: Path) -> None:
    few = finished(tmp_path / "run", rows(20, labelled=12))
    report.main(few)
    assert gate.main(few, require=["powered s1 - s0 > .9", "powered s1 > 2"]).exit_code == 0


def test_a_part_without_the_figure_fails(tmp_path: Path) -> None:
    given = [*rows(), *({**one, "aspect": "utility", "system": "", "label": None} for one in rows())]
    two = finished(tmp_path / "run", given)
    report.main(two)
    for requirement in ("system s1 - s0 > 0", "panel.group.spearman >= .4"):
        code, summary = gate.main(two, require=[requirement])
        assert code == 4 and [one["found"] for one in summary["checked"]][1] == "no such figure"
        assert gate.main(two, require=[f"{requirement} on qa/overall"]).exit_code == 0


def test_an_ambiguous_system_is_refused(tmp_path: Path) -> None:
    names = {"s0": "A", "s1": "A - B", "s2": "B"}
    third = [{**one, "id": f"{one['id']}x", "system": "s2"} for one in rows() if one["system"] == "s1"]
    run = finished(tmp_path / "run", [{**one, "system": names[one["system"]]} for one in [*rows(), *third]])
    report.main(run)
    with refused("ambiguous_name", naming="A - B"):
        gate.main(run, require=["system A - B > 0"])


@pytest.mark.parametrize(
    ("num_groups", "labelled", "requirement", "why"),
    [
        (20, 2, "powered s1 - s0 > .9", "2 groups, fewer than the 6 for an interval"),
        (20, 2, "panel.group.spearman >= .9", "2 groups, fewer than the 6 for an interval"),
        (20, 2, "panel.dataset.spearman >= .5", "2 groups, fewer than the 6 for an interval"),
        (2, 2, "system s1 > 2.9", "2 groups, fewer than the 6 for an interval"),
        (5, 5, "system s1 - s0 > 0", "5 groups, fewer than the 6 for an interval"),
        (9, 9, "system s1 - s0 > 0", "9 groups, fewer than 10"),
        (20, 9, "powered s1 - s0 > .9", "9 groups, fewer than 10"),
        (20, 9, "panel.minus_length.group.spearman > -1", "9 groups, fewer than 10"),
    ],
)
def test_figures_of_few_groups_fail_with_the_reason(
    tmp_path: Path, num_groups: int, labelled: int, requirement: str, why: str
) -> None:
    run = finished(tmp_path / "run", rows(num_groups, labelled))
    report.main(run)
    code, summary = gate.main(run, require=[requirement])
    assert code == 4 and summary["checked"][0]["found"].endswith(f"({why})"), summary


def test_coverage_can_be_required_without_labels(tmp_path: Path) -> None:
    """s1 has a score in 12 of 100 groups, the panel for 112 of 200 texts."""
    given = [
        {**one, "scores": {"j": None if one["system"] == "s1" and place // 2 >= 12 else one["scores"]["j"]}}
        for place, one in enumerate(rows(100, labelled=0))
    ]
    run = finished(tmp_path / "run", given)
    report.main(run)
    code, summary = gate.main(run, require=["system s1 - s0 > 0"])
    assert code == 0 and summary["checked"][0]["found"] == "1.00 [1.00, 1.00], n = 12, coverage 12%"
    for requirement, found in (
        ("panel.coverage >= .9", ".560"),
        ("j.coverage >= .9", ".560"),
        ("system s1.coverage >= .9", ".120"),
    ):
        code, summary = gate.main(run, require=[requirement])
        assert (code, summary["checked"][0]["found"]) == (4, found)
    assert gate.main(run, require=["system s0.coverage >= 1"]).exit_code == 0


def test_a_difference_above_0_is_one_that_the_report_tells(tmp_path: Path) -> None:
    """Each interval is of one pair; the report's tests are of all six pairs, and tell none of these apart."""
    given = []
    for group in range(20):
        noise = np.random.default_rng((SEED, group)).normal(0, 0.3, 4)
        for system, step in enumerate(noise):
            score = 3 + step + 0.22 * (system == 1)
            given.append(
                {
                    **rows()[0],
                    "id": f"r{group}-{system}",
                    "group": f"g{group:02}",
                    "system": f"s{system}",
                    "label": None,
                    "scores": {"j": float(score)},
                }
            )
    run = finished(tmp_path / "run", given)
    (part,) = report.main(run).summary["systems"]
    pairs = part["rankings"]["panel"]["differences"]
    (pair,) = [one for one in pairs if one["difference"]["low"] > 0]
    assert not any(one["can_be_told_apart"] for one in pairs) and "cannot be told apart" in part["sentence"]
    names = f"{pair['first']} - {pair['second']}"
    code, summary = gate.main(run, require=[f"system {names} > 0"])
    why = "(not adjusted for the number of pairs; the report cannot tell them apart)"
    assert code == 4 and summary["checked"][0]["found"].endswith(why)
    # That it is not much worse is another question.
    assert gate.main(run, require=[f"system {names} > -.1"]).exit_code == 0


def test_parts_are_named_by_data_set_and_scale(tmp_path: Path) -> None:
    slash = {"dataset": "openai/summ"}
    given = [{**one, **slash} for one in rows()] + [{**one, **slash, "high": 10.0} for one in rows()]
    run = finished(tmp_path / "run", given)
    report.main(run)
    for name, num in (
        ("qa/openai/summ/overall", 2),
        ("qa/overall", 2),
        ("qa / openai/summ / overall (1 to 10)", 1),
        ("qa/openai/summ/overall (1 to 5)", 1),
    ):
        code, summary = gate.main(run, require=[f"system s1 - s0 > 0 on {name}"])
        assert (code, len(summary["checked"])) == (0, num)


def test_the_junit_file_names_what_failed(run: RunConfig, tmp_path: Path) -> None:
    file = tmp_path / "gate.xml"
    assert gate.main(run, require=["panel.coverage >= 1", "system s1 - s0 > 1"], junit=file).exit_code == 4
    suite = ET.fromstring(file.read_text(encoding="utf-8"))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    first, second = suite
    assert first.get("name") == "panel.coverage >= 1" and len(first) == 0
    assert "system s1 - s0 > 1: 1.00 [1.00, 1.00], n = 12" in str(second[0].get("message"))
    with refused("invalid_value", naming=str(tmp_path / "no")):
        gate.main(run, require=["panel.coverage >= 1"], junit=tmp_path / "no" / "gate.xml")


def test_no_requirement_no_report_and_an_old_report_are_refused(tmp_path: Path) -> None:
    new = finished(tmp_path / "run", rows())
    with refused("missing_value"):
        gate.main(new)
    with refused("no_report", naming="metrics.json"):
        gate.main(new, require=["panel.coverage > 0"])
    report.main(new)
    (new.run / "evaluate" / "scores.parquet").write_bytes(b"others")
    with refused("no_report", naming="scores.parquet"):
        gate.main(new, require=["panel.coverage > 0"])


def test_compare_says_what_the_report_says_and_writes_nothing(run: RunConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.run.rglob("*")}
    _, summary = compare.main(run)
    assert summary["systems"] == report.main(run).summary["systems"]
    assert compare.render(summary).startswith(
        "qa / d / overall\nBy people, s1 is better than s0 on overall by 1.00 [1.00, 1.00]"
    )
    assert set(before) == set(run.run.rglob("*"))
