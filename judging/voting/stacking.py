"""Learns a vote from labelled rows and several judges' scores: stacked regression, cross-validated by group.

Legend: R rows, J judges, U usable judges, F folds, B bins of scores.
The stages are nested: weights are fitted to calibrated scores of groups held out from the calibration, and the dev
scores come from votes fitted without the group. Source: Breiman 1996, Stacked Regressions (non-negative weights). It
reads no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from judging.records import Scale
from judging.stats.bootstrap import Floats
from judging.stats.rows import Codes, encode, numbers
from judging.voting.calibration import Bins, Calibration, bin_scores, check_labels, fit_bins, identity
from judging.voting.shrinkage import moments, shrunk_weights
from judging.voting.stacked_vote import LearnedVote, Member, Method

# With fewer labelled rows or groups the vote is the plain mean of the scores.
MIN_ROWS = 50
MIN_GROUPS = 10
MIN_SCORED = 30  # a judge with fewer labelled scores has weight 0
# A constant judge: this share of its scores is equal, or their spread is below this share of the scale.
ONE_SIDED_SHARE = 0.95
ONE_SIDED_SPREAD = 0.001
NO_GAIN = "on held-out groups it is no better than the plain mean"


class Stacked(NamedTuple):
    """A learned vote, and the held-out scores (R,): of votes learned without the row's group.

    All of `dev_R` has one centre, the mean label: the centres of the folds are low where the held-out fold is high,
    which would bias the correlation downwards. NaN where no judge scored. Where `vote.kind` is `mean` it is that mean,
    which uses no label.
    """

    vote: LearnedVote
    dev_R: Floats


# Long because its docstring explains eight arguments.
def stack(
    scores_RJ: Floats,
    labels_R: Sequence[float] | Floats,
    groups_R: Sequence[str],
    judges: Sequence[str],
    *,
    scale: Scale,
    method: Method = "nnls",
    folds: int = 5,
    seed: int = 0,
) -> Stacked:
    """The vote for one task and aspect from labelled rows.

    With fewer than `MIN_ROWS` rows or `MIN_GROUPS` groups, or where no judge's scores increase with the human scores,
    the vote is the plain mean, with the reason in `note`. A judge whose scores are (nearly) constant, do not increase
    with the human scores, or are too few has weight 0, with the reason in its member. The strength of the shrinkage is
    the strongest whose error is within one standard error of the best. The order of rows and judges has no effect.

    Args:
        scores_RJ: scores on `scale`, one column per judge; NaN: unscored.
        labels_R: human scores on `scale`.
        groups_R: keys of the groups; a group is never in two folds.
        judges: the names of the columns.
        scale: of scores and labels.
        method: `nnls` for weights of at least 0, or `ridge`.
        folds: of the cross-validation, at least 3.
        seed: of the assignment of groups to folds.

    Raises:
        ValueError: for columns of different lengths, missing labels and infinite numbers.
    """
    data = _data(scores_RJ, labels_R, groups_R, judges, scale=scale, folds=folds, seed=seed)
    about: dict[str, Any] = {"method": method, "low": scale.low, "high": scale.high, "num_folds": folds, "seed": seed}
    about |= {"num_rows": len(data.label_R), "num_groups": data.num_groups}
    too_few = len(data.label_R) < MIN_ROWS or data.num_groups < max(MIN_GROUPS, folds)
    fit = None if too_few else _fit(data, method, ())
    if fit is None:
        why = f"{len(data.label_R)} labelled rows in {data.num_groups} groups are too few to learn weights; "
        why += f"at least {MIN_ROWS} rows and {max(MIN_GROUPS, folds)} groups are required"
        note = why if too_few else "no judge's scores increase with the human scores"
        vote = LearnedVote(kind="mean", centre=0.0, strength=None, note=note, members=_equal(data), **about)
        return Stacked(vote, _unsorted(vote.scores(data.score_RJ, data.judges), data.order_R))
    dev_R, of_mean_R = _held_out(data, method, about)
    known_R = ~np.isnan(dev_R)
    errors = [_rmse(score_R[known_R], data.label_R[known_R]) for score_R in (dev_R, of_mean_R)]
    vote = LearnedVote(
        kind="stacked",
        cv_rmse_learned=errors[0],
        cv_rmse_mean=errors[1],
        note=NO_GAIN if errors[0] >= errors[1] else None,
        **about,
        **fit,
    )
    moved_R = np.clip(dev_R + data.label_R.mean() - data.centres()[data.fold_R], scale.low, scale.high)
    return Stacked(vote, _unsorted(moved_R, data.order_R))


@dataclass(frozen=True)
class _Judge:
    """One column of scores: its bins, and counts and sums of labels per fold and bin."""

    bins: Bins
    count_FB: Floats
    label_FB: Floats
    scale: Scale

    @staticmethod
    def of(score_R: Floats, label_R: Floats, fold_R: Codes, num_folds: int, scale: Scale) -> _Judge:
        bins = bin_scores(score_R)
        kept_R, shape = bins.bin_N >= 0, (num_folds, len(bins.score_B))
        cell_R = fold_R[kept_R] * shape[1] + bins.bin_N[kept_R]
        count_FB, label_FB = (
            np.bincount(cell_R, weights=weights_R, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
            for weights_R in (None, label_R[kept_R])
        )
        return _Judge(bins, count_FB, label_FB, scale)

    def without(self, folds: Sequence[int]) -> Calibration:
        """The calibration from all folds but these."""
        kept = np.delete(np.arange(len(self.count_FB)), folds)
        return fit_bins(self.bins.score_B, self.count_FB[kept].sum(axis=0), self.label_FB[kept].sum(axis=0), self.scale)


@dataclass(frozen=True)
class _Data:
    """Labelled rows in canonical order; row `i` of the input is at the index of `i` in `order_R`. Judges are sorted."""

    judges: tuple[str, ...]
    score_RJ: Floats
    label_R: Floats
    fold_R: Codes
    order_R: Codes
    num_groups: int
    num_folds: int
    scale: Scale

    @cached_property
    def columns(self) -> list[_Judge]:
        return [self._column(score_R) for score_R in self.score_RJ.T]

    @cached_property
    def mean(self) -> _Judge:
        """The plain mean as if it were one judge."""
        return self._column(_row_mean(self.score_RJ))

    @cached_property
    def one_sided(self) -> list[str | None]:
        """Why a judge has no information, by its scores alone."""
        return [_one_sided(score_R[~np.isnan(score_R)], self.scale) for score_R in self.score_RJ.T]

    def centres(self) -> Floats:
        """Mean label (F,) of the rows outside of each fold."""
        return np.array([self.label_R[self.fold_R != fold].mean() for fold in range(self.num_folds)])

    def _column(self, score_R: Floats) -> _Judge:
        return _Judge.of(score_R, self.label_R, self.fold_R, self.num_folds, self.scale)


def _data(
    scores_RJ: Floats,
    labels_R: Sequence[float] | Floats,
    groups_R: Sequence[str],
    judges: Sequence[str],
    *,
    scale: Scale,
    folds: int,
    seed: int,
) -> _Data:
    score_RJ = np.asarray(scores_RJ, dtype=float)
    label_R = numbers(labels_R, "label", missing=False)
    if score_RJ.shape != (len(label_R), len(judges)) or len(groups_R) != len(label_R):
        raise ValueError(
            f"sizes do not match: scores of shape {score_RJ.shape}, {len(label_R)} labels, {len(groups_R)} groups, "
            f"{len(judges)} judges"
        )
    if len(set(judges)) != len(judges) or not judges:
        raise ValueError("judges must have at least one name, without duplicates")
    if folds < 3:
        # One fold is held out for the estimate, and each of the others in turn for the strength.
        raise ValueError(f"folds must be at least 3, not {folds}")
    if np.isinf(score_RJ).any():
        raise ValueError("scores must be finite numbers")
    check_labels(label_R, scale)
    score_RJ = score_RJ[:, np.argsort(np.array(judges))]
    group_R, num_groups = encode(groups_R)
    # Sums of floats depend on their order, so rows are sorted by their content.
    order_R = np.lexsort((*score_RJ.T, label_R, group_R))
    fold_G = np.random.default_rng(seed).permutation(num_groups) % folds
    return _Data(
        tuple(sorted(judges)),
        score_RJ[order_R],
        label_R[order_R],
        fold_G[group_R[order_R]],
        order_R,
        num_groups,
        folds,
        scale,
    )


def _one_sided(score_N: Floats, scale: Scale) -> str | None:
    if len(score_N) == 0:
        return "it has no score"
    most = np.unique(score_N, return_counts=True)[1].max()
    if most > ONE_SIDED_SHARE * len(score_N):
        return f"{most} of its {len(score_N)} scores are equal"
    if score_N.std() < ONE_SIDED_SPREAD * scale.width:
        return f"the spread of its scores is below {ONE_SIDED_SPREAD:g} of the scale"
    return None


def _no_weight(calibration: Calibration) -> str | None:
    if calibration.num_rows < MIN_SCORED:
        return f"too few labelled scores: {calibration.num_rows} of at least {MIN_SCORED}"
    return calibration.note


def _equal(data: _Data) -> tuple[Member, ...]:
    as_is = identity(data.scale, len(data.label_R))
    return tuple(Member(judge=name, weight=1 / len(data.judges), calibration=as_is) for name in data.judges)


def _fit(data: _Data, method: Method, held_out: tuple[int, ...]) -> dict[str, Any] | None:
    """Fields `members`, `centre` and `strength` of the vote from all folds but `held_out`; None: no judge is usable."""
    inner = [fold for fold in range(data.num_folds) if fold not in held_out]
    final = [column.without(held_out) for column in data.columns]
    reasons = [why or _no_weight(one) for why, one in zip(data.one_sided, final, strict=True)]
    usable = [place for place, why in enumerate(reasons) if why is None]
    if not usable:
        return None
    kept_R = ~np.isin(data.fold_R, held_out)
    centre = float(data.label_R[kept_R].mean())
    away_RU = np.full((len(data.label_R), len(usable)), np.nan)
    for fold in inner:
        rows = np.flatnonzero(data.fold_R == fold)
        for column, place in enumerate(usable):
            calibration = data.columns[place].without((*held_out, fold))
            away_RU[rows, column] = calibration.apply(data.score_RJ[rows, place]) - centre
    # A missing score is imputed by the mean of the row's other scores.
    away_RU = np.where(np.isnan(away_RU), _row_mean(away_RU)[:, None], away_RU)
    complete_R = ~np.isnan(away_RU[:, 0])
    parts = [complete_R & (data.fold_R == fold) for fold in inner]
    solved = shrunk_weights(
        [moments(away_RU[part], data.label_R[part] - centre) for part in parts if part.any()], method
    )
    weights = dict(zip(usable, solved.weights_U, strict=True))
    members = tuple(
        Member(judge=name, weight=float(weights.get(place, 0.0)), calibration=final[place], reason=reasons[place])
        for place, name in enumerate(data.judges)
    )
    strength = None if np.isinf(solved.strength) else solved.strength
    return {"members": members, "centre": centre, "strength": strength}


def _held_out(data: _Data, method: Method, about: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """For every row the score of a vote, and of the calibrated plain mean, fitted without its fold."""
    dev_R = np.full(len(data.label_R), np.nan)
    of_mean_R = dev_R.copy()
    mean_R = _row_mean(data.score_RJ)
    for fold in range(data.num_folds):
        rows = data.fold_R == fold
        of_mean_R[rows] = data.mean.without((fold,)).apply(mean_R[rows])
        if fit := _fit(data, method, (fold,)):
            vote = LearnedVote(kind="stacked", **about, **fit)
            dev_R[rows] = vote.scores(data.score_RJ[rows], data.judges)
        else:
            dev_R[rows] = of_mean_R[rows]
    return dev_R, of_mean_R


def _row_mean(values_RJ: Floats) -> Floats:
    """Mean of the known values; NaN where there is none."""
    known_RJ = ~np.isnan(values_RJ)
    with np.errstate(invalid="ignore"):
        mean_R: Floats = np.where(known_RJ, values_RJ, 0.0).sum(axis=1) / known_RJ.sum(axis=1)
    return mean_R


def _rmse(score_R: Floats, label_R: Floats) -> float:
    return float(np.sqrt(np.mean((score_R - label_R) ** 2)))


def _unsorted(values_R: Floats, order_R: Codes) -> Floats:
    found_R = np.empty_like(values_R)
    found_R[order_R] = values_R
    return found_R
