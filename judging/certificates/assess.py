"""Checks a certificate against its criteria: which are met and which are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from judging.stats.bias import MIN_PROBED

if TYPE_CHECKING:
    from judging.certificates.certificate import Certificate, Figure, Holding, PairCertificate, ProbeResult


Said = tuple[bool, str]  # whether a criterion is met, and its sentence


def holding(certificate: Certificate) -> Holding:
    """Whether the certificate's figures and probes meet its criteria."""
    return _held([*_agreement(certificate), *_company(certificate), *map(_probe, certificate.probes)])


def pair_holding(certificate: PairCertificate) -> Holding:
    """Whether the accuracy of comparisons, its company and the position's effect meet the criteria."""
    return _held([*_accuracy(certificate), *_company(certificate), _probe(certificate.position)])


def _held(said: Iterable[Said | None]) -> Holding:
    from judging.certificates.certificate import Holding

    known = [one for one in said if one is not None]
    met, failed = (tuple(words for is_met, words in known if is_met is side) for side in (True, False))
    return Holding(holds=not failed, met=met, failed=failed)


def _accuracy(one: PairCertificate) -> Iterator[Said]:
    wanted, bar = one.criteria, 0.5 + one.criteria.min_above_chance
    if one.accuracy.low is None:
        yield False, "the accuracy has no interval"
        return
    yield one.accuracy.low > bar, f"accuracy {_shown(one.accuracy)}: the lower end must be above chance, {bar:.2f}"
    if wanted.min_above_length is None or one.minus_length.low is None:
        return
    yield (
        one.minus_length.low > wanted.min_above_length,
        f"accuracy minus that of the longer text {_shown(one.minus_length)}: the lower end must be above "
        f"{wanted.min_above_length:.2f}",
    )


def _agreement(one: Certificate) -> Iterator[Said]:
    wanted = one.criteria
    name = wanted.statistic
    found, chance = one.agreement.get(name), one.chance.get(name)
    if found is None or found.low is None or chance is None or chance.value is None:
        yield False, f"{name} is undefined"
        return
    bar = chance.value + wanted.min_above_chance
    yield found.low > bar, f"{name} {_shown(found)}: the lower end must be above the chance baseline, {bar:.2f}"
    if wanted.min_above_length is None:
        return
    difference = one.minus_length.get(name)
    if difference is None or difference.low is None:
        # Where all texts of a group have one length, the baseline is undefined.
        yield True, f"{name} of the length baseline is undefined, so it is not compared"
        return
    yield (
        difference.low > wanted.min_above_length,
        f"{name} minus that of the length baseline {_shown(difference)}: "
        f"the lower end must be above {wanted.min_above_length:.2f}",
    )


def _company(one: Certificate | PairCertificate) -> Iterator[Said]:
    wanted = one.criteria
    yield one.coverage >= wanted.min_coverage, f"coverage {one.coverage:.3f}, at least {wanted.min_coverage:.3f}"
    yield one.num_groups >= wanted.min_groups, f"{one.num_groups} groups, at least {wanted.min_groups}"
    if one.labels == "constructed":
        yield wanted.accept_constructed, "the labels are constructed levels, not human scores"


def _probe(one: ProbeResult) -> Said | None:
    if one.effect is None:
        return None
    if one.biased is None:
        return False, f"probe {one.name}: undefined"
    if one.effect.coverage is not None and one.effect.coverage < MIN_PROBED:
        return False, f"probe {one.name}: only {one.effect.coverage:.0%} of the probes have a score"
    alone = f", {one.worst} alone {_shown(one.further[one.worst])}" if one.worst else ""
    return not one.biased, f"probe {one.name} {_shown(one.effect)}{alone}: no bias above {one.limit:.2f}"


def _shown(one: Figure) -> str:
    value, low, high = ("undefined" if end is None else f"{end:.2f}" for end in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}]"
