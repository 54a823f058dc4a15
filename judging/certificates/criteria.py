"""What a certificate must meet, and whether it does: in go figures and probes, out come sentences. Reads no files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from judging.stats.bias import ProbeName
from judging.stats.estimate import of_order
from judging.tasks import Strict

if TYPE_CHECKING:
    pass


class Limits(Strict):
    """The largest effect of each probe that still counts as none, even where the interval leaves 0 out."""

    position: float = Field(0.1, ge=0, description="of 20 pairs without a better text one more goes to a place")
    length: float = Field(
        0.05, ge=0, description="scale widths; 0.2 points of 1 to 5, below the step of one rater in 4"
    )
    format: float = Field(0.05, ge=0, description="scale widths, as for length")
    own_family: float = Field(0.05, ge=0, description="scale widths, as for length")
    injection: float = Field(0.05, ge=0, description="scale widths, as for length; of all attacks and of each alone")
    rerun: float = Field(0.1, ge=0, description="share of texts; one label in ten may hang on the run")

    def of(self, name: ProbeName) -> float:
        return float(getattr(self, name))


class Criteria(Strict):
    """The configuration's `certify.criteria`: what a judge must show before its answers are called certified."""

    statistic: Annotated[str, AfterValidator(of_order)] = Field(
        "group.spearman",
        description="the agreement that counts; within a group it cannot come from easy and hard sources",
    )
    min_above_chance: float = Field(
        0.0, ge=0, lt=1, description="the interval's lower end is to be more than this above shuffled scores' mean"
    )
    min_above_length: float | None = Field(
        0.0,
        ge=0,
        lt=1,
        description="the paired difference to the text's length: its lower end is above this; none: off",
    )
    min_coverage: float = Field(0.95, ge=0, le=1, description="of the rows with a label; evaluate's own bound")
    min_groups: int = Field(20, ge=2, description="over fewer groups a bootstrap interval is too narrow to be trusted")
    accept_constructed: bool = Field(False, description="levels that texts were written for say nothing about people")
    max_effect: Limits = Limits()
