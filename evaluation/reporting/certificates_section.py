"""The report's section on certificates, as HTML: what each says, and its probes as a picture. Names are escaped.

Reads `{run}/certify`; knows no scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from cluster.artifacts import read_json
from evaluation.certification.store import load_certificates
from evaluation.measure.formatting import shown
from judging.certificates.certificate import Certificate, Figure, ProbeResult
from judging.stats.bias import ProbeName

STALE = "These certificates are of another evaluation than this report: certify this run again"
FACTS = ("code", "models", "templates", "settings", "retriever", "weights")


def certificates_section(run: Path) -> str:
    """All certificates of the run, slice by slice; empty where there is none.

    Raises InputError where one was edited.
    """
    found = load_certificates(run)
    if not found:
        return ""
    slices: dict[tuple[str, str, str], list[Certificate]] = {}
    for one in found:
        slices.setdefault((one.task, one.dataset, one.aspect), []).append(one)
    body = "".join(_slice(key, ones) for key, ones in slices.items())
    return (
        "<h2>Certificates</h2><p>Whether each judge can be trusted on these texts: its agreement with people against "
        "stated criteria, and probes that look for bias. A certificate counts for what was tested alone: the same "
        f"model, template, settings, examples, vote and code.</p>{_stale(run)}{body}"
    )


def _stale(run: Path) -> str:
    certified, evaluated = (read_json(run / job / "manifest.json") for job in ("certify", "evaluate"))
    same = certified and evaluated and certified["fingerprint"]["scores"] == evaluated["files"]
    return "" if same else f"<p class=warning>{escape(STALE)}.</p>"


def _slice(key: tuple[str, str, str], ones: Sequence[Certificate]) -> str:
    task, dataset, aspect = key
    name = ones[0].criteria.statistic
    rows = "".join(
        f"<tr><th>{escape(one.subject)}<td>{_mark(one)}{_cell(one.agreement.get(name))}"
        f"{_cell(one.chance.get(name))}{_cell(one.minus_length.get(name))}"
        f"{_cell((one.human_ceiling or {}).get(name))}<td>{one.coverage:.3f}"
        for one in ones
    )
    return (
        f"<h3>{escape(task)} / {escape(dataset or 'records')} / {escape(aspect)}</h3>"
        f"<table><tr><th><th>certified<th>{escape(name)}<th>chance<th>minus length<th>human ceiling<th>coverage{rows}"
        f"</table>{_probes(ones)}{''.join(map(_details, ones))}"
    )


def _probes(ones: Sequence[Certificate]) -> str:
    """Those that at least one was put to, as a table and as a picture."""
    from evaluation.reporting import plots

    ran = list(dict.fromkeys(probe.name for one in ones for probe in one.probes if probe.effect))
    if not ran:
        return "<p>No probe was run.</p>"
    head = "".join(f"<th>{_words(name)}" for name in ran)
    rows = "".join(
        f"<tr><th>{escape(one.subject)}" + "".join(_probe(probe) for probe in (_of(one, name) for name in ran))
        for one in ones
    )
    return (
        f"<table><tr><th>probe{head}{rows}</table>"
        f"<img alt='probes with intervals' src='data:image/png;base64,{plots.probes(ones, ran)}'>"
        "<p class=meta>Grey band: effects too small to matter. Red: a bias (the interval leaves 0 out and the effect "
        "lies beyond the band; for length, injection and rerun only above it; or one attack alone surely does).</p>"
    )


def _mark(one: Certificate) -> str:
    return "<b>yes</b>" if one.verdict.holds else f"no<small>{len(one.verdict.failed)} criteria not met</small>"


def _cell(one: Figure | None) -> str:
    if one is None or one.value is None:
        return "<td>–"
    low, high = (shown(math.nan if end is None else end) for end in (one.low, one.high))
    return f"<td>{shown(one.value)}<small>{low} to {high}, n {one.n}</small>"


def _of(one: Certificate, name: ProbeName) -> ProbeResult | None:
    return next((probe for probe in one.probes if probe.name == name), None)


def _probe(one: ProbeResult | None) -> str:
    cell = _cell(one.effect if one else None)
    return cell.replace("<td>", "<td class=biased>", 1) if one and one.biased else cell


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def _details(one: Certificate) -> str:
    criteria = "".join(
        f"<li>{mark} {escape(words)}"
        for mark, known in (("✗", one.verdict.failed), ("✓", one.verdict.met))
        for words in known
    )
    skipped = ", ".join(f"{_words(probe.name)}: {escape(probe.skipped)}" for probe in one.probes if probe.skipped)
    attacks = next((probe.further for probe in one.probes if probe.name == "injection"), {})
    facts = {
        "probes not run": skipped or "none",
        "each attack": ", ".join(f"{_words(name)} {_value(figure)}" for name, figure in attacks.items()) or "–",
        "labels": f"{one.labels}; {one.num_rows} rows, {one.num_groups} groups, {one.num_systems} systems",
        "has taught": _taught(one),
        "measured ids": one.split.measured_ids_sha256[:16],
        **{name: escape(_plain(getattr(one.fingerprints, name))) for name in FACTS},
        "written": f"{escape(one.date)}, seal {escape(one.seal[:16])}",
    }
    rows = "".join(f"<tr><th>{name}<td>{value}" for name, value in facts.items())
    return (
        f"<details><summary>{escape(one.subject)}: criteria and what was tested</summary>"
        f"<ul class=criteria>{criteria}</ul><table class=facts>{rows}</table></details>"
    )


def _taught(one: Certificate) -> str:
    return (
        ", ".join(f"{escape(name)}, groups: {part.num_groups}" for name, part in one.split.taught.items()) or "nothing"
    )


def _plain(value: Mapping[str, str] | str | None) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {print_}" for name, print_ in value.items())
    return value or "none"


def _value(figure: Figure) -> str:
    return shown(math.nan if figure.value is None else figure.value)
