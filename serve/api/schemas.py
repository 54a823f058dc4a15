"""Bodies of requests and responses of the panel's own endpoints; what a client sends is validated here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from judging.datasets import is_blank
from judging.errors import InputError
from judging.tasks import RESERVED_SLOTS

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, StringConstraints(max_length=2_000_000)]
MAX_NAMES = 16
MAX_RUBRIC_CHARS = 20_000


class Body(BaseModel):
    """Base of every request body. Unknown keys are errors: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class Rubric(Body):
    """A custom rubric in Prometheus' form: criteria and, optionally, a description of each score."""

    criteria: Annotated[str, StringConstraints(min_length=1, max_length=MAX_RUBRIC_CHARS)]
    score1_description: str | None = Field(None, max_length=4000)
    score2_description: str | None = Field(None, max_length=4000)
    score3_description: str | None = Field(None, max_length=4000)
    score4_description: str | None = Field(None, max_length=4000)
    score5_description: str | None = Field(None, max_length=4000)

    def descriptions(self) -> dict[int, str]:
        found = {number: getattr(self, f"score{number}_description") for number in range(1, 6)}
        return {number: text for number, text in found.items() if text}


class Options(Body):
    """How the panel answers; the default of each option is the server's configuration."""

    judges: list[Name] | None = Field(
        None, min_length=1, max_length=MAX_NAMES, description="names of configured judges; default: all"
    )
    vote: Literal["mean", "median", "majority"] | None = None
    min_votes: int | None = Field(None, ge=1, le=MAX_NAMES)
    examples: bool = Field(True, description="false: no few-shot examples")
    integrate: bool = Field(True, description="false: the vote alone, without the integrating model")
    reasoning: bool = Field(False, description="true: with what reasoning models thought before they replied")
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    timeout_s: float | None = Field(None, gt=0, le=3600, description="capped at the server's limit")


class JudgeBody(Body):
    """`POST /v1/judge`: one text to rate, or two (`fields` and `other`) to compare, in both orders."""

    task: Name | None = Field(None, description="a task listed by GET /v1/judges; required without a rubric")
    fields: dict[FieldName, Text] = Field(
        min_length=1,
        max_length=MAX_NAMES,
        description="texts by name: candidate, source, and the task's further fields",
    )
    other: Text | None = Field(None, description="a second candidate, to be compared with the first")
    aspects: list[Name] | None = Field(
        None, min_length=1, max_length=MAX_NAMES, description="default: the task's first"
    )
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=MAX_RUBRIC_CHARS)] | Rubric | None = None
    options: Options = Options()

    @model_validator(mode="after")
    def _fits_together(self) -> JudgeBody:
        if (self.task is None) == (self.rubric is None):
            code = "missing_key" if self.task is None else "conflict"
            raise InputError("Set either `task` or `rubric`.", code=code, key="task")
        if "candidate" not in self.fields:
            message = "`fields.candidate` is missing: the text to judge."
            raise InputError(message, code="missing_key", key="fields")
        if taken := [name for name in RESERVED_SLOTS if name in self.fields and self.rubric is not None]:
            message = f"`{taken[0]}` is a reserved field name. Rename the field."
            raise InputError(message, code="conflict", key="fields")
        words = self.rubric if isinstance(self.rubric, str) else self.rubric.criteria if self.rubric else None
        if words is not None and is_blank(words):
            raise InputError("`rubric` is empty or blank.", code="invalid_value", key="rubric")
        if self.rubric is not None and self.aspects is not None and len(self.aspects) > 1:
            raise InputError("`aspects` must hold one name where a rubric is given.", code="conflict", key="aspects")
        if self.aspects is not None and len(set(self.aspects)) != len(self.aspects):
            raise InputError("Duplicate aspect in `aspects`.", code="duplicate_id", key="aspects")
        return self


class BatchBody(Body):
    """`POST /v1/judge/batch`: several items; an item that fails has an error instead of a judgement."""

    items: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)


class RetrieveBody(Body):
    """`POST /v1/retrieve`: the few-shot examples that a judge's prompt would hold."""

    judge: Name
    task: Name
    fields: dict[FieldName, Text] = Field(min_length=1, max_length=MAX_NAMES)
    aspect: Name | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = Field(0, description="prompt tokens read from the engine's prefix cache")


class Vote(BaseModel):
    """One judge's vote. `score` null: `unscored` is the reason. Pairwise: how far the second text is preferred."""

    judge: str
    score: float | None
    unscored: str | None = None
    reason: str | None = None
    reasoning: str | None = Field(None, description="where `options.reasoning` asks for it")
    label_mass: float | None = None
    interval: tuple[float, float] | None = Field(None, description="of a fitted judge: where people's score lies")
    novelty: float | None = Field(
        None, description="of a fitted judge: share of its training texts that are more usual"
    )
    certified: bool = Field(False, description="a valid certificate covers this judge on this task and aspect")
    is_consistent: bool | None = Field(None, description="pairwise: both orders prefer the same text")
    examples: list[str] = []
    latency_ms: float
    usage: Usage
    error: str | None = None


class Spread(BaseModel):
    """Spread of the judges' scores; null with fewer than two scores."""

    num_votes: int
    range: float | None = Field(None, description="highest minus lowest score")
    standard_deviation: float | None = None


class Integrated(BaseModel):
    """The integrating model's score. `score` null: the vote's score is kept, `error` is the reason."""

    model: str
    score: float | None
    reason: str | None = None
    error: str | None = None
    latency_ms: float
    usage: Usage


class AspectResult(BaseModel):
    """The panel's answer on one aspect.

    `quorum`: enough judges returned a score. `degraded`: a judge's score is missing, or the integrating model failed.
    """

    aspect: str
    score: float | None
    unscored: str | None = None
    scale: tuple[float, float]
    verdict: str | None = Field(None, description="the rubric's label for the score; pairwise: first, second or tie")
    votes: list[Vote]
    rule: str = Field(description="aggregation rule")
    quorum: bool
    degraded: bool
    certified: bool = Field(
        False,
        description="a valid certificate covers this answer: that of the complete panel as configured, or one judge's",
    )
    agreement: Spread
    integrated: Integrated | None = None


class Judgement(BaseModel):
    """The response of `POST /v1/judge`. `score` and `verdict` repeat the result where there is one aspect."""

    id: str
    object: Literal["judgement"] = "judgement"
    created: int
    task: str | None
    mode: Literal["absolute", "pairwise"]
    score: float | None
    verdict: str | None
    quorum: bool
    degraded: bool
    certified: bool = Field(False, description="every result is certified")
    results: list[AspectResult]
    versions: dict[str, Any]
    usage: Usage
