"""Certificates of a run on disk. Loads no Ray: the running panel reads them too."""

from __future__ import annotations

from pathlib import Path

from judging.certificates.certificate import Certificate, load_certificate

CERTIFICATES = Path("certify") / "certificates"  # below the run


def load_certificates(run: Path) -> list[Certificate]:
    """The certificates of a run, by name. Raises InputError where one was edited."""
    return [load_certificate(file) for file in sorted((run / CERTIFICATES).glob("*/*.json"))]
