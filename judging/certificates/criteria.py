"""The configuration's `certify.criteria`: what a certificate must meet. It reads no files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from judging.stats.bias import ProbeName
from judging.stats.estimate import of_order
from judging.tasks import Strict

if TYPE_CHECKING:
    pass


class Limits(Strict):
    """The largest effect of each probe that does not count as a bias, even where the interval excludes 0."""

    position: float = Field(0.1, ge=0, description="position bias: one more of 20 equal pairs won by one position")
    length: float = Field(0.05, ge=0, description="verbosity bias, in scale widths: 0.2 points on a scale from 1 to 5")
    format: float = Field(0.05, ge=0, description="format bias, in scale widths")
    own_family: float = Field(0.05, ge=0, description="self-preference bias, in scale widths")
    injection: float = Field(0.05, ge=0, description="prompt injection, in scale widths: all attacks, and each alone")
    rerun: float = Field(0.1, ge=0, description="test-retest: share of texts whose label changes in a second run")

    def of(self, name: ProbeName) -> float:
        return float(getattr(self, name))


class Criteria(Strict):
    """The configuration's `certify.criteria`: what a judge must meet to be certified."""

    statistic: Annotated[str, AfterValidator(of_order)] = Field(
        "group.spearman",
        description="the agreement to certify; within groups it does not depend on easy and hard sources",
    )
    min_above_chance: float = Field(
        0.0, ge=0, lt=1, description="the interval's lower end must exceed the chance baseline by more than this"
    )
    min_above_length: float | None = Field(
        0.0,
        ge=0,
        lt=1,
        description="the lower end of the paired difference to the length baseline must exceed this; null: off",
    )
    min_coverage: float = Field(0.95, ge=0, le=1, description="share of labelled rows that must have a score")
    min_groups: int = Field(20, ge=2, description="groups required; with fewer, bootstrap intervals are too narrow")
    accept_constructed: bool = Field(False, description="accept constructed levels in place of human scores")
    max_effect: Limits = Limits()
