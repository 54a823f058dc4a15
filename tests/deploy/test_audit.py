"""What `make audit` makes of pip-audit's report."""

import json
from typing import Any

import pytest

from deploy.audit import verdict

GOOD = {"name": "ray", "version": "2.60.0", "vulns": []}
BAD = {
    "name": "a",
    "version": "1",
    "vulns": [{"id": "X-1", "fix_versions": ["1.1"]}, {"id": "X-2", "fix_versions": []}],
}
UNKNOWN = {"name": "b", "skip_reason": "Dependency not found on PyPI"}


def told(*packages: dict[str, Any]) -> tuple[list[str], int]:
    return verdict(json.dumps({"dependencies": list(packages), "fixes": []}))


def test_nothing_found_is_said_with_how_many_were_asked_about() -> None:
    assert told(GOOD, GOOD) == (["audit: no advisory is known; 2 of 2 packages were looked up"], 0)


def test_findings_are_named_with_the_way_out() -> None:
    lines, code = told(GOOD, BAD, UNKNOWN)
    assert lines == [
        "a 1: X-1, fixed in 1.1",
        "a 1: X-2, fixed in no version yet",
        "audit: 2 advisories; 2 of 3 packages were looked up",
    ]
    assert code == 1


def test_a_package_that_was_not_looked_up_is_no_clean_bill() -> None:
    lines, code = told(GOOD, UNKNOWN, UNKNOWN)
    assert lines == ["audit: 1 of 3 packages were looked up: the advisory service could not be asked about the others"]
    assert code == 3


@pytest.mark.parametrize("report", ["", "Traceback", "[]", "{}", "null"])
def test_no_report_is_no_clean_bill(report: str) -> None:
    assert verdict(report) == (["audit: the advisory service did not answer: nothing is known about the pins"], 3)


def test_an_empty_report_is_no_clean_bill() -> None:
    assert told()[1] == 3
