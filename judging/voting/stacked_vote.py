"""A learned vote: each judge's calibration and weight for one task and aspect -> the panel's score.

Legend: R rows, J judges. It is a value that can be kept as JSON (`votefile.py`); how it is learned stands in
`stacking.py`. It knows no files and no labels.
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
    """One judge of the vote; `reason`: why its weight is 0 whatever it says, or None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str = Field(min_length=1)
    weight: FiniteFloat
    calibration: Calibration
    reason: str | None = None


class LearnedVote(BaseModel):
    """How the scores of several judges become one, for one task and aspect, on the scale `low` to `high`.

    The score is centre + sum over the judges of weight * (calibrated score - centre), cut off at the ends of the scale.
    A judge without a score has the weighted mean (by the sizes of the weights) of those that scored put in its place;
    with weights of one sign that is the same as sharing its weight out among them.

    `kind`: `stacked` (learned), or `mean`: the plain mean of the scores, and `note` says why; with `stacked`, `note`
    says where it is no better than that mean. `strength`: how strongly the weights were drawn towards equal ones; None:
    so strongly that they are equal. `cv_rmse_learned` and `cv_rmse_mean`: error against people in points, on groups
    that the vote and its calibrations had not seen, beside that of the plain mean calibrated as one judge; None where
    nothing was learned.
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
            raise ValueError(f"a scale goes from a lower to a higher number, not from {self.low:g} to {self.high:g}")
        if any(one >= next_one for one, next_one in pairwise(self.judges)):
            raise ValueError("members: each judge once, in the order of their names")
        if not any(member.weight for member in self.members):
            raise ValueError("members: one judge at least needs a weight")
        if self.method == "nnls" and min(member.weight for member in self.members) < 0:
            raise ValueError("members: a weight of non-negative least squares cannot be negative")
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
        """By judge: why it has no weight, where it was not even weighed."""
        return {member.judge: member.reason for member in self.members if member.reason is not None}

    def score(self, verdicts: Mapping[str, float | None]) -> float | None:
        """The panel's score in points, from scores by judge; None where no judge with a weight has a score.

        A judge that is not in `verdicts` abstains. Raises ValueError for a judge that the vote does not know.
        """
        names = sorted(verdicts)
        row_J = [np.nan if verdicts[name] is None else verdicts[name] for name in names]
        score = float(self.scores(np.array([row_J], dtype=float), names)[0])
        return None if np.isnan(score) else score

    def scores(self, scores_RJ: Floats, judges: Sequence[str]) -> Floats:
        """The same for many rows: (R, J) scores of `judges`, NaN unscored -> (R,), NaN unscored."""
        self._check(judges)
        columns = dict(zip(judges, np.asarray(scores_RJ, dtype=float).T, strict=True))
        shape = len(scores_RJ)
        sum_R, size_sum_R, weight_R, size_R = (np.zeros(shape) for _ in range(4))
        # Judge by judge in the order of their names: a row's score has the same bits alone and among others.
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
            raise ValueError(
                f"the learned vote knows no judge {unknown[0]!r}: it was learned of {', '.join(self.judges)}"
            )
        if len(set(judges)) != len(judges):
            raise ValueError("a judge stands twice among the columns")
