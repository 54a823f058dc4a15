"""One judge: a model, a prompt for each task and aspect, in-context examples, and how its reply becomes a verdict.

Batch and online use this class alike. It renders requests and reads replies; asking the model is the engine's part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cluster.config import Strict
from evaluation.judges.few_shot import IclConfig, shown
from evaluation.judges.prompt_sources import RUBRIC, Prompts, Templates
from judging.errors import InputError
from judging.expected import expected_score
from judging.parse import UNFINISHED, parse_reply
from judging.records import Record, Scale, ScoreMode, Verdict
from judging.template import texts_for


class JudgeConfig(Strict):
    """A judge as the configuration names it."""

    model: str = Field(description="a name under `models`")
    score_mode: Literal["expected", "parsed"] = Field(
        "expected",
        description="expected: from the labels' probabilities, one token; parsed: from a JSON reply with a reason",
    )
    prompt: str = Field(
        RUBRIC,
        min_length=1,
        description="rubric: the task file's own; inverse, forward: what `inverdict invert` left for the model, from "
        "its inversion or its forward model; optimised: what `inverdict optimise` left; or a template file or folder",
    )
    examples: tuple[str, ...] = Field((), description="ids in data.pool, shown in this order, each for its own task")
    icl: IclConfig | None = Field(None, description="examples found for each record, instead of the same for all")
    min_label_mass: float = Field(
        0.01, ge=0, lt=1, description="less probability on the labels: unscored low_label_mass"
    )
    max_tokens: int = Field(200, ge=16, description="longest parsed reply; a longer one is unscored cut_off")
    temperature: float = Field(0.0, ge=0, le=2, description="of parsed replies")
    not_systems: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="patterns of record.system (`qwen*`, upper and lower case alike) whose texts it does not judge, "
        "such as those of its own family: unscored own_family, without asking the model",
    )

    @model_validator(mode="after")
    def _one_kind_of_examples(self) -> JudgeConfig:
        if self.icl is not None and self.examples:
            raise ValueError("examples and icl: the examples are either named or found; keep one of the two")
        return self


@dataclass(frozen=True)
class Judge:
    """`templates` and `examples` are keyed by (task, aspect); `pool`: the records that a retriever may name."""

    name: str
    mode: ScoreMode
    templates: Templates
    examples: Mapping[tuple[str, str], Sequence[Record]] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()
    min_label_mass: float = 0.01
    pool: Mapping[str, Record] = field(default_factory=dict)
    not_systems: tuple[str, ...] = ()

    def request(self, record: Record, aspect: str, found: Sequence[str] | None = None) -> dict[str, Any]:
        """The columns that cluster.generate reads, for one record and aspect.

        `found`: ids in `pool` of the examples that a retriever found for it; None: those of the configuration.
        """
        template = self.templates[record.task, aspect]
        named = self.examples.get((record.task, aspect), ()) if found is None else [self.pool[id] for id in found]
        # An example never serves its own record or group.
        examples = [
            shown(example, template)
            for example in named
            if example.id != record.id and example.group_key != record.group_key
        ]
        texts = texts_for(record, template)
        prompt = template.render(texts, mode=self.mode, examples=examples, special_tokens=self.special_tokens)
        return {
            "prompt": prompt.text,
            "reply_prefix": prompt.reply_prefix,
            "labels": list(template.scale.labels()) if self.mode == "expected" else [],
            "json_schema": "" if self.mode == "expected" else template.reply_schema(),
        }

    def verdict(self, task: str, aspect: str, reply: Mapping[str, Any]) -> Verdict:
        """The verdict in a row of cluster.generate's output columns; `score` in points of the template's scale."""
        scale = self.templates[task, aspect].scale
        if reply["error"]:
            return self._unscored(aspect, reply["error"], reply["detail"])
        if unfinished := UNFINISHED.get(reply["finish_reason"]):
            return self._unscored(aspect, unfinished, _words(reply))
        if self.mode == "expected":
            return self._expected(aspect, scale, reply)
        score, unscored, reason = parse_reply(reply["reply"], aspect, scale)
        return Verdict(
            self.name, aspect, score, self.mode, unscored, reason, detail=reply["reply"] if unscored else None
        )

    def _expected(self, aspect: str, scale: Scale, reply: Mapping[str, Any]) -> Verdict:
        logprobs = [None if math.isnan(value) else value for value in reply["label_logprobs"]]
        if not logprobs:
            return self._unscored(aspect, "no_logprobs", reply["detail"])
        told = expected_score(logprobs, scale)
        if told.score is None and reply["detail"]:
            return self._unscored(aspect, "unparsed", reply["detail"])
        if told.score is None or told.label_mass < self.min_label_mass:
            return Verdict(self.name, aspect, None, self.mode, unscored="low_label_mass", label_mass=told.label_mass)
        return Verdict(
            self.name,
            aspect,
            told.score,
            self.mode,
            label_mass=told.label_mass,
            label_probabilities=told.probabilities,
        )

    def _unscored(self, aspect: str, reason: str, detail: str) -> Verdict:
        return Verdict(self.name, aspect, None, self.mode, unscored=reason, detail=detail or None)


def _words(reply: Mapping[str, Any]) -> str:
    """What the endpoint says of how the reply ended, and the reply."""
    return ": ".join(filter(None, (reply["detail"], reply["reply"])))


def build_judge(
    name: str,
    config: JudgeConfig,
    wanted: Iterable[tuple[str, str]],
    pool: Mapping[str, Record],
    special_tokens: tuple[str, ...],
    prompts: Prompts | None = None,
) -> Judge:
    """The judge for the (task, aspect) pairs of `wanted`; `prompts`: what its `prompt` means, needed but for rubrics.

    Raises InputError where a template or an example does not fit.
    """
    assert prompts is not None or config.prompt == RUBRIC
    asked = prompts or Prompts(name)
    keys = list(wanted)
    unknown = [id for id in config.examples if id not in pool]
    if unknown:
        raise InputError(f"evaluate.judges.{name}.examples: data.pool holds no record with the id {unknown[0]!r}")
    chosen = [pool[id] for id in config.examples]
    templates = {key: asked.template(*key) for key in keys}
    for (task, aspect), template in templates.items():
        if config.score_mode == "expected" and template.scale.step != 1:
            raise InputError(
                f"evaluate.judges.{name}: {task}/{aspect} is rated with {template.scale.in_words()}, and labels are "
                "whole numbers: set score_mode: parsed"
            )
    return Judge(
        name=name,
        mode=config.score_mode,
        templates=templates,
        examples={
            (task, aspect): [r for r in chosen if r.task == task and aspect in r.scores] for task, aspect in keys
        },
        special_tokens=special_tokens,
        min_label_mass=config.min_label_mass,
        pool=pool if config.icl else {},
        not_systems=config.not_systems,
    )
