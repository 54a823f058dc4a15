"""What travels over HTTP: the bodies of requests and answers of the panel's own endpoints. One of the three doors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from judging.datasets import is_blank
from judging.tasks import RESERVED_SLOTS

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, StringConstraints(max_length=2_000_000)]
MAX_NAMES = 16
MAX_RUBRIC_CHARS = 20_000


class Body(BaseModel):
    """Unknown keys are errors: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class Rubric(Body):
    """A rubric of the client's own: criteria and, where it likes, what each score means (Prometheus' form)."""

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
    """How the panel is to answer; what is left out is as configured."""

    judges: list[Name] | None = Field(None, min_length=1, max_length=MAX_NAMES, description="of the configured ones")
    vote: Literal["mean", "median", "majority"] | None = None
    min_votes: int | None = Field(None, ge=1, le=MAX_NAMES)
    examples: bool = Field(True, description="off: no in-context examples")
    integrate: bool = Field(True, description="off: the vote alone, without the integrating model")
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    timeout_s: float | None = Field(None, gt=0, le=3600, description="within the server's own bound")


class JudgeBody(Body):
    """`POST /v1/judge`: one text to rate, or two (`fields` and `other`) to compare, in both orders."""

    task: Name | None = Field(None, description="one of GET /v1/judges; needed without a rubric")
    fields: dict[FieldName, Text] = Field(
        min_length=1, max_length=MAX_NAMES, description="texts by name: candidate, source, and what the task has more"
    )
    other: Text | None = Field(None, description="a second candidate: which of the two is better?")
    aspects: list[Name] | None = Field(None, min_length=1, max_length=MAX_NAMES, description="none: the task's first")
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=MAX_RUBRIC_CHARS)] | Rubric | None = None
    options: Options = Options()

    @model_validator(mode="after")
    def _says_by_what(self) -> JudgeBody:
        if (self.task is None) == (self.rubric is None):
            raise ValueError("give either a task or a rubric")
        if "candidate" not in self.fields:
            raise ValueError("fields: the text to judge, `candidate`, is missing")
        if taken := [name for name in RESERVED_SLOTS if name in self.fields and self.rubric is not None]:
            raise ValueError(f"fields: `{taken[0]}` is the name of a slot of ours: give the text another name")
        words = self.rubric if isinstance(self.rubric, str) else self.rubric.criteria if self.rubric else None
        if words is not None and is_blank(words):
            raise ValueError("rubric: it is empty or blank")
        if self.rubric is not None and self.aspects is not None and len(self.aspects) > 1:
            raise ValueError("aspects: a rubric has one aspect")
        if self.aspects is not None and len(set(self.aspects)) != len(self.aspects):
            raise ValueError("aspects: one stands twice")
        return self


class BatchBody(Body):
    """`POST /v1/judge/batch`: several items; an item that fails has an error in its place."""

    items: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)


class RetrieveBody(Body):
    """`POST /v1/retrieve`: the examples that a judge would be shown."""

    judge: Name
    task: Name
    fields: dict[FieldName, Text] = Field(min_length=1, max_length=MAX_NAMES)
    aspect: Name | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = Field(0, description="of the prompt, from the engine's prefix cache")


class Vote(BaseModel):
    """One judge's part. `score` null: `unscored` says why. Pairwise: how far the second is preferred."""

    judge: str
    score: float | None
    unscored: str | None = None
    reason: str | None = None
    label_mass: float | None = None
    certified: bool = Field(False, description="a certificate of this judge counts for this task and aspect")
    is_consistent: bool | None = Field(None, description="pairwise: both orders prefer the same text")
    examples: list[str] = []
    latency_ms: float
    usage: Usage
    error: str | None = None


class Spread(BaseModel):
    """How far the judges agree, over those that scored; null with fewer than two."""

    num_votes: int
    range: float | None = Field(None, description="highest minus lowest score")
    standard_deviation: float | None = None


class Integrated(BaseModel):
    """What the integrating model made of scores and reasons; `score` null: the vote stands, `error` says why."""

    model: str
    score: float | None
    reason: str | None = None
    error: str | None = None
    latency_ms: float
    usage: Usage


class AspectResult(BaseModel):
    """The panel's answer on one aspect. `quorum`: enough judges scored. `degraded`: fewer than asked, or a fallback."""

    aspect: str
    score: float | None
    unscored: str | None = None
    scale: tuple[float, float]
    verdict: str | None = Field(None, description="the rubric's words for the score; pairwise: first, second or tie")
    votes: list[Vote]
    rule: str = Field(description="how the votes are counted")
    quorum: bool
    degraded: bool
    certified: bool = Field(
        False, description="a certificate counts for this answer: the panel's as configured and whole, or one judge's"
    )
    agreement: Spread
    integrated: Integrated | None = None


class Judgement(BaseModel):
    """The answer of `POST /v1/judge`. `score` and `verdict` repeat the result where there is one aspect."""

    id: str
    object: Literal["judgement"] = "judgement"
    created: int
    task: str | None
    mode: Literal["absolute", "pairwise"]
    score: float | None
    verdict: str | None
    quorum: bool
    degraded: bool
    certified: bool = Field(False, description="every result is")
    results: list[AspectResult]
    versions: dict[str, Any]
    usage: Usage
