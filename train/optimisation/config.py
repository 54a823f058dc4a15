"""The configuration's `optimise` section, and which starting prompts are learned ones."""

from __future__ import annotations

from pydantic import Field

from cluster.strict import Strict

LEARNED = ("inverse", "forward")


class Config(Strict):
    """The configuration's `optimise` section."""

    models: tuple[str, ...] = Field(min_length=1, description="judges: names under `models`")
    optimisers: dict[str, str] = Field(
        default_factory=dict,
        description="by judge the name under `models` of the model that rewrites; none: the judge itself",
    )
    start: str = Field(
        "rubric",
        description="starting prompt: rubric; inverse or forward (the output of `inverdict invert`); or a folder",
    )
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: every rated aspect")
    share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of each task's groups in the dev part; the others are left for the selection by `panel`",
    )
    rounds: int = Field(3, ge=1)
    patience: int = Field(1, ge=1, description="early stopping: rounds without a better instruction")
    cases: int = Field(
        4, ge=1, description="labelled texts shown in a round: those with the largest error of the judge"
    )
    num_drafts: int = Field(4, ge=1, description="instructions sampled in a round")
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)
    max_tokens: int = Field(400, ge=16, description="maximum length of an instruction; a truncated one is rejected")
    max_words: int = Field(300, ge=20, description="a longer instruction is rejected")
    require_scale: bool = Field(
        True, description="the instruction must state the scale; off: it is enough that the reply format states it"
    )
    max_total_tokens: int | None = Field(
        None, ge=1, description="token budget a judge (prompts and replies); no round starts that would exceed it"
    )
