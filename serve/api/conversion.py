"""A body of `/v1/judge` -> the panel's question, and the panel's answer -> the response body."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.judges.aggregation import VoteConfig
from judging.comparison import winner
from judging.datasets import is_blank
from judging.records import Record, Scale, content_id
from judging.request_templates import PREFERENCE, free_template, pair_template, rubric_text
from judging.tasks import FieldSpec, Task, load_task
from judging.template import Template, nearest_label
from serve.api.errors import BadRequest, NotCertified
from serve.api.schemas import AspectResult, Integrated, JudgeBody, Judgement, Spread, Usage, Vote
from serve.panel.certification import Certified
from serve.panel.config import Config
from serve.panel.panel import Ask, Judged, Prompted
from serve.panel.panel import Vote as PanelVote

NOT_CERTIFIED = "not_certified"
COUNTED = ("prompt_tokens", "completion_tokens", "cached_tokens")
FREE_ASPECT, FREE_SCALE = "overall", Scale(1, 5)


@dataclass(frozen=True)
class Offer:
    """What a body is checked against. `templates`: by judge, the (task, aspect) pairs that it can judge.

    `fixed`: the judges that rate one text, and follow no other prompt than their own: fitted judges and text features.
    """

    templates: Mapping[str, frozenset[tuple[str, str]]]
    vote: VoteConfig
    config: Config
    seed: int
    has_integrator: bool = False
    fixed: frozenset[str] = frozenset()
    certified: Certified = field(default_factory=Certified)


class EmptyCandidate(BadRequest):
    """A text to judge is blank. `ask`: the panel's question; its answer is unscored `empty`."""

    def __init__(self, ask: Ask) -> None:
        key = "fields.candidate" if is_blank(ask.record.candidate) else "other"
        super().__init__(f"`{key}` is empty or blank.", code="invalid_value", key=key)
        self.ask = ask


def to_ask(body: JudgeBody, offer: Offer) -> Ask:
    """The panel's question. Raises BadRequest, EmptyCandidate, and NotCertified where a certificate is required."""
    if sum(map(len, (*body.fields.values(), body.other or ""))) > offer.config.max_text_chars:
        limit = offer.config.max_text_chars
        message = f"The texts have more than {limit:,} characters in total."
        raise BadRequest(message, code="too_long", key="fields")
    judges = body.options.judges or list(offer.templates)
    if any(name not in offer.templates for name in judges):
        raise BadRequest("Unknown judge. GET /v1/judges lists them.", code="unknown_judge", key="options.judges")
    if body.other is not None or body.rubric:
        judges = _without_fixed(judges, body, offer)
    if len(set(judges)) != len(judges):
        raise BadRequest("Duplicate judge in `options.judges`.", code="duplicate_id", key="options.judges")
    task = _task(body, offer) if body.task else None
    aspects = tuple(body.aspects or ((next(iter(task.aspects)),) if task else (FREE_ASPECT,)))
    if task is not None:
        judges = _able(judges, body, aspects, offer)
    min_votes = body.options.min_votes or min(offer.vote.min_votes, len(judges))
    if min_votes > len(judges):
        message = f"`options.min_votes` must be at most the number of judges, {len(judges)}."
        raise BadRequest(message, code="conflict", key="options.min_votes")
    rule = body.options.vote or offer.vote.rule
    if rule == "majority" and body.other is not None:
        message = "`options.vote` must be `mean` or `median` where two texts are compared."
        raise BadRequest(message, code="conflict", key="options.vote")
    ask = Ask(
        _record(body),
        aspects,
        other=body.other,
        templates=_free(body, aspects[0]) if task is None else {},
        judges=tuple(judges),
        rule=rule,
        min_votes=min_votes,
        with_examples=body.options.examples,
        integrate=body.options.integrate and offer.has_integrator,
        seed=offer.seed if body.options.seed is None else body.options.seed,
        timeout_s=min(body.options.timeout_s or offer.config.timeout_s, offer.config.timeout_s),
    )
    if offer.config.require_certificate:
        _check_certified(ask, offer.certified)
    if ask.has_blank:
        raise EmptyCandidate(ask)
    return ask


