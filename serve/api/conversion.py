"""A body of `/v1/judge` -> what the panel is asked, and the panel's answer -> the body that goes back."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.judges.aggregation import VoteConfig
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

TIE = 0.02  # a preference this near to one half is a tie
COUNTED = ("prompt_tokens", "completion_tokens", "cached_tokens")
FREE_ASPECT, FREE_SCALE = "overall", Scale(1, 5)


@dataclass(frozen=True)
class Offer:
    """What a body is checked against. `templates`: by judge the (task, aspect) pairs that it can judge."""

    templates: Mapping[str, frozenset[tuple[str, str]]]
    vote: VoteConfig
    config: Config
    seed: int
    has_integrator: bool = False
    certified: Certified = field(default_factory=Certified)


class EmptyCandidate(BadRequest):
    """A text to judge is blank. `ask`: what the panel would be asked; its answer is unscored `empty`."""

    def __init__(self, ask: Ask) -> None:
        super().__init__("the text to judge is empty or blank", "fields.candidate")
        self.ask = ask


def to_ask(body: JudgeBody, offer: Offer) -> Ask:
    """Raises BadRequest, EmptyCandidate, and NotCertified where a certificate is required."""
    if sum(map(len, (*body.fields.values(), body.other or ""))) > offer.config.max_text_chars:
        raise BadRequest(f"the texts have more than {offer.config.max_text_chars} characters together", "fields")
    judges = body.options.judges or list(offer.templates)
    if any(name not in offer.templates for name in judges):
        raise BadRequest("there is no such judge: see GET /v1/judges", "options.judges")
    if len(set(judges)) != len(judges):
        raise BadRequest("one judge stands twice", "options.judges")
    task = _task(body, offer) if body.task else None
    aspects = tuple(body.aspects or ((next(iter(task.aspects)),) if task else (FREE_ASPECT,)))
    if task is not None:
        judges = _able(judges, body, aspects, offer)
    min_votes = body.options.min_votes or min(offer.vote.min_votes, len(judges))
    if min_votes > len(judges):
        raise BadRequest("more votes are demanded than judges are asked", "options.min_votes")
    rule = body.options.vote or offer.vote.rule
    if rule == "majority" and body.other is not None:
        raise BadRequest("two texts are compared by mean or median", "options.vote")
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
    """As `to_ask`, for answers in which a blank text is counted: the panel asks no judge about it."""
    try:
        return to_ask(body, offer)
    except EmptyCandidate as error:
        return error.ask


def _check_certified(ask: Ask, certified: Certified) -> None:
    """Raises NotCertified."""
    if ask.templates or ask.other is not None:
        what = "a rubric of your own" if ask.templates else "a comparison of two texts"
        raise NotCertified(f"{what} cannot be certified", "rubric" if ask.templates else "other")
    missing = [aspect for aspect in ask.aspects if not certified.answer(ask, aspect)]
    if missing:
        who = "this panel" if len(ask.judges) > 1 else "this judge"
        raise NotCertified(f"{who} is not certified for {', '.join(missing)}: see GET /v1/judges", "aspects")


def _task(body: JudgeBody, offer: Offer) -> Task:
    served = {task for pairs in offer.templates.values() for task, _ in pairs}
    if body.task not in served:
        raise BadRequest("there is no such task: see GET /v1/judges", "task")
    task = load_task(body.task)
    if any(aspect not in task.aspects for aspect in body.aspects or ()):
        raise BadRequest(f"the task has no such aspect: it has {', '.join(task.aspects)}", "aspects")
    names = [field.name for field in task.fields]
    if any(name not in names for name in body.fields):
        raise BadRequest(f"the task has no such field: it has {', '.join(names)}", "fields")
    if "source" in names and "source" not in body.fields:
        raise BadRequest("the field `source` is missing: what the candidate answers or is made of", "fields")
    return task


def _able(judges: Sequence[str], body: JudgeBody, aspects: Sequence[str], offer: Offer) -> list[str]:
    """The judges that can judge these aspects; a judge that was named and cannot is an error."""
    wanted = {(body.task or "", aspect) for aspect in aspects}
    able = [name for name in judges if wanted <= offer.templates[name]]
    if not able or (body.options.judges and len(able) < len(judges)):
        raise BadRequest("a judge has no prompt for this task and aspect: see GET /v1/judges", "options.judges")
    return able


def _record(body: JudgeBody) -> Record:
    texts = dict(body.fields)
    rubric = body.rubric
    if rubric is not None:
        texts["rubric"] = rubric if isinstance(rubric, str) else rubric_text(rubric.criteria, rubric.descriptions())
    candidate, source = texts.pop("candidate"), texts.pop("source", "")
    id = content_id(source, candidate, *texts.values())
    return Record(id, body.task or "", f"request-{id}", source, candidate, fields=texts)


def _free(body: JudgeBody, aspect: str) -> dict[str, Template]:
    """The template for a rubric of the client's own: its further texts in the order given, the candidate last."""
    others = tuple(
        FieldSpec(name=name, title=name.replace("_", " ").capitalize()) for name in body.fields if name != "candidate"
    )
    if body.other is not None:
        return {aspect: pair_template(None, aspect, others)}
    # Prometheus' rubrics go from 1 to 5, whichever of the scores they describe.
    return {aspect: free_template(aspect, FREE_SCALE, (*others, FieldSpec(name="candidate", title="Text to judge")))}


