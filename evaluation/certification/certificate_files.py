"""Writes the certificates of a run, and tells them: the job's summary and its table in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.artifacts import whole_folder, write_text
from cluster.tables import aligned
from evaluation.certification.store import CERTIFICATES, PAIR_CERTIFICATES
from evaluation.measure.formatting import shown, with_interval
from judging.certificates.certificate import Certificate, Figure, PairCertificate, ProbeResult, Sealed
from judging.records import content_id
from judging.template_io import file_name

SCHEMAS: dict[str, type[Sealed]] = {
    "certificate.schema.json": Certificate,
    "pair_certificate.schema.json": PairCertificate,
}
Either = Certificate | PairCertificate


def write_certificates(folder: Path, found: Sequence[Certificate], pairs: Sequence[PairCertificate]) -> None:
    """Write the certificates and their schemas; each kind whole or not at all."""
    kinds: dict[str, Sequence[Either]] = {CERTIFICATES.name: found, PAIR_CERTIFICATES.name: pairs}
    for name, ones in kinds.items():
        if not (ones or (folder / name).exists()):
            continue
        with whole_folder(folder / name) as beside:
            for one in ones:
                (beside / one.subject).mkdir(exist_ok=True)
                write_text(beside / one.subject / _file(one), one.to_text())
    for name, kind in SCHEMAS.items():
        write_text(folder / name, json.dumps(kind.model_json_schema(), indent=1))


def _file(one: Either) -> str:
    """Task and aspect, and with a data set a hash of its name, which can hold characters that no file name can."""
    stem = file_name(one.task, one.aspect).removesuffix(".txt")
    return f"{stem}.{content_id(one.dataset)[:8]}.json" if one.dataset else f"{stem}.json"


def summary_of(folder: Path, found: Sequence[Certificate], pairs: Sequence[PairCertificate]) -> dict[str, Any]:
    """The folder and one entry per certificate, those of pairs last."""
    entries = [*map(_entry, found), *map(_entry, pairs)]
    return {"folder": str((folder / CERTIFICATES.name).resolve()), "certificates": entries}


def _entry(one: Either) -> dict[str, Any]:
    what, statistic = "", one.criteria.statistic
    figure: Figure | None
    probes: tuple[ProbeResult, ...]
    if isinstance(one, PairCertificate):
        what, statistic, figure, probes = ": pairs", "accuracy of pairs", one.accuracy, (one.position,)
    else:
        figure, probes = one.agreement.get(statistic), one.probes
    return {
        "subject": one.subject,
        "of": f"{one.task} / {one.dataset or 'records'} / {one.aspect}{what}",
        "statistic": statistic,
        "figure": figure.model_dump() if figure else None,
        "coverage": one.coverage,
        "biased": [probe.name for probe in probes if probe.biased],
        "holds": one.verdict.holds,
        "failed": list(one.verdict.failed),
    }


def render(summary: Mapping[str, Any]) -> str:
    """The terminal's table: one row per certificate."""
    rows = [["", "", "agreement", "coverage", "biased by", "certified"]]
    for one in summary["certificates"]:
        more = f" (and {len(one['failed']) - 1} more)" if len(one["failed"]) > 1 else ""
        rows.append(
            [
                one["subject"],
                one["of"],
                with_interval(one["figure"]),
                shown(one["coverage"], 3),
                ", ".join(one["biased"]) or "–",
                "yes" if one["holds"] else f"no: {one['failed'][0]}{more}",
            ]
        )
    table = aligned(rows, num_left=len(rows[0]))
    statistics = ", ".join(dict.fromkeys(one["statistic"] for one in summary["certificates"]))
    return f"{table}\n\nAgreement: {statistics} [95 % bootstrap interval over groups].\n{summary['folder']}"
