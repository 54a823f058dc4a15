"""Reads the certificates of a run from disk. Imports no Ray, because the served panel reads them too."""

from __future__ import annotations

from pathlib import Path

from judging.certificates.certificate import Certificate, load_certificate

CERTIFICATES = Path("certify") / "certificates"  # relative to the run folder


def load_certificates(run: Path) -> list[Certificate]:
    """The certificates of a run, sorted by path. Raises InputError where one was edited."""
    return [load_certificate(file) for file in sorted((run / CERTIFICATES).glob("*/*.json"))]
