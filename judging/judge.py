"""One judge: renders its prompt for a text, with in-context examples, and reads the reply as a verdict. Pure.

Batch, online and training use this class alike. It renders requests and reads replies; asking the model is an engine's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from judging.expected import expected_score
from judging.parse import UNFINISHED, parse_reply
from judging.records import Record, Scale, ScoreMode, Verdict
from judging.template import Template, Templates, texts_for

MIN_LABEL_MASS = 0.01
# The columns of cluster.generate that a verdict is read from.
REPLY_COLUMNS = ("reply", "finish_reason", "label_logprobs", "error", "detail")


@dataclass(frozen=True)
class Judge:
    """`templates` and `examples` are keyed by (task, aspect); `pool`: the records that a retriever may name.

    `min_label_mass`: with less probability on the labels the judge abstains, wherever it is asked.
    """

    name: str
    mode: ScoreMode
    templates: Templates
    examples: Mapping[tuple[str, str], Sequence[Record]] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()
    min_label_mass: float = MIN_LABEL_MASS
    pool: Mapping[str, Record] = field(default_factory=dict)
    not_systems: tuple[str, ...] = ()

    @staticmethod
    def of(template: Template, special_tokens: Sequence[str] = ()) -> Judge:
        """A judge that asks for the labels' probabilities with this one template."""
        templates = {(template.task, template.aspect): template}
        return Judge("", "expected", templates, special_tokens=tuple(special_tokens))

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


def shown(example: Record, template: Template) -> tuple[dict[str, str], float]:
    """An example as a template renders it: its texts, and its human score in points of the template's scale."""
    return texts_for(example, template), example.score_on(template.aspect, template.scale)
