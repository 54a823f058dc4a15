"""Integrator: one model reads all judges' scores and reasons and gives the final score.

Source: PanguIR at NTCIR-18 AEOLLM. The judges are anonymised as letters in an order shuffled by the seed, so that
neither name nor position matters. If the model fails, the aggregated score is kept.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from cluster.engine import Engine
from cluster.exchange import Reply, Request
from cluster.strict import Strict
from evaluation.judges.judge_config import FEATURE
from judging.parse import UNFINISHED, parse_reply
from judging.records import Record, Verdict, seed_of
from judging.tasks import FieldSpec
from judging.template import Template, texts_for

JUDGEMENTS = FieldSpec(name="judgements", title="Judgements")


class IntegratorConfig(Strict):
    """The model that reads every judge's score and reason and gives the final score."""

    model: str = Field(description="a name under `models`")
    max_tokens: int = Field(
        200, ge=16, description="maximum length of a reply; a truncated reply falls back to the aggregated score"
    )
    temperature: float = Field(0.0, ge=0, le=2)

    @property
    def is_sampled(self) -> bool:
        """Whether its replies are drawn, each with a seed of its own."""
        return self.temperature > 0


@dataclass(frozen=True)
class Integration:
    """`score` in points of the aspect's scale, or None with `error`: then the aggregated score is kept."""

    model: str
    score: float | None
    reason: str | None = None
    error: str | None = None
    latency_s: float = 0.0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0


@dataclass(frozen=True)
class Integrator:
    config: IntegratorConfig
    engine: Engine
    special_tokens: tuple[str, ...] = ()

    async def integrate(
        self, record: Record, template: Template, verdicts: Sequence[Verdict], *, seed: int, timeout_s: float
    ) -> Integration:
        """The final score of the record on the template's aspect, from the verdicts that have a score.

        Args:
            record: the record.
            template: of the task and aspect.
            verdicts: of all judges.
            seed: of the judges' order and of sampling.
            timeout_s: of the request, in seconds.
        """
        began = time.monotonic()
        columns = integration_request(record, template, verdicts, seed=seed, special_tokens=self.special_tokens)
        request = Request(
            columns["prompt"],
            json_schema=columns["json_schema"],
            max_tokens=self.config.max_tokens,
            temperature=self.config.temperature,
            seed=seed_of(seed, columns["prompt"]) if self.config.is_sampled else seed,
        )
        try:
            reply = await asyncio.wait_for(self.engine.generate(request), timeout_s)
        except TimeoutError:
            reply = Reply(error="timeout")
        score, reason, error = integration_score(template, reply.text, reply.error or "", reply.finish_reason)
        return Integration(
            self.config.model,
            score,
            reason,
            error,
            time.monotonic() - began,
            reply.num_prompt_tokens,
            reply.num_generated_tokens,
        )


def integration_request(
    record: Record,
    template: Template,
    verdicts: Sequence[Verdict],
    *,
    seed: int,
    special_tokens: Sequence[str] = (),
) -> dict[str, Any]:
    """The request to the integrating model: the columns that cluster.generate reads.

    Args:
        record: the record.
        template: of the task and aspect.
        verdicts: of all judges.
        seed: of the judges' order.
        special_tokens: of the model; removed from the texts.
    """
    scale = template.scale
    shown = (*template.fields, JUDGEMENTS)
    blocks = "".join(f"{f.title}:\n<{f.name}>\n{{{{{f.name}}}}}\n</{f.name}>\n" for f in shown).rstrip()
    text = (
        f"Several judges have rated the {template.aspect} of the text below with {scale.in_words()}. "
        "You read the text, their scores and their reasons, weigh the reasons, and give the final "
        f"score.\n\n{{{{reply_format}}}}\n\n{blocks}"
    )
    whole = Template(text, template.task, template.aspect, scale, shown, origin="integrator")
    texts = {**texts_for(record, template), JUDGEMENTS.name: judgements(verdicts, seed, record.id)}
    prompt = whole.render(texts, mode="parsed", special_tokens=special_tokens)
    return {"prompt": prompt.text, "reply_prefix": "", "labels": [], "json_schema": whole.reply_schema()}


def judgements(verdicts: Sequence[Verdict], seed: int, key: str) -> str:
    """Scores and reasons under letters, in an order shuffled by seed and record; missing scores are left out.

    Text features follow without a letter, as what was measured: they are no judge's opinion.

    Args:
        verdicts: of all judges.
        seed: of the order.
        key: the record's id.
    """
    known = sorted((one for one in verdicts if one.score is not None), key=lambda one: one.judge)
    scored = [one for one in known if one.mode != FEATURE]
    random.Random(f"{seed}/{key}").shuffle(scored)
    lines = []
    for index, one in enumerate(scored):
        reason = f" Reason: {' '.join(one.reason.split())}" if one.reason else " No reason given."
        lines.append(f"Judge {chr(ord('A') + index)}: {one.score:.2f}.{reason}")
    lines += [f"Measured: {one.reason}." for one in known if one.mode == FEATURE]
    return "\n".join(lines)


def integration_score(
    template: Template, text: str, error: str, finish_reason: str
) -> tuple[float | None, str | None, str | None]:
    """Score, reason and error of the integrating model's reply.

    Args:
        template: of the task and aspect.
        text: the reply.
        error: of the request; empty where there is none.
        finish_reason: of the reply.
    """
    if error:
        return None, None, error
    if finish_reason in UNFINISHED:
        return None, None, UNFINISHED[finish_reason]
    score, unscored, reason = parse_reply(text, template.aspect, template.scale)
    return score, reason, unscored
