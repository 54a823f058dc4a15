"""The report's section on certificates: agreement, criteria and probes of each (`templates/certificates.html`).

Reads `{run}/certify` only, never scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.artifacts import read_json
from evaluation.certification.store import load_certificates, load_pair_certificates
from evaluation.measure.formatting import part_title, shown
from evaluation.reporting.pages import rendered
from judging.certificates.certificate import Certificate, Figure, Holding, PairCertificate, ProbeResult
from judging.stats.bias import ProbeName

FACTS = ("code", "models", "templates", "settings", "retriever", "weights")


def certificates_section(run: Path) -> str:
    """All certificates of the run by slice; empty if there are none. Raises InputError where one was edited."""
    found, pairs = load_certificates(run), load_pair_certificates(run)
    if not found and not pairs:
        return ""
    slices: dict[tuple[str, str, str], list[Certificate]] = {}
    for one in found:
        slices.setdefault((one.task, one.dataset, one.aspect), []).append(one)
    return rendered(
        "certificates.html",
        is_stale=not _is_of_this_evaluation(run),
        slices=[_slice(key, ones) for key, ones in slices.items()],
        pairs=[_pair_row(one) for one in pairs],
    )


def current_certificates(run: Path) -> list[Certificate]:
    """The certificates that were made of this evaluation; empty if there are none. Raises as `certificates_section`."""
    return load_certificates(run) if _is_of_this_evaluation(run) else []


def _is_of_this_evaluation(run: Path) -> bool:
    certified, evaluated = (read_json(run / job / "manifest.json") for job in ("certify", "evaluate"))
    return bool(certified and evaluated and certified["fingerprint"]["scores"] == evaluated["files"])


def _slice(key: tuple[str, str, str], ones: Sequence[Certificate]) -> dict[str, Any]:
    from evaluation.reporting import plots

    task, dataset, aspect = key
    statistic = ones[0].criteria.statistic
    # Probes that were run for at least one subject.
    probes = list(dict.fromkeys(probe.name for one in ones for probe in one.probes if probe.effect))
    return {
        "title": f"{task} / {dataset or 'records'} / {aspect}",
        "statistic": statistic,
        "probes": probes,
        "png": plots.probes(ones, probes) if probes else "",
        "rows": [_row(one, statistic, probes) for one in ones],
    }


def _row(one: Certificate, statistic: str, probes: Sequence[ProbeName]) -> dict[str, Any]:
    columns = (one.agreement, one.chance, one.minus_length, one.human_ceiling or {})
    verdict = one.verdict
    return {
        "subject": one.subject,
        "holds": verdict.holds,
        "num_failed": len(verdict.failed),
        "figures": [_figure(figures.get(statistic)) for figures in columns],
        "coverage": one.coverage,
        "probes": [_probe(_of(one, name)) for name in probes],
        "criteria": _criteria(verdict),
        "facts": _facts(one),
    }


def _pair_row(one: PairCertificate) -> dict[str, Any]:
    """A certificate of comparisons."""
    flips = one.position.further.get("flip_share")
    columns = (one.accuracy, one.length, one.minus_length, one.position.effect, flips)
    return {
        "subject": one.subject,
        "of": part_title(one.task, one.dataset, one.aspect),
        "holds": one.verdict.holds,
        "num_failed": len(one.verdict.failed),
        "figures": [_figure(figure) for figure in columns],
        "coverage": one.coverage,
        "num_pairs": one.num_pairs,
        "criteria": _criteria(one.verdict),
    }


def _criteria(verdict: Holding) -> list[tuple[str, str]]:
    return [*(("✗", words) for words in verdict.failed), *(("✓", words) for words in verdict.met)]


def _figure(one: Figure | None) -> dict[str, Any] | None:
    """The content of a cell; None if the value is undefined."""
    if one is None or one.value is None:
        return None
    low, high = (math.nan if end is None else end for end in (one.low, one.high))
    return {"value": one.value, "low": low, "high": high, "n": one.n}


def _of(one: Certificate, name: ProbeName) -> ProbeResult | None:
    return next((probe for probe in one.probes if probe.name == name), None)


def _probe(one: ProbeResult | None) -> tuple[dict[str, Any] | None, bool]:
    return _figure(one.effect if one else None), bool(one and one.biased)


def _facts(one: Certificate) -> dict[str, str]:
    skipped = ", ".join(f"{_words(probe.name)}: {probe.skipped}" for probe in one.probes if probe.skipped)
    attacks = next((probe.further for probe in one.probes if probe.name == "injection"), {})
    return {
        "probes not run": skipped or "none",
        "effect of each attack": ", ".join(f"{_words(name)} {_value(figure)}" for name, figure in attacks.items())
        or "–",
        "labels": f"{one.labels}; {one.num_rows} rows, {one.num_groups} groups, {one.num_systems} systems",
        "training and selection data": _used_data(one),
        "hash of measured ids": one.split.measured_ids_sha256[:16],
        **{name: _plain(getattr(one.fingerprints, name)) for name in FACTS},
        "written": f"{one.date}, seal {one.seal[:16]}",
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _used_data(one: Certificate) -> str:
    return ", ".join(f"{name} ({part.num_groups} groups)" for name, part in one.split.taught.items()) or "none"


def _plain(value: Mapping[str, str] | str | None) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {print_}" for name, print_ in value.items())
    return value or "none"


def _value(figure: Figure) -> str:
    return shown(math.nan if figure.value is None else figure.value)
