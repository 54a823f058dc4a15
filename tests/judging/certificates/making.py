"""A certificate by hand, for the tests of what reads one."""

from __future__ import annotations

from typing import Any

from judging.certificates.assess import holding, pair_holding
from judging.certificates.certificate import (
    Certificate,
    Figure,
    Fingerprints,
    Groups,
    Holding,
    PairCertificate,
    ProbeResult,
    Split,
    ids_hash,
)
from judging.certificates.criteria import Criteria


def figure(value: float | None, low: float | None = None, high: float | None = None, n: int = 40) -> Figure:
    """Ends a tenth beside the value where none are given."""
    if value is not None and low is None:
        low, high = value - 0.1, value + 0.1
    return Figure(value=value, low=low, high=high, n=n, coverage=1.0)


def probe(name: Any, value: float | None, *, biased: bool | None = False, limit: float = 0.05) -> ProbeResult:
    return ProbeResult(name=name, unit="mean shift", limit=limit, effect=figure(value), biased=biased, num_groups=30)


def certificate(subject: str = "j", **changes: Any) -> Certificate:
    """A sealed certificate whose criteria are met, unless `changes` see to it that they are not."""
    content: dict[str, Any] = {
        "subject": subject,
        "kind": "judge",
        "judges": (subject,),
        "task": "qa",
        "dataset": "d",
        "aspect": "overall",
        "scale": (1.0, 5.0),
        "score_modes": {subject: "expected"},
        "labels": "human",
        "date": "2026-01-02T03:04:05Z",
        "num_rows": 80,
        "num_groups": 40,
        "num_systems": 2,
        "coverage": 1.0,
        "unscored": {},
        "agreement": {"group.spearman": figure(0.5)},
        "chance": {"group.spearman": figure(0.0)},
        "length": {"group.spearman": figure(0.1)},
        "minus_length": {"group.spearman": figure(0.4)},
        "human_ceiling": None,
        "split": Split(
            taught={"data.pool": Groups.of(["qa/d/p"])},
            measured=Groups.of(["qa/d/g", "qa/d/h"]),
            measured_ids_sha256=ids_hash(["a", "b"]),
        ),
        "fingerprints": Fingerprints(
            code="c",
            models={subject: "m"},
            templates={subject: "t"},
            settings={subject: "s"},
            retriever=None,
            weights=None,
        ),
        "versions": {"ray": "1"},
        "probes": (probe("length", 0.01), probe("injection", 0.02)),
        "criteria": Criteria(),
        **changes,
    }
    draft = Certificate(**content, verdict=Holding(holds=False, met=(), failed=()))
    return draft.model_copy(update={"verdict": holding(draft)}).sealed()


def pair_certificate(subject: str = "j", **changes: Any) -> PairCertificate:
    """A sealed certificate of comparisons whose criteria are met, unless `changes` see to it that they are not."""
    alike = {
        name: getattr(certificate(subject), name) for name in ("labels", "date", "split", "fingerprints", "versions")
    }
    content: dict[str, Any] = {
        **alike,
        "subject": subject,
        "judges": (subject,),
        "task": "qa",
        "dataset": "d",
        "aspect": "overall",
        "num_pairs": 80,
        "num_groups": 40,
        "num_systems": 2,
        "coverage": 1.0,
        "unscored": {},
        "accuracy": figure(0.7),
        "length": figure(0.5),
        "minus_length": figure(0.2),
        "position": probe("position", 0.01, limit=0.1),
        "tie_margin": 0.02,
        "criteria": Criteria(),
        **changes,
    }
    draft = PairCertificate(**content, verdict=Holding(holds=False, met=(), failed=()))
    return draft.model_copy(update={"verdict": pair_holding(draft)}).sealed()