def judgement(
    body: JudgeBody, ask: Ask, answers: Sequence[Judged], versions: Mapping[str, Any], certified: Certified
) -> Judgement:
    """The body of the answer."""
    results = [_result(ask, answer, aspect, certified) for answer, aspect in zip(answers, ask.aspects, strict=True)]
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


def _result(ask: Ask, answer: Judged, aspect: str, certified: Certified) -> AspectResult:
    scale = (answer.prompt.scale.low, answer.prompt.scale.high) if ask.other is None else (0.0, 1.0)
    score = answer.score.score
    told = answer.integration
    return AspectResult(
        aspect=aspect if ask.other is None or ask.record.task else PREFERENCE,
        score=score,
        unscored=answer.score.unscored,
        scale=scale,
        verdict=None if score is None else _words(ask, answer.prompt, score),
        votes=[_vote(vote, certified.judge(vote.verdict.judge, ask, aspect)) for vote in answer.votes],
        rule=answer.rule,
        quorum=answer.has_quorum,
        degraded=answer.is_degraded,
        # A panel that lacks a vote is not the one that was tested.
        certified=not answer.is_degraded and certified.answer(ask, aspect),
        agreement=_spread([vote.verdict.score for vote in answer.votes if vote.verdict.score is not None]),
        integrated=Integrated(
            model=told.model,
            score=told.score,
            reason=told.reason,
            error=told.error,
            latency_ms=round(told.latency_s * 1000, 1),
            usage=_usage(told.num_prompt_tokens, told.num_generated_tokens),
        )
        if told
        else None,
    )


def _words(ask: Ask, prompt: Prompted, score: float) -> str | None:
    if ask.other is not None:
        return "tie" if abs(score - 0.5) <= TIE else "second" if score > 0.5 else "first"
    if not ask.record.task:
        return None
    return load_task(ask.record.task).aspects[prompt.aspect].labels.get(int(nearest_label(score, prompt.scale)))


def _vote(given: PanelVote, is_certified: bool) -> Vote:
    verdict = given.verdict
    return Vote(
        judge=verdict.judge,
        score=verdict.score,
        unscored=verdict.unscored,
        reason=verdict.reason,
        label_mass=verdict.label_mass,
        certified=is_certified,
        is_consistent=given.is_consistent,
        examples=list(given.examples),
        latency_ms=round(given.latency_s * 1000, 1),
        usage=_usage(given.num_prompt_tokens, given.num_generated_tokens, given.num_cached_tokens),
        error=_error(verdict.unscored),
    )


def _error(unscored: str | None) -> str | None:
    """In our words: an engine's own could hold the text that was judged, or a path."""
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
