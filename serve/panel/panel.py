"""The panel: few-shot examples, all judges in parallel, one deadline, a quorum, a vote. Knows no HTTP.

A judge that fails or hangs loses its vote, but the panel still answers: the judge's request is cancelled at the
deadline and its verdict is unscored with the reason. Below the quorum the answer has no score.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.engine import Engine
from cluster.exchange import Reply, Request
from evaluation.judges.aggregation import TAUGHT, Ballot, CascadeConfig, pair_rule
from evaluation.judges.few_shot import Chooser
from evaluation.judges.integrator import Integration, Integrator
from judging.comparison import both_orders
from judging.datasets import is_blank
from judging.judge import Judge
from judging.pairing import EMPTY
from judging.records import Record, Scale, Score, Verdict, seed_of
from judging.request_templates import pair_template
from judging.template import Template
from judging.voting.vote import TaughtRule, VoteRule

TRANSIENT = {"timeout", "error"}  # reasons that a retry may resolve
RETRIES = 1


@dataclass(frozen=True)
class Ask:
    """One text to rate, or two to compare (`other`). `templates`: for a custom rubric, by aspect; else the judges' own.

    `timeout_s` is for the whole answer. `judges`: those to query; empty: all.
    """

    record: Record
    aspects: Sequence[str]
    other: str | None = None
    templates: Mapping[str, Template] = field(default_factory=dict)
    judges: Sequence[str] = ()
    rule: VoteRule | TaughtRule = "mean"
    min_votes: int = 1
    with_examples: bool = True
    integrate: bool = True
    seed: int = 0
    timeout_s: float = 60.0

    @property
    def has_blank(self) -> bool:
        """Whether a text to judge is blank: then no judge is queried, and every verdict is unscored `empty`."""
        return is_blank(self.record.candidate) or (self.other is not None and is_blank(self.other))


@dataclass(frozen=True)
class Vote:
    """A judge's verdict, its latency and tokens. Pairwise, the score (0 to 1) is the preference for the second text.

    `orders`: pairwise, the verdicts in the given and in the reversed order.
    """

    verdict: Verdict
    latency_s: float
    examples: tuple[str, ...] = ()
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    is_consistent: bool | None = None
    orders: tuple[Verdict, ...] = ()


class Prompted(NamedTuple):
    """What an answer holds of its prompt. The template itself stays here: answers are sent between processes."""

    aspect: str
    scale: Scale
    fingerprint: str


@dataclass(frozen=True)
class Judged:
    """The panel's answer on one aspect: `score` is the vote's, or the integrating model's where one was queried."""

    prompt: Prompted
    votes: tuple[Vote, ...]
    score: Score
    rule: VoteRule | TaughtRule = "mean"
    integration: Integration | None = None

    @property
    def has_quorum(self) -> bool:
        return self.score.unscored not in ("no_quorum", EMPTY)

    @property
    def is_degraded(self) -> bool:
        failed = any(vote.verdict.score is None for vote in self.votes)
        return failed or (self.integration is not None and self.integration.score is None)

    @property
    def may_be_mended(self) -> bool:
        """Whether it is below the quorum for reasons that a retry may resolve."""
        return not self.has_quorum and any(vote.verdict.unscored in TRANSIENT for vote in self.votes)


@dataclass(frozen=True)
class Asked:
    """How a judge is queried: its engine, and the sampling of its replies."""

    judge: Judge
    engine: Engine
    max_tokens: int = 1
    temperature: float = 0.0
    chooser: Chooser | None = None


