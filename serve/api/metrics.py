"""Counters and histograms of the interface, recorded through Ray. Holds no text of any request.

Ray exports them on every node, `ray_` before the name and the process in the labels, so they add up over replicas.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from serve.api.schemas import Judgement

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]


class Telemetry:
    """What one replica of the interface counts. The labels hold configured names alone, never a client's text."""

    def __init__(self) -> None:
        self._requests = Counter("inverdict_requests_total", "Responses by route and status.", ("route", "status"))
        self._seconds = Histogram("inverdict_request_seconds", "Seconds per request.", SECONDS, ("route",))
        self._in_flight = Gauge("inverdict_requests_in_flight", "Requests in progress.")
        self._votes = Counter("inverdict_votes_total", "Votes with a score.", ("judge",))
        self._unscored = Counter("inverdict_unscored_total", "Votes without a score.", ("judge", "reason"))
        self._judge_seconds = Histogram("inverdict_judge_seconds", "Seconds per vote.", SECONDS, ("judge",))
        self._tokens = Counter("inverdict_tokens_total", "Tokens by kind.", ("judge", "kind"))
        self._degraded = Counter("inverdict_degraded_total", "Degraded judgements.")
        self._no_quorum = Counter("inverdict_no_quorum_total", "Judgements below the quorum.")
        self._num_in_flight = 0

    def begin(self) -> None:
        """A request has arrived."""
        self._num_in_flight += 1
        self._in_flight.set(self._num_in_flight)

    def end(self, route: str, status: int, seconds: float) -> None:
        """A request that has begun is answered.

        Args:
            route: one of our routes, or "none".
            status: of the response; 0: none was sent.
            seconds: since it arrived.
        """
        self._num_in_flight -= 1
        self._in_flight.set(self._num_in_flight)
        self._requests.inc(tags={"route": route, "status": str(status)})
        self._seconds.observe(seconds, {"route": route})

    def count(self, judgement: Judgement) -> None:
        """Add one judgement to the counters."""
        if judgement.degraded:
            self._degraded.inc()
        if not judgement.quorum:
            self._no_quorum.inc()
        for vote in (vote for result in judgement.results for vote in result.votes):
            if vote.unscored:
                self._unscored.inc(tags={"judge": vote.judge, "reason": vote.unscored})
            else:
                self._votes.inc(tags={"judge": vote.judge})
            self._judge_seconds.observe(vote.latency_ms / 1000, {"judge": vote.judge})
            tokens = {"prompt": vote.usage.prompt_tokens, "completion": vote.usage.completion_tokens}
            for kind, number in tokens.items():
                if number:  # Ray refuses an increment of 0
                    self._tokens.inc(number, {"judge": vote.judge, "kind": kind})
