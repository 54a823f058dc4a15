"""The configuration's `invert` section, and the two sources of a prompt: the inversion model and the baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from cluster.strict import Strict
from judging.public_data.places import Place

Source = Literal["inverse", "forward"]
RESPONSE = "{response}"


class Config(Strict):
    """The configuration's `invert` section."""

    models: tuple[str, ...] = Field(min_length=1, description="judges: names under `models`")
    inversion: dict[str, str] = Field(
        default_factory=dict,
        description="by judge the name under `models` of its inversion model; none: the one trained by sft",
    )
    inversion_prompt: str | None = Field(
        None,
        description="what an inversion model trained elsewhere reads, with `{response}` in place of the example; none: "
        "as in the training of `sft`",
    )
    examples: tuple[str, ...] | int = Field(1, description="ids in data.pool, or how many are sampled of each task")
    aspects: tuple[str, ...] | None = Field(
        None, min_length=1, description="none: all aspects that the examples are rated on"
    )
    aspects_together: bool = Field(True, description="one prompt for all aspects of a task; off: one for each aspect")
    sources: tuple[Source, ...] = Field(
        ("inverse", "forward"),
        min_length=1,
        description="forward is the baseline: the judge's own model writes the prompt",
    )
    with_score: bool = Field(True, description="off: the example's human score is left out (ablation)")
    num_candidates: int = Field(8, ge=1, description="prompts sampled for each example")
    temperature: float = Field(0.95, ge=0, le=2)
    top_p: float = Field(0.7, gt=0, le=1)
    top_k: int = Field(50, ge=0, description="0: no limit")
    max_tokens: int = Field(512, ge=16)
    max_words: int = Field(400, ge=20, description="a longer prompt is rejected")
    require_scale: bool = Field(
        True, description="a prompt must state the scale itself; off: it is enough that the reply format states it"
    )
    dev: tuple[Place, ...] = Field(
        (), description="files of rated texts: the prompt with the best agreement on them is selected"
    )
    fallback: bool = Field(
        True, description="where all candidates are rejected, use the task's rubric; off: exit with code 3"
    )

    @field_validator("inversion_prompt")
    @classmethod
    def _has_the_response(cls, prompt: str | None) -> str | None:
        if prompt is not None and prompt.count(RESPONSE) != 1:
            raise ValueError(f"must have {RESPONSE} once")
        return prompt

    def request(self, response: str) -> str | None:
        """What the inversion model reads for a response; None: the form of our own training."""
        return None if self.inversion_prompt is None else self.inversion_prompt.replace(RESPONSE, response)
