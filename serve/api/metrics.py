"""Counters and histograms for `/metrics`, in Prometheus' format. Holds no text of any request."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.api.schemas import Judgement

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Telemetry:
    """One registry per ingress replica. The labels hold configured names alone, never a client's text."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "inverdict_requests_total", "Responses by route and status.", ("route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "inverdict_request_seconds", "Seconds per request.", ("route",), buckets=SECONDS, registry=self._registry
        )
        self.in_flight = Gauge("inverdict_requests_in_flight", "Requests in progress.", registry=self._registry)
        self._votes = Counter("inverdict_votes_total", "Votes with a score.", ("judge",), registry=self._registry)
        self._unscored = Counter(
            "inverdict_unscored_total", "Votes without a score.", ("judge", "reason"), registry=self._registry
        )
        self._judge_seconds = Histogram(
            "inverdict_judge_seconds", "Seconds per vote.", ("judge",), buckets=SECONDS, registry=self._registry
        )
        self._tokens = Counter("inverdict_tokens_total", "Tokens by kind.", ("judge", "kind"), registry=self._registry)
        self._degraded = Counter("inverdict_degraded_total", "Degraded judgements.", registry=self._registry)
        self._no_quorum = Counter("inverdict_no_quorum_total", "Judgements below the quorum.", registry=self._registry)

    def count(self, judgement: Judgement) -> None:
        """Add one judgement to the counters."""
        if judgement.degraded:
            self._degraded.inc()
        if not judgement.quorum:
            self._no_quorum.inc()
        for vote in (vote for result in judgement.results for vote in result.votes):
            if vote.unscored:
                self._unscored.labels(vote.judge, vote.unscored).inc()
            else:
                self._votes.labels(vote.judge).inc()
            self._judge_seconds.labels(vote.judge).observe(vote.latency_ms / 1000)
            self._tokens.labels(vote.judge, "prompt").inc(vote.usage.prompt_tokens)
            self._tokens.labels(vote.judge, "completion").inc(vote.usage.completion_tokens)

    def text(self) -> bytes:
        return bytes(generate_latest(self._registry))
