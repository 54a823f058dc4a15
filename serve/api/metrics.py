"""Counts and times for `/metrics`, in Prometheus' form. Holds no text of any request."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.api.schemas import Judgement

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Telemetry:
    """One registry an ingress replica; the labels hold names of ours alone, never a client's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "inverdict_requests_total", "Answers by route and status.", ("route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "inverdict_request_seconds", "Seconds to answer.", ("route",), buckets=SECONDS, registry=self._registry
        )
        self.in_flight = Gauge("inverdict_requests_in_flight", "Requests under way.", registry=self._registry)
        self._votes = Counter("inverdict_votes_total", "Votes with a score.", ("judge",), registry=self._registry)
        self._unscored = Counter(
            "inverdict_unscored_total", "Votes without a score.", ("judge", "reason"), registry=self._registry
        )
        self._judge_seconds = Histogram(
            "inverdict_judge_seconds", "Seconds of one vote.", ("judge",), buckets=SECONDS, registry=self._registry
        )
        self._tokens = Counter("inverdict_tokens_total", "Tokens.", ("judge", "kind"), registry=self._registry)
        self._degraded = Counter("inverdict_degraded_total", "Degraded answers.", registry=self._registry)
        self._no_quorum = Counter("inverdict_no_quorum_total", "Answers below the quorum.", registry=self._registry)

    def count(self, told: Judgement) -> None:
        """What a judgement adds."""
        if told.degraded:
            self._degraded.inc()
        if not told.quorum:
            self._no_quorum.inc()
        for vote in (vote for result in told.results for vote in result.votes):
            if vote.unscored:
                self._unscored.labels(vote.judge, vote.unscored).inc()
            else:
                self._votes.labels(vote.judge).inc()
            self._judge_seconds.labels(vote.judge).observe(vote.latency_ms / 1000)
            self._tokens.labels(vote.judge, "prompt").inc(vote.usage.prompt_tokens)
            self._tokens.labels(vote.judge, "completion").inc(vote.usage.completion_tokens)

    def text(self) -> bytes:
        return bytes(generate_latest(self._registry))
