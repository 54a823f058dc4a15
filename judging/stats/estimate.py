"""A statistic with n, coverage and interval, and the dotted names of all statistics. Imports only the standard library.

Names are paths such as `dataset.pearson` or `aeollm.official.kendall`; the prefix `floor.` is the chance baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

LEVELS = ("dataset", "group", "system", "aeollm")

STATISTICS: dict[str, tuple[str, ...]] = {
    "dataset": (
        "dataset.pearson",
        "dataset.spearman",
        "dataset.kendall_b",
        "dataset.mean_absolute_error",
        "dataset.krippendorff_alpha",
    ),
    "group": (
        "group.pearson",
        "group.spearman",
        "group.kendall_a",
        "group.kendall_b",
        "group.kendall_c",
        "group.pairwise_accuracy",
    ),
    "system": ("system.pearson", "system.spearman", "system.kendall_b"),
    "aeollm": (
        "aeollm.official.accuracy",
        "aeollm.official.kendall",
        "aeollm.official.spearman",
        "aeollm.signed.kendall",
        "aeollm.signed.spearman",
    ),
}


# These compare distances in points: they are meaningless for a score of another unit, such as a length.
OF_DISTANCE = ("mean_absolute_error", "krippendorff_alpha")


def is_of_order(name: str) -> bool:
    """Whether a statistic (by its dotted name) does not depend on the score's unit. For these higher is better."""
    return not name.endswith(OF_DISTANCE)


def of_order(name: str) -> str:
    """`name` itself. Raises ValueError where it is not a statistic by which judges can be ranked."""
    known = [one for names in STATISTICS.values() for one in names if is_of_order(one)]
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}, not {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class Estimate:
    """One statistic with what it is based on; NaN means undefined and becomes null in JSON.

    `low`, `high`: ends of the 95 % interval. `n`: rows (dataset), groups (group, aeollm) or systems (system) that
    entered. `coverage` (0 to 1): scored rows among all rows. `num_undefined`: groups left out because the statistic
    is undefined there. `dropped_share` (0 to 1): bootstrap resamples in which the statistic was undefined.
    """

    value: float
    low: float
    high: float
    n: int
    coverage: float
    num_undefined: int = 0
    dropped_share: float = 0.0

    def negative(self) -> Estimate:
        """The same of the figure with the other sign, such as of B minus A for A minus B."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)

    def to_json(self) -> dict[str, float | int | None]:
        return {
            "value": _number(self.value),
            "low": _number(self.low),
            "high": _number(self.high),
            "n": int(self.n),
            "coverage": _number(self.coverage),
            "num_undefined": int(self.num_undefined),
            "dropped_share": _number(self.dropped_share),
        }


def to_json(estimates: Mapping[str, Estimate]) -> dict[str, object]:
    """Nested plain objects by the dots of the names: {"dataset": {"pearson": {"value": ..., ...}}}."""
    tree: dict[str, object] = {}
    for name, estimate in estimates.items():
        *folders, leaf = name.split(".")
        node = tree
        for folder in folders:
            child = node.setdefault(folder, {})
            assert isinstance(child, dict)
            node = child
        node[leaf] = estimate.to_json()
    return tree


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
