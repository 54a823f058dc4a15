"""Reads the certificates of a run from disk. Imports no Ray, because the served panel reads them too."""

from __future__ import annotations

from pathlib import Path

from judging.certificates.certificate import Certificate, PairCertificate, load_certificate

# Relative to the run folder.
CERTIFICATES = Path("certify") / "certificates"
PAIR_CERTIFICATES = Path("certify") / "pair_certificates"


def load_certificates(run: Path) -> list[Certificate]:
    """The certificates of a run, sorted by path. Raises InputError where one was edited."""
    return [load_certificate(file, Certificate) for file in sorted((run / CERTIFICATES).glob("*/*.json"))]


def load_pair_certificates(run: Path) -> list[PairCertificate]:
    """Those of comparisons. Raises InputError where one was edited."""
    return [load_certificate(file, PairCertificate) for file in sorted((run / PAIR_CERTIFICATES).glob("*/*.json"))]