def to_count(body: JudgeBody, offer: Offer) -> Ask:
    """As `to_ask`, but a blank text is a question too: the panel queries no judge about it."""
    try:
        return to_ask(body, offer)
    except EmptyCandidate as error:
        return error.ask


def _check_certified(ask: Ask, certified: Certified) -> None:
    """Raises NotCertified."""
    if ask.templates:
        raise NotCertified("A custom rubric cannot be certified.", code=NOT_CERTIFIED, key="rubric")
    missing = [aspect for aspect in ask.aspects if not certified.answer(ask, aspect)]
    if missing:
        who = "panel" if len(ask.judges) > 1 else "judge"
        what = "" if ask.other is None else "comparisons by "
        message = f"This {who} is not certified for {what}{', '.join(missing)}. GET /v1/judges lists its certificates."
        raise NotCertified(message, code=NOT_CERTIFIED, key="aspects")


def _task(body: JudgeBody, offer: Offer) -> Task:
    served = {task for pairs in offer.templates.values() for task, _ in pairs}
    if body.task not in served:
        raise BadRequest("Unknown task. GET /v1/judges lists them.", code="unknown_task", key="task")
    task = load_task(body.task)
    if any(aspect not in task.aspects for aspect in body.aspects or ()):
        message = f"Unknown aspect. The task's aspects are {', '.join(task.aspects)}."
        raise BadRequest(message, code="unknown_aspect", key="aspects")
    names = [field.name for field in task.fields]
    if any(name not in names for name in body.fields):
        message = f"Unknown field. The task's fields are {', '.join(names)}."
        raise BadRequest(message, code="unknown_key", key="fields")
    if "source" in names and "source" not in body.fields:
        message = "`fields.source` is missing: the text that the candidate answers or is derived from."
        raise BadRequest(message, code="missing_key", key="fields")
    return task


def _able(judges: Sequence[str], body: JudgeBody, aspects: Sequence[str], offer: Offer) -> list[str]:
    """The judges that can judge these aspects; it is an error where the client named one that cannot."""
    wanted = {(body.task or "", aspect) for aspect in aspects}
    able = [name for name in judges if wanted <= offer.templates[name]]
    if not able or (body.options.judges and len(able) < len(judges)):
        message = "A judge has no prompt for this task and aspect. GET /v1/judges lists what each judge supports."
        raise BadRequest(message, code="unknown_prompt", key="options.judges")
    return able


def _without_fixed(judges: Sequence[str], body: JudgeBody, offer: Offer) -> list[str]:
    """The judges that can follow another prompt; it is an error where the client named one that cannot."""
    left = [name for name in judges if name not in offer.fixed]
    if not left or (body.options.judges and len(left) < len(judges)):
        message = "Fitted judges and text features rate one text by the task's aspects. Choose other judges."
        raise BadRequest(message, code="unsupported", key="options.judges")
    return left


def _record(body: JudgeBody) -> Record:
    texts = dict(body.fields)
    rubric = body.rubric
    if rubric is not None:
        texts["rubric"] = rubric if isinstance(rubric, str) else rubric_text(rubric.criteria, rubric.descriptions())
    candidate, source = texts.pop("candidate"), texts.pop("source", "")
    id = content_id(source, candidate, *texts.values())
    return Record(id, body.task or "", f"request-{id}", source, candidate, fields=texts)


def _free(body: JudgeBody, aspect: str) -> dict[str, Template]:
    """The template for the client's rubric: its further texts in the order given, the candidate last."""
    others = tuple(
        FieldSpec(name=name, title=name.replace("_", " ").capitalize()) for name in body.fields if name != "candidate"
    )
    if body.other is not None:
        return {aspect: pair_template(None, aspect, others)}
    # Prometheus' rubrics range from 1 to 5, whichever of the scores they describe.
    return {aspect: free_template(aspect, FREE_SCALE, (*others, FieldSpec(name="candidate", title="Text to judge")))}


