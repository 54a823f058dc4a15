"""A learned vote: each judge's calibration and weight for one task and aspect -> the panel's score.

Legend: R rows, J judges. It is saved as JSON by `vote_io.py` and learned by `stacking.py`. It knows no files or labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from judging.records import Scale
from judging.stats.bootstrap import Floats
from judging.voting.calibration import Calibration

Method = Literal["nnls", "ridge"]


class Member(BaseModel):
    """One judge of the vote; `reason`: why its weight is fixed at 0, or None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str = Field(min_length=1)
    weight: FiniteFloat
    calibration: Calibration
    reason: str | None = None


class LearnedVote(BaseModel):
    """The aggregation of several judges' scores for one task and aspect, on the scale `low` to `high`.

    The score is centre + sum over the judges of weight * (calibrated score - centre), clipped to the scale. A missing
    score is replaced by the weighted mean (by the sizes of the weights) of the others; with weights of one sign that is
    the same as distributing its weight among them.

    `kind`: `stacked` (learned), or `mean`: the plain mean of the scores, with the reason in `note`; with `stacked`,
    `note` is set where it is no better than that mean. `strength`: of the shrinkage towards equal weights; None: the
    weights are equal. `cv_rmse_learned` and `cv_rmse_mean`: cross-validated error against human scores, in points, of
    the vote and of the plain mean calibrated as one judge; None where nothing was learned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["stacked", "mean"]
    method: Method
    low: FiniteFloat
    high: FiniteFloat
    centre: FiniteFloat
    members: tuple[Member, ...] = Field(min_length=1)
    strength: FiniteFloat | None
    num_rows: int = Field(ge=0)
    num_groups: int = Field(ge=0)
    num_folds: int = Field(ge=3)
    seed: int
    cv_rmse_learned: FiniteFloat | None = None
    cv_rmse_mean: FiniteFloat | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> LearnedVote:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, not {self.low:g} and {self.high:g}")
        if any(one >= next_one for one, next_one in pairwise(self.judges)):
            raise ValueError("members: must be sorted by judge, without duplicates")
        if not any(member.weight for member in self.members):
            raise ValueError("members: at least one weight must not be 0")
        if self.method == "nnls" and min(member.weight for member in self.members) < 0:
            raise ValueError("members: weights of the method nnls must not be negative")
        return self

    @property
    def judges(self) -> tuple[str, ...]:
        """The names of its judges, sorted."""
        return tuple(member.judge for member in self.members)

    @property
    def scale(self) -> Scale:
        return Scale(self.low, self.high)

    @property
    def reasons(self) -> dict[str, str]:
        """By judge: why its weight is fixed at 0."""
        return {member.judge: member.reason for member in self.members if member.reason is not None}

    def score(self, verdicts: Mapping[str, float | None]) -> float | None:
        """The panel's score in points, from scores by judge; None where no judge with a weight has a score.

        A judge that is not in `verdicts` counts as unscored. Raises ValueError for an unknown judge.
        """
        names = sorted(verdicts)
        row_J = [np.nan if verdicts[name] is None else verdicts[name] for name in names]
        score = float(self.scores(np.array([row_J], dtype=float), names)[0])
        return None if np.isnan(score) else score

    def scores(self, scores_RJ: Floats, judges: Sequence[str]) -> Floats:
        """The scores (R,) of many rows from scores (R, J) of `judges`; NaN: unscored."""
        self._check(judges)
        columns = dict(zip(judges, np.asarray(scores_RJ, dtype=float).T, strict=True))
        shape = len(scores_RJ)
        sum_R, size_sum_R, weight_R, size_R = (np.zeros(shape) for _ in range(4))
        # Summed judge by judge in a fixed order, so that a row's score has the same bits alone and in a batch.
        for member in self.members:
            if member.weight and member.judge in columns:
                away_R = member.calibration.apply(columns[member.judge]) - self.centre
                known_R = ~np.isnan(away_R)
                away_R = np.where(known_R, away_R, 0.0)
                sum_R += member.weight * away_R
                size_sum_R += abs(member.weight) * away_R
                weight_R += member.weight * known_R
                size_R += abs(member.weight) * known_R
        total = float(sum(member.weight for member in self.members))
        missing_R = total - weight_R
        with np.errstate(invalid="ignore", divide="ignore"):
            score_R = self.centre + sum_R + missing_R * (size_sum_R / size_R)
        return np.where(size_R > 0, np.clip(score_R, self.low, self.high), np.nan)

    def _check(self, judges: Sequence[str]) -> None:
        if unknown := sorted(set(judges) - set(self.judges)):
            raise ValueError(f"unknown judge {unknown[0]!r}: the vote was learned from {', '.join(self.judges)}")
        if len(set(judges)) != len(judges):
            raise ValueError("duplicate judge among the columns")
