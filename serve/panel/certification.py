"""Which judgements of the running panel are certified: decided once at the start, looked up for each request.

A certificate is valid where its criteria are met and its fingerprints are those of what runs. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.config import RunConfig
from evaluation.batch.config import Config as EvaluateConfig
from evaluation.batch.fingerprints import Known
from evaluation.certification.store import load_certificates
from evaluation.judges.aggregation import PANEL
from judging.certificates.certificate import Certificate, Fingerprints
from judging.errors import InputError
from judging.records import Record
from judging.template import Templates
from judging.voting.vote import TaughtRule, VoteRule
from serve.panel.panel import Ask

Key = tuple[str, str, str]  # judge or panel, task, aspect


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
    """`keys`: what is certified. `summaries`: of the certificates, by judge or panel, for `GET /v1/judges`."""

    keys: frozenset[Key] = frozenset()
    summaries: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    panel: AsConfigured | None = None

    def judge(self, name: str, ask: Ask, aspect: str) -> bool:
        """Whether a judge's vote on the question is certified: only where the task's own prompt rates one text.

        Args:
            name: the judge, or the panel.
            ask: the question.
            aspect: one of its aspects.
        """
        is_as_tested = ask.other is None and not ask.templates and ask.with_examples
        return is_as_tested and (name, ask.record.task, aspect) in self.keys

    def answer(self, ask: Ask, aspect: str) -> bool:
        """Whether the answer is certified: that of the only queried judge, or of the panel as it was certified."""
        known = self.panel
        if known is None:
            return False
        if len(ask.judges) == 1:
            # With one judge its score is the answer, whatever the aggregation rule.
            return not ask.integrate and self.judge(ask.judges[0], ask, aspect)
        is_whole = set(ask.judges) == known.judges and ask.rule == known.rule and ask.min_votes == known.min_votes
        return is_whole and ask.integrate == known.has_integrator and self.judge(PANEL, ask, aspect)


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
    found = load_certificates(run.run)
    if not found:
        return Certified(panel=AsConfigured.of(evaluate))
    known = Known(run, evaluate, templates, pool)
    summaries: dict[str, list[dict[str, Any]]] = {}
    counting: dict[Key, list[bool]] = {}
    for one in found:
        problem = _problem(one, known, evaluate, templates)
        counting.setdefault((one.subject, one.task, one.aspect), []).append(problem is None)
        summaries.setdefault(one.subject, []).append(_summary(one, problem))
    # With several data sets each certificate must be valid: a request does not name its data set.
    keys = frozenset(key for key, each in counting.items() if all(each))
    return Certified(keys, summaries, AsConfigured.of(evaluate))


def check_required(found: Certified, run: RunConfig) -> None:
    """For `serve.require_certificate`: a server that would reject every request does not start. Raises InputError."""
    if not found.keys:
        key = "serve.require_certificate"
        raise InputError(
            f"No certificate in {run.run / 'certify'} is valid for this configuration, and `{key}` is set. "
            f"Run `inverdict certify`, or set `{key}` to false.",
            code="not_certified",
            key=key,
        )


def _problem(
    one: Certificate, known: Known, evaluate: EvaluateConfig, templates: Mapping[str, Templates]
) -> str | None:
    """Why the certificate is not valid here, or None."""
    if any(name not in evaluate.judges or (one.task, one.aspect) not in templates[name] for name in one.judges):
        return "issued for judges that are not served here"
    changed = _changed(one.fingerprints, known.of(one.subject, one.task, one.aspect))
    if changed:
        return f"other fingerprints: {', '.join(changed)}"
    return None if one.verdict.holds else "its criteria are not met"


def _changed(tested: Fingerprints, running: Fingerprints) -> list[str]:
    return [name for name in Fingerprints.model_fields if getattr(tested, name) != getattr(running, name)]


def _summary(one: Certificate, problem: str | None) -> dict[str, Any]:
    figure = one.agreement.get(one.criteria.statistic)
    return {
        "task": one.task,
        "dataset": one.dataset,
        "aspect": one.aspect,
        "counts": problem is None,
        "why_not": problem,
        "holds": one.verdict.holds,
        "failed": list(one.verdict.failed),
        "statistic": one.criteria.statistic,
        "agreement": figure.model_dump() if figure else None,
        "coverage": one.coverage,
        "num_rows": one.num_rows,
        "num_groups": one.num_groups,
        "labels": one.labels,
        "biased_by": [probe.name for probe in one.probes if probe.biased],
        "date": one.date,
        "seal": one.seal,
    }
