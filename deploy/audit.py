"""`make audit`: check the pins against published advisories; a failed look-up does not count as clean.

In: pip-audit's JSON report on stdin. Out: one line per advisory, then a summary. Exit codes: 0 no advisory, 1
advisories found, 3 some packages could not be looked up.
"""

import json
import sys
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    lines: list[str]
    code: int


def verdict(report: str) -> Verdict:
    """Lines and exit code for a report; "" is pip-audit's output where no look-up succeeded."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict(["audit: the advisory service did not respond; the pins were not checked"], 3)
    found = [
        f"{one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in packages
        for flaw in one.get("vulns", [])
    ]
    unknown = sum("skip_reason" in one for one in packages)
    coverage = f"{len(packages) - unknown} of {len(packages)} packages were looked up"
    if found:
        return Verdict([*found, f"audit: {len(found)} advisories; {coverage}"], 1)
    if unknown or not packages:
        return Verdict([f"audit: {coverage}; the others could not be looked up"], 3)
    return Verdict([f"audit: no known advisories; {coverage}"], 0)


if __name__ == "__main__":
    found = verdict(sys.stdin.read())
    sys.stdout.write("\n".join(found.lines) + "\n")
    sys.exit(found.code)
