"""One judge: renders its prompt for a text, with few-shot examples, and parses the reply as a verdict.

Batch, online and training share this class. It builds requests and parses replies; engines run the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from judging.expected import expected_score
from judging.fitted.regression import Regression
from judging.parse import UNFINISHED, parse_reply
from judging.records import Record, Scale, ScoreMode, Verdict
from judging.template import Template, Templates, texts_for
from judging.text_features import measure

MIN_LABEL_MASS = 0.01
# The columns of cluster.generate from which a verdict is read.
REPLY_COLUMNS = ("reply", "finish_reason", "label_logprobs", "error", "detail")


@dataclass(frozen=True)
class Judge:
    """`templates` and `examples` are keyed by (task, aspect); `pool`: the records that a retriever may return.

    `min_label_mass`: with less probability mass on the labels the judge abstains. `regressions`: of a fitted judge, by
    (task, aspect); it renders the prompt of the mode `expected`.
    """

    name: str
    mode: ScoreMode
    templates: Templates
    examples: Mapping[tuple[str, str], Sequence[Record]] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()
    min_label_mass: float = MIN_LABEL_MASS
    pool: Mapping[str, Record] = field(default_factory=dict)
    not_systems: tuple[str, ...] = ()
    regressions: Mapping[tuple[str, str], Regression] = field(default_factory=dict)

    @property
    def prompt_mode(self) -> ScoreMode:
        """The mode that its prompt is rendered for: a fitted judge reads the prompt of the mode `expected`."""
        return "parsed" if self.mode == "parsed" else "expected"

    @property
    def is_fixed(self) -> bool:
        """Whether it rates one text by its own prompt alone: comparisons and custom rubrics are not for it."""
        return self.mode in ("fitted", "feature")

    @staticmethod
    def of(template: Template, special_tokens: Sequence[str] = ()) -> Judge:
        """A judge with this one template that scores by label probabilities."""
        templates = {(template.task, template.aspect): template}
        return Judge("", "expected", templates, special_tokens=tuple(special_tokens))

    def request(self, record: Record, aspect: str, found: Sequence[str] | None = None) -> dict[str, Any]:
        """The input columns of cluster.generate for one record and aspect.

        Args:
            record: the text to judge; its task must have a template for `aspect`.
            aspect: what is rated.
            found: ids in `pool` of the retrieved examples; None: the examples of the configuration.
        """
        template = self.templates[record.task, aspect]
        if self.mode == "feature":
            both = json.dumps({"source": record.source, "candidate": record.candidate})
            return {"prompt": both, "reply_prefix": "", "labels": [], "json_schema": ""}
        named = self.examples.get((record.task, aspect), ()) if found is None else [self.pool[id] for id in found]
        # A record is never its own example, and neither is another record of its group.
        examples = [
            shown(example, template)
            for example in named
            if example.id != record.id and example.group_key != record.group_key
        ]
        texts = texts_for(record, template)
        prompt = template.render(texts, mode=self.prompt_mode, examples=examples, special_tokens=self.special_tokens)
        return {
            "prompt": prompt.text,
            "reply_prefix": prompt.reply_prefix,
            "labels": [] if self.mode == "parsed" or template.scale.step != 1 else list(template.scale.labels()),
            "json_schema": template.reply_schema() if self.mode == "parsed" else "",
        }

    def verdict(self, task: str, aspect: str, reply: Mapping[str, Any]) -> Verdict:
        """The verdict in a row of cluster.generate's output.

        Args:
            task: the record's task.
            aspect: the aspect that was rated.
            reply: the columns `REPLY_COLUMNS`, of a reasoning model `reasoning`, and of a fitted judge `hidden_state`.

        Returns:
            The verdict, its `score` in points of the template's scale.
        """
        found = self._verdict(task, aspect, reply)
        thought = reply.get("reasoning")
        return replace(found, reasoning=thought) if thought else found

    def _verdict(self, task: str, aspect: str, reply: Mapping[str, Any]) -> Verdict:
        scale = self.templates[task, aspect].scale
        if reply["error"]:
            return self._unscored(aspect, reply["error"], reply["detail"])
        if self.mode == "fitted":
            return self._fitted(task, aspect, scale, reply["hidden_state"])
        if self.mode == "feature":
            return self._feature(aspect, scale, json.loads(reply["reply"]))
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
        expected = expected_score(logprobs, scale)
        if expected.score is None and reply["detail"]:
            return self._unscored(aspect, "unparsed", reply["detail"])
        if expected.score is None or expected.label_mass < self.min_label_mass:
            return Verdict(
                self.name, aspect, None, self.mode, unscored="low_label_mass", label_mass=expected.label_mass
            )
        return Verdict(
            self.name,
            aspect,
            expected.score,
            self.mode,
            label_mass=expected.label_mass,
            label_probabilities=expected.probabilities,
        )

    def _feature(self, aspect: str, scale: Scale, asked: Mapping[str, Any]) -> Verdict:
        value = measure(**asked)
        if value is None:
            return Verdict(self.name, aspect, None, self.mode, "no_source")
        reason = f"text feature {asked['feature']}: {value:.3f}"
        return Verdict(self.name, aspect, scale.low + value * scale.width, self.mode, reason=reason)

    def _fitted(self, task: str, aspect: str, scale: Scale, hidden: Sequence[float]) -> Verdict:
        regression = self.regressions[task, aspect]
        found = regression.read(hidden)
        if found is None:
            return self._unscored(aspect, "error", f"the hidden state of {len(hidden)} numbers is not that of the fit")
        if regression.is_unlike(found.novelty):
            detail = f"novelty {found.novelty:.3f}, the limit is {regression.max_novelty}"
            return Verdict(self.name, aspect, None, self.mode, "unlike_training", detail=detail, novelty=found.novelty)
        score, low, high = (regression.scale.rescale(value, scale) for value in found[:3])
        return Verdict(self.name, aspect, score, self.mode, interval=(low, high), novelty=found.novelty)

    def _unscored(self, aspect: str, reason: str, detail: str) -> Verdict:
        return Verdict(self.name, aspect, None, self.mode, unscored=reason, detail=detail or None)


def _words(reply: Mapping[str, Any]) -> str:
    """How the reply ended according to the endpoint, and the reply."""
    return ": ".join(filter(None, (reply["detail"], reply["reply"])))


def shown(example: Record, template: Template) -> tuple[dict[str, str], float]:
    """An example as a template renders it: its texts, and its human score in points of the template's scale."""
    return texts_for(example, template), example.score_on(template.aspect, template.scale)
