"""Which judgements of the running panel are certified: decided once at the start, looked up for each request.

A certificate is valid where its criteria are met and its fingerprints are those of what runs. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.config import RunConfig
from evaluation.batch.config import Config as EvaluateConfig
from evaluation.batch.fingerprints import Known, known_of_pairs
from evaluation.certification.store import load_certificates, load_pair_certificates
from evaluation.judges.aggregation import PANEL
from judging.certificates.certificate import Certificate, Figure, Fingerprints, PairCertificate, ProbeResult
from judging.comparison import TIE_MARGIN
from judging.errors import InputError
from judging.records import Record
from judging.template import Templates
from judging.voting.vote import TaughtRule, VoteRule
from serve.panel.panel import Ask

Key = tuple[str, str, str]  # judge or panel, task, aspect
Problem = tuple[Certificate | PairCertificate, str | None]  # a certificate, and why it is not valid here


@dataclass(frozen=True)
class AsConfigured:
    """The panel as it was certified: all judges, with this vote. Any other combination is not certified."""

    judges: frozenset[str]
    rule: VoteRule | TaughtRule
    min_votes: int
    has_integrator: bool

    @staticmethod
    def of(evaluate: EvaluateConfig) -> AsConfigured:
        vote = evaluate.vote
        return AsConfigured(frozenset(evaluate.judges), vote.rule, vote.min_votes, evaluate.integrator is not None)


@dataclass(frozen=True)
class Certified:
    """What is certified: `keys` of single texts, `pair_keys` of comparisons by the judges `comparing`.

    `summaries`: of the certificates, by judge or panel, for `GET /v1/judges`.
    """

    keys: frozenset[Key] = frozenset()
    pair_keys: frozenset[Key] = frozenset()
    comparing: frozenset[str] = frozenset()
    summaries: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    panel: AsConfigured | None = None

    def judge(self, name: str, ask: Ask, aspect: str) -> bool:
        """Whether a judge's vote on the question is certified: only where it is asked by the task's own prompt.

        Args:
            name: the judge, or the panel.
            ask: the question.
            aspect: one of its aspects.
        """
        key = (name, ask.record.task, aspect)
        if ask.templates:
            return False
        return key in self.pair_keys if ask.other is not None else ask.with_examples and key in self.keys

    def answer(self, ask: Ask, aspect: str) -> bool:
        """Whether the answer is certified: that of the only queried judge, or of the panel as it was certified."""
        known = self.panel
        if known is None:
            return False
        if len(ask.judges) == 1:
            # With one judge its score is the answer, whatever the aggregation rule.
            is_alone = ask.other is not None or not ask.integrate  # no model integrates comparisons
            return is_alone and self.judge(ask.judges[0], ask, aspect)
        judges = known.judges if ask.other is None else self.comparing
        is_whole = set(ask.judges) == judges and ask.rule == known.rule and ask.min_votes == known.min_votes
        is_integrated = ask.other is not None or ask.integrate == known.has_integrator
        return is_whole and is_integrated and self.judge(PANEL, ask, aspect)


def certified(
    run: RunConfig, evaluate: EvaluateConfig, templates: Mapping[str, Templates], pool: Mapping[str, Record]
) -> Certified:
    """What the run's certificates cover of the panel that is served.

    Args:
        run: the configuration.
        evaluate: its `evaluate` section.
        templates: by judge.
        pool: the records that may be shown as few-shot examples, by id.

    Raises:
        InputError: a certificate was edited.
    """
    found, of_pairs = load_certificates(run.run), load_pair_certificates(run.run)
    if not found and not of_pairs:
        return Certified(panel=AsConfigured.of(evaluate))
    known = Known(run, evaluate, templates, pool)
    problems: list[Problem] = [(one, _problem(one, known, evaluate.judges, templates)) for one in found]
    comparing = evaluate.pairs.comparing(evaluate.judges, evaluate.vote) if evaluate.pairs and of_pairs else {}
    known = known_of_pairs(run, evaluate, comparing, {(one.task, one.aspect) for one in of_pairs})
    problems += [(pair, _pair_problem(pair, known, comparing, templates)) for pair in of_pairs]
    summaries: dict[str, list[dict[str, Any]]] = {}
    for one, problem in problems:
        summaries.setdefault(one.subject, []).append(_summary(one, problem))
    return Certified(
        _counting(problems, Certificate),
        _counting(problems, PairCertificate),
        frozenset(comparing),
        summaries,
        AsConfigured.of(evaluate),
    )


def _counting(problems: Sequence[Problem], kind: type[Certificate | PairCertificate]) -> frozenset[Key]:
    """What certificates of this kind cover; with several data sets each must be valid, as a request names none."""
    each: dict[Key, list[bool]] = {}
    for one, problem in problems:
        if isinstance(one, kind):
            each.setdefault((one.subject, one.task, one.aspect), []).append(problem is None)
    return frozenset(key for key, valid in each.items() if all(valid))


def check_required(found: Certified, run: RunConfig) -> None:
    """For `serve.require_certificate`: a server that would reject every request does not start. Raises InputError."""
    if not (found.keys or found.pair_keys):
        key = "serve.require_certificate"
        raise InputError(
            f"No certificate in {run.run / 'certify'} is valid for this configuration, and `{key}` is set. "
            f"Run `inverdict certify`, or set `{key}` to false.",
            code="not_certified",
            key=key,
        )


def _problem(
    one: Certificate | PairCertificate, known: Known, judges: Collection[str], templates: Mapping[str, Templates]
) -> str | None:
    """Why the certificate is not valid here, or None."""
    if any(name not in judges or (one.task, one.aspect) not in templates[name] for name in one.judges):
        return "issued for judges that are not served here"
    changed = _changed(one.fingerprints, known.of(one.subject, one.task, one.aspect))
    if changed:
        return f"other fingerprints: {', '.join(changed)}"
    return None if one.verdict.holds else "its criteria are not met"


def _pair_problem(
    one: PairCertificate, known: Known, judges: Collection[str], templates: Mapping[str, Templates]
) -> str | None:
    if one.tie_margin != TIE_MARGIN:
        return f"issued for ties within {one.tie_margin:g} of 0.5; the server's are within {TIE_MARGIN:g}"
    return _problem(one, known, judges, templates)


def _changed(tested: Fingerprints, running: Fingerprints) -> list[str]:
    return [name for name in Fingerprints.model_fields if getattr(tested, name) != getattr(running, name)]


def _summary(one: Certificate | PairCertificate, problem: str | None) -> dict[str, Any]:
    figure: Figure | None
    probes: tuple[ProbeResult, ...]
    if isinstance(one, PairCertificate):
        of: dict[str, Any] = {"statistic": "pairs.accuracy", "num_pairs": one.num_pairs}
        figure, probes = one.accuracy, (one.position,)
    else:
        of = {"statistic": one.criteria.statistic, "num_rows": one.num_rows}
        figure, probes = one.agreement.get(one.criteria.statistic), one.probes
    return {
        "task": one.task,
        "dataset": one.dataset,
        "aspect": one.aspect,
        "counts": problem is None,
        "why_not": problem,
        "holds": one.verdict.holds,
        "failed": list(one.verdict.failed),
        **of,
        "agreement": figure.model_dump() if figure else None,
        "coverage": one.coverage,
        "num_groups": one.num_groups,
        "labels": one.labels,
        "biased_by": [probe.name for probe in probes if probe.biased],
        "date": one.date,
        "seal": one.seal,
    }
