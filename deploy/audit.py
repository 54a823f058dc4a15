"""`make audit`: the pins against the published advisories; an advisory service that is silent is no clean bill.

In: pip-audit's JSON report on stdin. Out: one line a finding, then one sentence. Exit 0: nothing known; 1: findings;
3: packages that could not be asked about, so that nothing is said of them.
"""

import json
import sys
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    lines: list[str]
    code: int


def verdict(report: str) -> Verdict:
    """What a report says; "" is what pip-audit leaves where it could not ask at all."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict(["audit: the advisory service did not answer: nothing is known about the pins"], 3)
    found = [
        f"{one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in packages
        for flaw in one.get("vulns", [])
    ]
    unknown = sum("skip_reason" in one for one in packages)
    asked = f"{len(packages) - unknown} of {len(packages)} packages were looked up"
    if found:
        return Verdict([*found, f"audit: {len(found)} advisories; {asked}"], 1)
    if unknown or not packages:
        return Verdict([f"audit: {asked}: the advisory service could not be asked about the others"], 3)
    return Verdict([f"audit: no advisory is known; {asked}"], 0)


if __name__ == "__main__":
    told = verdict(sys.stdin.read())
    sys.stdout.write("\n".join(told.lines) + "\n")
    sys.exit(told.code)
