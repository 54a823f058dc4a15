"""The configuration's `optimise` section."""

from __future__ import annotations

from pydantic import Field

from cluster.config import Strict

LEARNED = ("inverse", "forward")


class Config(Strict):
    """The configuration's `optimise` section."""

    models: tuple[str, ...] = Field(min_length=1, description="judges: names under `models`")
    optimisers: dict[str, str] = Field(
        default_factory=dict, description="a judge: the name under `models` of who rewrites; none: the judge itself"
    )
    start: str = Field("rubric", description="rubric; inverse, forward: what `inverdict invert` left; or a folder")
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: every aspect that people rated")
    share: float = Field(
        0.5, gt=0, le=1, description="of each task's groups in the dev part; the others stay for `panel` to choose by"
    )
    rounds: int = Field(3, ge=1)
    patience: int = Field(1, ge=1, description="stop after so many rounds without a better instruction")
    cases: int = Field(4, ge=1, description="labelled texts shown in a round: those with the largest error")
    num_drafts: int = Field(4, ge=1, description="instructions sampled in a round")
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)
    max_tokens: int = Field(400, ge=16, description="longest instruction; a longer one is refused")
    max_words: int = Field(300, ge=20, description="a longer instruction is refused")
    require_scale: bool = Field(True, description="the instruction must state the scale; off: the reply format does")
    max_total_tokens: int | None = Field(
        None, ge=1, description="no round begins that would pass so many tokens a judge, prompts and replies together"
    )