class Panel:
    """Judges by name. `integrator`: the model that reads all scores and reasons, or None. `ballot`: the aggregation."""

    def __init__(
        self, judges: Mapping[str, Asked], integrator: Integrator | None = None, ballot: Ballot | None = None
    ) -> None:
        self.judges = dict(judges)
        self._integrator = integrator
        self._ballot = ballot or Ballot()

    async def judge(self, ask: Ask) -> list[Judged]:
        """One answer per aspect, within `ask.timeout_s`."""
        deadline = time.monotonic() + ask.timeout_s
        return list(await asyncio.gather(*(self._of_aspect(ask, aspect, deadline) for aspect in ask.aspects)))

    async def _of_aspect(self, ask: Ask, aspect: str, deadline: float) -> Judged:
        names = list(ask.judges or self.judges)
        # Leave a part of the time to the integrating model.
        share = 0.7 if self._integrator and ask.integrate and ask.other is None else 1.0
        voted_by = time.monotonic() + (deadline - time.monotonic()) * share
        votes: tuple[Vote, ...] = ()
        cascade = self._ballot.config.cascade
        if cascade and self._is_whole(ask):
            # Half of the time is left to the others where the first judge hangs.
            half = (time.monotonic() + voted_by) / 2
            votes = await self._votes([cascade.first], ask, aspect, half)
            is_sure = _is_sure(cascade, votes[0])
            names = [] if is_sure else [name for name in names if name != cascade.first]
        votes += await self._votes(names, ask, aspect, voted_by)
        verdicts = [vote.verdict for vote in votes]
        rule = self._rule(ask, aspect)
        score = self._ballot.count(ask.record.task, verdicts, rule=rule, min_votes=ask.min_votes)
        template = self._template(self.judges[votes[0].verdict.judge].judge, ask, aspect)
        integration = None
        if share < 1 and self._integrator and score.score is not None:
            left = max(0.0, deadline - time.monotonic())
            integration = await self._integrator.integrate(
                ask.record, template, verdicts, seed=ask.seed, timeout_s=left
            )
            if integration.score is not None:
                score = dataclasses.replace(score, score=integration.score)
        prompt = Prompted(template.aspect, template.scale, template.fingerprint[:16])
        return Judged(prompt, votes, score, rule, integration)

    def _is_whole(self, ask: Ask) -> bool:
        """Whether all judges are asked that can be, by the task's own prompts."""
        able = {name for name, one in self.judges.items() if ask.other is None or not one.judge.is_fixed}
        return not ask.templates and set(ask.judges or able) == able

    async def _votes(self, names: Sequence[str], ask: Ask, aspect: str, deadline: float) -> tuple[Vote, ...]:
        """The votes of these judges in parallel; a judge without a reply at the deadline is cancelled."""
        if not names:
            return ()
        asked = [asyncio.create_task(self._vote(self.judges[name], ask, aspect)) for name in names]
        began = time.monotonic()
        try:
            await asyncio.wait(asked, timeout=max(0.0, deadline - began))
        finally:
            for task in asked:
                task.cancel()  # no effect where it is done
        return tuple(
            _result(task, name, aspect, self.judges[name].judge.mode, time.monotonic() - began)
            for task, name in zip(asked, names, strict=True)
        )

    def _rule(self, ask: Ask, aspect: str) -> VoteRule | TaughtRule:
        """The requested rule; the mean instead of one that does not fit these judges, this task or a pair."""
        if ask.other is not None:
            return pair_rule(ask.rule)
        return (
            ask.rule
            if self._is_whole(ask) and self._ballot.knows(ask.rule, ask.record.task, aspect)
            else _untaught(ask.rule)
        )

    def _template(self, judge: Judge, ask: Ask, aspect: str) -> Template:
        if ask.templates:
            return ask.templates[aspect]
        own = judge.templates[ask.record.task, aspect]
        if ask.other is None:
            return own
        from judging.tasks import load_task

        return pair_template(load_task(ask.record.task), aspect)

    async def _vote(self, asked: Asked, ask: Ask, aspect: str) -> Vote:
        began = time.monotonic()
        if ask.has_blank:
            return Vote(Verdict(asked.judge.name, aspect, None, asked.judge.mode, unscored=EMPTY), 0.0)
        template = self._template(asked.judge, ask, aspect)
        judge = dataclasses.replace(asked.judge, templates={(ask.record.task, aspect): template})
        found: list[str] | None = None
        with_examples = ask.with_examples or asked.judge.is_fixed  # a fitted judge has learned from them
        if ask.other is None and not ask.templates and asked.chooser is not None and with_examples:
            # Encoding and search are CPU-bound: they must not block the event loop.
            (chosen,) = await asyncio.to_thread(asked.chooser.choose, [ask.record], aspect)
            found = chosen.ids
        if not with_examples or ask.other is not None or ask.templates:
            found = []
        records = [ask.record] if ask.other is None else [_with_other(ask.record, ask.other), _turned(ask)]
        replies = await asyncio.gather(
            *(_answer(asked, _request(asked, judge.request(record, aspect, found), ask.seed)) for record in records)
        )
        verdicts = [judge.verdict(ask.record.task, aspect, _row(reply)) for reply in replies]
        verdict, is_consistent = verdicts[0], None
        if ask.other is not None:
            compared = both_orders(*verdicts)
            verdict, is_consistent = compared.verdict, compared.is_consistent
        return Vote(
            verdict,
            time.monotonic() - began,
            tuple(found or (one.id for one in judge.examples.get((ask.record.task, aspect), ()) if found is None)),
            sum(reply.num_prompt_tokens for reply in replies),
            sum(reply.num_generated_tokens for reply in replies),
            sum(reply.num_cached_tokens for reply in replies),
            is_consistent,
            tuple(verdicts) if ask.other is not None else (),
        )


