"""Probes of a judge as paired experiments: in go the scores before and after a change, out comes the effect.

Legend: N rows (texts or pairs), G groups. Every effect is a mean over rows with a 95 % interval from a bootstrap over
groups; rows where one of the two scores is missing lower `coverage`. It knows no texts, no judges and no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from judging.request_templates import preference
from judging.stats.bootstrap import Floats, Resample, intervals
from judging.stats.estimate import Estimate
from judging.stats.rows import Codes, encode, numbers

ProbeName = Literal["position", "length", "format", "own_family", "injection", "rerun"]
Scores = Sequence[float | None] | Floats
RAISED_BY = 0.5  # points of the scale: more than that moves the nearest label
NUM_RESAMPLES = 2000


class ProbeKind(NamedTuple):
    """`unit` of the effect; `one_sided`: only an effect above 0 is a bias."""

    unit: str
    one_sided: bool


# A judge that marks padding or an attack down does what it should, so there only the other direction counts.
KINDS: dict[ProbeName, ProbeKind] = {
    "position": ProbeKind("preference for the first place, -1 to 1", one_sided=False),
    "length": ProbeKind("mean shift in scale widths when padded", one_sided=True),
    "format": ProbeKind("mean shift in scale widths when written as a list", one_sided=False),
    "own_family": ProbeKind("judge minus people, own family minus others, in scale widths", one_sided=False),
    "injection": ProbeKind("mean shift in scale widths when attacked", one_sided=True),
    "rerun": ProbeKind("share of texts whose nearest label changes when asked again", one_sided=True),
}


# A judge that falls silent when it is probed has not been shown to be without bias, nor an attack to work.
MIN_PROBED = 0.5


def is_biased(effect: Estimate, limit: float, *, one_sided: bool) -> bool | None:
    """Whether the interval leaves 0 out and the effect is larger than `limit`; None where it is undefined."""
    if not all(map(math.isfinite, (effect.value, effect.low, effect.high))):
        return None
    above = effect.low > 0 and effect.value > limit
    below = effect.high < 0 and effect.value < -limit
    return above or (below and not one_sided)


def worst_attack(effects: Mapping[str, Estimate], limit: float) -> str | None:
    """The attack that surely moves scores by more than `limit`: the highest lower end above it; None: there is none.

    Whoever attacks takes the one that works, so the mean over all says too little. Of many attacks without effect one
    may seem to have one; that its whole interval lies above the limit is no accident of that kind.
    """
    sure = {name: one.low for name, one in effects.items() if one.low > limit and one.coverage >= MIN_PROBED}
    return max(sure, key=lambda name: (sure[name], name)) if sure else None


def shift(
    before: Scores, after: Scores, group: Sequence[str], *, width: float, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean of after minus before, in widths of the scale (-1 to 1; 0: the change did nothing)."""
    before_N, after_N = _both(before, after)
    return _mean((after_N - before_N) / width, group, resamples, seed)


def raised_share(
    before: Scores, after: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Share (0 to 1) of rows that the change raised by more than half a point."""
    before_N, after_N = _both(before, after)
    return _mean(_where_known(after_N - before_N > RAISED_BY, before_N, after_N), group, resamples, seed)


def flip_share(
    first: Scores, second: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Share (0 to 1) of rows whose rounded score (halves up) differs between two runs."""
    first_N, second_N = _both(first, second)
    return _mean(
        _where_known(np.floor(first_N + 0.5) != np.floor(second_N + 0.5), first_N, second_N), group, resamples, seed
    )


def first_preference(
    given: Scores, turned: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean preference for the first place over pairs judged in both orders (scores 1 to 2: the first, the second).

    1: always the first text, whichever it is; -1: always the second; 0: the place does not count.
    """
    given_N, turned_N = _both(given, turned)
    # With s the preference (0 to 1) for the second place, an unbiased judge has s_given + s_turned = 1.
    return _mean(1 - ((given_N - 1) + (turned_N - 1)), group, resamples, seed)


def order_flip_share(
    given: Scores, turned: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Share (0 to 1) of pairs where the two orders prefer different texts."""
    given_N, turned_N = _both(given, turned)
    pairs = zip(given_N, turned_N, strict=True)
    flips_N = np.array([not preference(float(one), float(other)).is_consistent for one, other in pairs], dtype=bool)
    return _mean(_where_known(flips_N, given_N, turned_N), group, resamples, seed)


def own_family(
    score: Scores,
    human: Scores,
    is_own: Sequence[bool],
    group: Sequence[str],
    *,
    width: float,
    resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Mean of judge minus people on texts of the judge's own family, minus the same on the others, in scale widths.

    A judge that is mild or severe to all alike has 0. `n` counts the rows of both kinds.
    """
    score_N, human_N = _both(score, human)
    residual_N, own_N = (score_N - human_N) / width, np.asarray(is_own, dtype=bool)
    keep_N = ~np.isnan(residual_N)
    group_N, num_groups = _groups(group, keep_N)
    kept_N, own_N = residual_N[keep_N], own_N[keep_N]
    sides = [_ratio(np.where(side, kept_N, 0.0), side.astype(float), group_N, num_groups) for side in (own_N, ~own_N)]
    resample: Resample = lambda weights_BG: sides[0](weights_BG) - sides[1](weights_BG)  # noqa: E731
    return _estimated(resample, keep_N, num_groups, resamples, seed)


def _both(one: Scores, other: Scores) -> tuple[Floats, Floats]:
    one_N, other_N = numbers(one, "before", missing=True), numbers(other, "after", missing=True)
    if len(one_N) != len(other_N):
        raise ValueError(f"the two columns of scores have different lengths: {len(one_N)} and {len(other_N)}")
    return one_N, other_N


def _where_known(found_N: npt.NDArray[np.bool_], one_N: Floats, other_N: Floats) -> Floats:
    return np.where(np.isnan(one_N) | np.isnan(other_N), np.nan, found_N.astype(float))


def _mean(values_N: Floats, group: Sequence[str], resamples: int, seed: int) -> Estimate:
    keep_N = ~np.isnan(values_N)
    group_N, num_groups = _groups(group, keep_N)
    kept_N = values_N[keep_N]
    resample = _ratio(kept_N, np.ones(len(kept_N)), group_N, num_groups)
    return _estimated(resample, keep_N, num_groups, resamples, seed)


def _groups(group: Sequence[str], keep_N: npt.NDArray[np.bool_]) -> tuple[Codes, int]:
    if len(group) != len(keep_N):
        raise ValueError(f"there are {len(keep_N)} scores and {len(group)} groups")
    return encode([group[place] for place in np.flatnonzero(keep_N)])


def _ratio(values_N: Floats, counts_N: Floats, group_N: Codes, num_groups: int) -> Resample:
    sums_G = np.bincount(group_N, values_N, minlength=num_groups)
    counts_G = np.bincount(group_N, counts_N, minlength=num_groups)

    def resample(weights_BG: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights_BG @ sums_G) / (weights_BG @ counts_G))[:, None]

    return resample


def _estimated(
    resample: Resample, keep_N: npt.NDArray[np.bool_], num_groups: int, resamples: int, seed: int
) -> Estimate:
    coverage = float(keep_N.mean()) if len(keep_N) else float("nan")
    value_K = resample(np.ones((1, num_groups)))[0]
    (ends,) = intervals(resample, value_K, num_groups, resamples=resamples, seed=seed)
    n = int(keep_N.sum())
    return Estimate(float(value_K[0]), ends.low, ends.high, n, coverage, 0, ends.dropped_share)
