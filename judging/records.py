"""The data types of a judgement: scale, record, verdict, score. Immutable, without I/O.

A `Record` is one candidate text with its source and, where it was rated, its human scores.
A `Verdict` is one judge's result for one aspect of one record; a `Score` is the aggregation of several verdicts.
A failed judgement is a value too: `score` is None and `unscored` holds the reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ScoreMode = Literal["expected", "parsed", "fitted", "feature", "integrated"]

# Why a verdict or a score is missing. The report counts each by name.
UNSCORED_REASONS = {
    "unparsed": "no score found in the reply in the expected format",
    "off_scale": "the reply's score lies outside the scale",
    "ambiguous": "the reply holds more than one score",
    "cut_off": "the reply was cut off at max_tokens or inside the model's thinking",
    "filtered": "the endpoint's content filter stopped the reply, or the model refused",
    "unfinished": "the reply did not end with a stop token",
    "low_label_mass": "the probability mass on the labels of the scale is too small",
    "no_logprobs": "the endpoint returned no log-probabilities (logprobs); set score_mode: parsed",
    "unlike_training": "the text is too unlike the labelled texts that the fitted judge learned from",
    "no_source": "the text feature compares with the source, and there is none",
    "empty": "the candidate is empty or blank",
    "other_fields": "the two texts of the pair were written for different further texts, such as another fact",
    "too_long": "the prompt does not fit the model's context",
    "timeout": "the model did not answer in time",
    "error": "the model or its server failed",
    "not_asked": "the first judge of the cascade was certain, so the others were not queried",
    "own_family": "the judge does not judge texts of its own model family",
    "no_quorum": "fewer judges returned a score than min_votes requires",
    "no_majority": "no label has more than half of the votes",
}


STEPS = (1, 0.5, 0.25, 0.1, 0.05)


@dataclass(frozen=True, slots=True)
class Scale:
    """Lowest and highest possible score, both included, in points."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"a scale must go from a lower to a higher finite number, not from {self.low} to {self.high}"
            )

    @property
    def width(self) -> float:
        return self.high - self.low

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def labels(self) -> tuple[str, ...]:
        """The whole numbers of the scale as a judge writes them, such as ("1", "2", "3", "4", "5")."""
        return tuple(str(value) for value in range(math.ceil(self.low), math.floor(self.high) + 1))

    @property
    def step(self) -> float:
        """The distance between possible scores: 1 where both ends are whole, else the largest of STEPS that fits."""
        ends = (self.low, self.high)
        return next((step for step in STEPS if all(math.isclose(end / step, round(end / step)) for end in ends)), 0.01)

    def answers(self) -> tuple[str, ...]:
        """The possible scores as a judge writes them: the labels, or on another scale ("0.5", "1", ...)."""
        if self.step == 1:
            return self.labels()
        return tuple(f"{self.low + place * self.step:.10g}" for place in range(round(self.width / self.step) + 1))

    def in_words(self) -> str:
        """The scale in a prompt: "a whole number from 1 to 5", "a number from 0.5 to 5 in steps of 0.5"."""
        ends = f"from {self.low:g} to {self.high:g}"
        return f"a whole number {ends}" if self.step == 1 else f"a number {ends} in steps of {self.step:g}"

    def rescale(self, value: float, to: Scale) -> float:
        """`value` mapped linearly from this scale to the scale `to`; the ends map to the ends."""
        return value if to == self else to.low + (value - self.low) / self.width * to.width


@dataclass(frozen=True, slots=True)
class Record:
    """One candidate text, its source, and its human scores.

    `group` names the source: candidates of one group answer the same source and can be compared.
    `fields` holds further named texts (`fact`, `reference`, ...) that a task's template may use.
    `scores`, `scales` and `ratings` are keyed by aspect; `ratings` holds the single raters' scores (None: no rating).
    """

    id: str
    task: str
    group: str
    source: str
    candidate: str
    system: str = ""
    dataset: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    ratings: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def to_row(self) -> dict[str, str]:
        """A flat row of strings (one Arrow schema for every task); `Record.from_row` reads it back."""
        return {
            "id": self.id,
            "task": self.task,
            "group": self.group,
            "system": self.system,
            "dataset": self.dataset,
            "source": self.source,
            "candidate": self.candidate,
            "fields": json.dumps(dict(self.fields), ensure_ascii=False),
            "scores": json.dumps(dict(self.scores)),
            "scales": json.dumps({aspect: [scale.low, scale.high] for aspect, scale in self.scales.items()}),
            "ratings": json.dumps({aspect: list(ratings) for aspect, ratings in self.ratings.items()}),
        }

    @staticmethod
    def from_row(row: Mapping[str, str]) -> Record:
        return Record(
            **{name: row[name] for name in ("id", "task", "group", "system", "dataset", "source", "candidate")},
            fields=json.loads(row["fields"]),
            scores=json.loads(row["scores"]),
            scales={aspect: Scale(*ends) for aspect, ends in json.loads(row["scales"]).items()},
            ratings={aspect: tuple(ratings) for aspect, ratings in json.loads(row["ratings"]).items()},
        )

    def score_on(self, aspect: str, scale: Scale) -> float:
        """The human score for `aspect`, in points of `scale`."""
        return self.scales[aspect].rescale(self.scores[aspect], scale)

    @property
    def text_hash(self) -> str:
        """Hash of source and candidate that ignores case, punctuation and white space: near copies have the same."""
        texts = (unicodedata.normalize("NFC", text).casefold() for text in (self.source, self.candidate))
        return content_id(*("".join(filter(str.isalnum, text)) for text in texts))

    @property
    def group_key(self) -> str:
        """Unique in a run, whereas `group` is unique within a task and data set only."""
        return f"{self.task}/{self.dataset}/{self.group}"


def content_id(*parts: str) -> str:
    """16 hexadecimal digits from the content: the same text has the same id in every run and file."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:16]


def seed_of(seed: int, *names: str) -> int:
    """The seed of one sampled request: with one seed for all, requests draw the same random numbers, token by token.

    Args:
        seed: of the run.
        names: identify the request, whichever block or batch it is in.
    """
    return int(content_id(str(seed), *names)[:7], 16)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge's result for one aspect of one record.

    `score` is in points of the aspect's scale in the task, or None with the reason in `unscored`.
    `label_mass` (0 to 1): the probability mass on all labels together; None where the score was parsed.
    `reasoning`: what a reasoning model thought before it replied.
    Of a fitted judge, `interval`: its ends in points of the scale; `novelty` (0 to 1): see `judging.fitted.novelty`.
    """

    judge: str
    aspect: str
    score: float | None
    mode: ScoreMode
    unscored: str | None = None
    reason: str | None = None
    label_mass: float | None = None
    label_probabilities: tuple[float, ...] | None = None
    detail: str | None = None
    interval: tuple[float, float] | None = None
    novelty: float | None = None
    reasoning: str | None = None

    def __post_init__(self) -> None:
        assert (self.score is None) == (self.unscored is not None)
        assert self.unscored is None or self.unscored in UNSCORED_REASONS


@dataclass(frozen=True, slots=True)
class Score:
    """The aggregation of the verdicts on one aspect of one record; `num_votes` of them have a score."""

    aspect: str
    score: float | None
    num_votes: int
    num_abstentions: int
    unscored: str | None = None
