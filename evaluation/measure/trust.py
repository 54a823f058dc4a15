"""Whether the panel's scores can be trusted on a part of the data, and why: one of four lights and one sentence."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import share, shown, with_interval
from evaluation.measure.slices import FEW_GROUPS, Slice
from judging.certificates.certificate import Certificate
from judging.stats.estimate import Estimate

Light = Literal["green", "yellow", "red", "grey"]
MIN_COVERAGE = 0.95  # as a certificate asks by default
WITHIN, POOLED = "group.spearman", "dataset.spearman"


class Trust(NamedTuple):
    """`light`: green (trusted), yellow (with a reservation), red (not trusted), grey (unknown)."""

    light: Light
    words: str


def trust(part: Slice | None, certificate: Certificate | None, labels: str) -> Trust:
    """Judge the panel by its agreement with the labels on the same part of the data.

    Green, with human labels only: a certificate holds; or, in at least `FEW_GROUPS` groups, the agreement within groups
    is above chance and above that of the texts' length, by the ends of the 95 % intervals. Yellow: it is above chance,
    but something of the rest is missing. Red: it cannot be told from chance, or is below. Grey: there is no label.

    Args:
        part: the panel's agreement there; None: no text has a label.
        certificate: the panel's, for this part and this evaluation; None: there is none.
        labels: `human` or `constructed`.
    """
    if part is None:
        return Trust(
            "grey",
            "Nothing is known about the panel's agreement with people here, since no text has a label. "
            "`inverdict plan-labels` says how many to label, and which ones first.",
        )
    statistic, found = _agreement(part)
    what = "the constructed levels" if labels == "constructed" else "people"
    num_groups = found.n if statistic == WITHIN else part.num_groups
    agrees = f"{statistic} with {what} is {with_interval(found)} in {num_groups} groups"
    if certificate and certificate.verdict.holds and labels != "constructed":
        return Trust("green", _certified(certificate, what))
    chance = part.estimates[PANEL].get(f"floor.{statistic}")
    if math.isnan(found.low):
        return Trust("red", f"The panel's agreement with {what} is undefined: too few groups with different labels.")
    if chance is not None and found.high < chance.value:
        return Trust("red", f"The panel contradicts {what}: its {agrees}, below chance, {shown(chance.value)}.")
    if chance is not None and not found.low > chance.value:
        return Trust("red", f"The panel cannot be told from chance: its {agrees}, chance {shown(chance.value)}.")
    doubts = _doubts(part, statistic, num_groups, certificate, labels)
    if doubts:
        return Trust("yellow", f"The panel's {agrees}, above chance; but {', and '.join(doubts)}.")
    return Trust("green", f"The panel's {agrees}, above chance and above the texts' length.")


def _certified(certificate: Certificate, what: str) -> str:
    """With the figure that was assessed."""
    statistic = certificate.criteria.statistic
    figure = with_interval(certificate.agreement[statistic].model_dump())
    return (
        f"The panel is certified on these data ({certificate.date[:10]}): {statistic} with {what} is {figure} in "
        f"{certificate.num_groups} groups."
    )


def _agreement(part: Slice) -> tuple[str, Estimate]:
    """Within groups; over all rows where that is undefined, as with one text a group."""
    within = part.estimates[PANEL].get(WITHIN)
    if within is not None and not math.isnan(within.value):
        return WITHIN, within
    return POOLED, part.estimates[PANEL][POOLED]


def _doubts(part: Slice, statistic: str, num_groups: int, certificate: Certificate | None, labels: str) -> list[str]:
    found = []
    length = part.against_length[PANEL].get(statistic)
    if length is None or math.isnan(length.low):
        found.append("a comparison with the texts' length is not possible")
    elif length.low <= 0:
        found.append(f"not surely above the texts' length (difference {with_interval(length)})")
    if num_groups < FEW_GROUPS:
        found.append(f"fewer than {FEW_GROUPS} groups have different labels")
    coverage = part.estimates[PANEL][statistic].coverage
    if coverage < MIN_COVERAGE:
        found.append(f"only {share(coverage, is_floored=True)} of the labelled texts have a score")
    if labels == "constructed":
        found.append("constructed levels are not ratings")
    if certificate and not certificate.verdict.holds:
        found.append(f"it is not certified: {certificate.verdict.failed[0]}")
    return found
