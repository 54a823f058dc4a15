"""`make audit`: exit code and lines for a report of pip-audit."""

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


def audited(*packages: dict[str, Any]) -> tuple[list[str], int]:
    return verdict(json.dumps({"dependencies": list(packages), "fixes": []}))


def test_without_advisories_the_number_of_packages_is_reported() -> None:
    (line,), code = audited(GOOD, GOOD)
    assert code == 0
    assert "no known advisories" in line and "2 of 2 packages" in line


def test_advisories_are_listed_with_the_fixed_version() -> None:
    lines, code = audited(GOOD, BAD, UNKNOWN)
    assert lines[:2] == ["a 1: X-1, fixed in 1.1", "a 1: X-2, fixed in no version yet"]
    (summary,) = lines[2:]
    assert "2 advisories" in summary and "2 of 3 packages" in summary
    assert code == 1


def test_a_package_that_was_not_looked_up_is_no_clean_bill() -> None:
    (line,), code = audited(GOOD, UNKNOWN, UNKNOWN)
    assert code == 3
    assert "1 of 3 packages" in line and "no known" not in line


@pytest.mark.parametrize("report", ["", "Traceback", "[]", "{}", "null"])
def test_no_report_does_not_count_as_clean(report: str) -> None:
    (line,), code = verdict(report)
    assert code == 3
    assert "not checked" in line


def test_an_empty_report_does_not_count_as_clean() -> None:
    assert audited()[1] == 3