def _is_sure(cascade: CascadeConfig, vote: Vote) -> bool:
    if vote.orders:
        return cascade.is_sure_of_pair(*vote.orders)
    return cascade.is_sure(vote.verdict.score, vote.verdict.label_probabilities)


def _untaught(rule: VoteRule | TaughtRule) -> VoteRule | TaughtRule:
    return "mean" if rule in TAUGHT else rule


def _result(task: asyncio.Task[Vote], name: str, aspect: str, mode: Any, waited_s: float) -> Vote:
    if not task.done() or task.cancelled():
        return Vote(Verdict(name, aspect, None, mode, unscored="timeout", detail="no answer in time"), waited_s)
    if task.exception() is not None:
        # An unexpected exception loses the judge's vote as well.
        kind = type(task.exception()).__name__
        return Vote(Verdict(name, aspect, None, mode, unscored="error", detail=f"the judge failed ({kind})"), waited_s)
    return task.result()


def _with_other(record: Record, other: str) -> Record:
    return dataclasses.replace(record, fields={**record.fields, "other": other})


def _turned(ask: Ask) -> Record:
    assert ask.other is not None
    return dataclasses.replace(
        ask.record, candidate=ask.other, fields={**ask.record.fields, "other": ask.record.candidate}
    )


def _request(asked: Asked, columns: Mapping[str, Any], seed: int) -> Request:
    return Request(
        columns["prompt"],
        columns["reply_prefix"],
        tuple(columns["labels"]),
        columns["json_schema"],
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        seed=seed_of(seed, asked.judge.name, columns["prompt"]) if asked.temperature else seed,
        hidden_state=asked.judge.mode == "fitted",
    )


async def _answer(asked: Asked, request: Request) -> Reply:
    """The engine's reply; an engine failure is retried once."""
    for _ in range(RETRIES):
        reply = await asked.engine.generate(request)
        if reply.error != "error":
            return reply
    return await asked.engine.generate(request)


def _row(reply: Reply) -> dict[str, Any]:
    """The reply as columns with the names of `cluster.generate`."""
    return {
        "reply": reply.text,
        "finish_reason": reply.finish_reason,
        "label_logprobs": list(reply.label_logprobs),
        "error": reply.error or "",
        "detail": reply.detail,
        "hidden_state": reply.hidden_state,
        "reasoning": reply.reasoning,
    }