def judgement(
    body: JudgeBody, ask: Ask, answers: Sequence[Judged], versions: Mapping[str, Any], certified: Certified
) -> Judgement:
    """The response body.

    Args:
        body: the request.
        ask: the question made of it.
        answers: the panel's, one for each of the question's aspects.
        versions: fingerprints of code, models and retriever.
        certified: the certificates that are valid for what is served.
    """
    with_thoughts = body.options.reasoning
    results = [
        _result(ask, answer, aspect, certified, with_thoughts)
        for answer, aspect in zip(answers, ask.aspects, strict=True)
    ]
    only = results[0] if len(results) == 1 else None
    usage = [vote.usage for result in results for vote in result.votes]
    usage += [result.integrated.usage for result in results if result.integrated]
    templates = {answer.prompt.aspect: answer.prompt.fingerprint for answer in answers}
    return Judgement(
        id=f"judgement-{uuid.uuid4().hex}",
        created=int(time.time()),
        task=body.task,
        mode="absolute" if ask.other is None else "pairwise",
        score=only.score if only else None,
        verdict=only.verdict if only else None,
        quorum=all(result.quorum for result in results),
        degraded=any(result.degraded for result in results),
        certified=all(result.certified for result in results),
        results=results,
        versions={**versions, "templates": templates},
        usage=_usage(*(sum(getattr(one, name) for one in usage) for name in COUNTED)),
    )


def _result(ask: Ask, answer: Judged, aspect: str, certified: Certified, with_thoughts: bool) -> AspectResult:
    scale = (answer.prompt.scale.low, answer.prompt.scale.high) if ask.other is None else (0.0, 1.0)
    score = answer.score.score
    integration = answer.integration
    return AspectResult(
        aspect=aspect if ask.other is None or ask.record.task else PREFERENCE,
        score=score,
        unscored=answer.score.unscored,
        scale=scale,
        verdict=None if score is None else _words(ask, answer.prompt, score),
        votes=[_vote(vote, certified.judge(vote.verdict.judge, ask, aspect), with_thoughts) for vote in answer.votes],
        rule=answer.rule,
        quorum=answer.has_quorum,
        degraded=answer.is_degraded,
        # A panel with a missing vote is not the one that was certified.
        certified=not answer.is_degraded and certified.answer(ask, aspect),
        agreement=_spread([vote.verdict.score for vote in answer.votes if vote.verdict.score is not None]),
        integrated=Integrated(
            model=integration.model,
            score=integration.score,
            reason=integration.reason,
            error=integration.error,
            latency_ms=round(integration.latency_s * 1000, 1),
            usage=_usage(integration.num_prompt_tokens, integration.num_generated_tokens),
        )
        if integration
        else None,
    )


def _words(ask: Ask, prompt: Prompted, score: float) -> str | None:
    if ask.other is not None:
        return winner(score)
    if not ask.record.task:
        return None
    return load_task(ask.record.task).aspects[prompt.aspect].labels.get(int(nearest_label(score, prompt.scale)))


def _vote(given: PanelVote, is_certified: bool, with_thoughts: bool) -> Vote:
    verdict = given.verdict
    return Vote(
        judge=verdict.judge,
        score=verdict.score,
        unscored=verdict.unscored,
        reason=verdict.reason,
        reasoning=verdict.reasoning if with_thoughts else None,
        label_mass=verdict.label_mass,
        interval=verdict.interval,
        novelty=verdict.novelty,
        certified=is_certified,
        is_consistent=given.is_consistent,
        examples=list(given.examples),
        latency_ms=round(given.latency_s * 1000, 1),
        usage=_usage(given.num_prompt_tokens, given.num_generated_tokens, given.num_cached_tokens),
        error=_error(verdict.unscored),
    )


def _error(unscored: str | None) -> str | None:
    """In our words: an engine's error message could hold the judged text, or a path."""
    from judging.records import UNSCORED_REASONS

    return UNSCORED_REASONS[unscored] if unscored else None


def _spread(scores: Sequence[float]) -> Spread:
    if len(scores) < 2:
        return Spread(num_votes=len(scores))
    mean = math.fsum(scores) / len(scores)
    variance = math.fsum((score - mean) ** 2 for score in scores) / len(scores)
    return Spread(num_votes=len(scores), range=max(scores) - min(scores), standard_deviation=math.sqrt(variance))


def _usage(prompt: int, completion: int, cached: int = 0) -> Usage:
    total = prompt + completion
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total, cached_tokens=cached)
