"""Bias probes as paired experiments: the effect of a change on a judge's scores, with an interval.

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


# Lower scores for padding or an attack are correct, so there only the other direction is a bias.
KINDS: dict[ProbeName, ProbeKind] = {
    "position": ProbeKind("preference for the first position, -1 to 1", one_sided=False),
    "length": ProbeKind("mean shift in scale widths when padded", one_sided=True),
    "format": ProbeKind("mean shift in scale widths when written as a list", one_sided=False),
    "own_family": ProbeKind("judge minus human, own family minus others, in scale widths", one_sided=False),
    "injection": ProbeKind("mean shift in scale widths when attacked", one_sided=True),
    "rerun": ProbeKind("share of texts whose nearest label changes in a second run", one_sided=True),
}


# With too many unscored probes neither the absence of a bias nor the success of an attack is shown.
MIN_PROBED = 0.5


def is_biased(effect: Estimate, limit: float, *, one_sided: bool) -> bool | None:
    """Whether the interval excludes 0 and the effect is larger than `limit`; None where it is undefined.

    Args:
        effect: the effect with its interval.
        limit: effects up to this size are too small to matter.
        one_sided: whether only a positive effect is a bias.
    """
    if not all(map(math.isfinite, (effect.value, effect.low, effect.high))):
        return None
    above = effect.low > 0 and effect.value > limit
    below = effect.high < 0 and effect.value < -limit
    return above or (below and not one_sided)


def worst_attack(effects: Mapping[str, Estimate], limit: float) -> str | None:
    """The attack with the highest lower end of its interval above `limit`; None: there is none.

    An attacker uses the attack that works, so the mean over all is not enough. Of many attacks without effect one may
    seem to have one by chance; requiring the whole interval above the limit guards against that.
    """
    sure = {name: one.low for name, one in effects.items() if one.low > limit and one.coverage >= MIN_PROBED}
    return max(sure, key=lambda name: (sure[name], name)) if sure else None


def shift(
    before: Scores, after: Scores, group: Sequence[str], *, width: float, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean of after minus before, in widths of the scale (-1 to 1; 0: no effect).

    Args:
        before: scores (N,); None or NaN: unscored.
        after: scores (N,) of the changed texts.
        group: the group of each row (N,).
        width: of the scale, in points.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    before_N, after_N = _both(before, after)
    return _mean((after_N - before_N) / width, group, resamples, seed)


def raised_share(
    before: Scores, after: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Share (0 to 1) of rows that the change raised by more than half a point.

    Args:
        before: scores (N,); None or NaN: unscored.
        after: scores (N,) of the changed texts.
        group: the group of each row (N,).
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    before_N, after_N = _both(before, after)
    return _mean(_where_known(after_N - before_N > RAISED_BY, before_N, after_N), group, resamples, seed)


def flip_share(
    first: Scores, second: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Test-retest consistency: share (0 to 1) of rows whose rounded score (halves up) differs between two runs.

    Args:
        first: scores (N,); None or NaN: unscored.
        second: scores (N,) of the second run.
        group: the group of each row (N,).
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    first_N, second_N = _both(first, second)
    return _mean(
        _where_known(np.floor(first_N + 0.5) != np.floor(second_N + 0.5), first_N, second_N), group, resamples, seed
    )


def first_preference(
    given: Scores, turned: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Position bias: mean preference for the first position over pairs judged in both orders.

    1: always the first text, whichever it is; -1: always the second; 0: no position bias.

    Args:
        given: scores (N,) from 1 (the first text is better) to 2 (the second); None or NaN: unscored.
        turned: scores (N,) of the same pairs in the reversed order.
        group: the group of each pair (N,).
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
    given_N, turned_N = _both(given, turned)
    # With s the preference (0 to 1) for the second position, an unbiased judge has s_given + s_turned = 1.
    return _mean(1 - ((given_N - 1) + (turned_N - 1)), group, resamples, seed)


def order_flip_share(
    given: Scores, turned: Scores, group: Sequence[str], *, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Share (0 to 1) of pairs where the two orders prefer different texts.

    Args:
        given: scores (N,) from 1 (the first text is better) to 2 (the second); None or NaN: unscored.
        turned: scores (N,) of the same pairs in the reversed order.
        group: the group of each pair (N,).
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
    """
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
    """Self-preference bias: mean of judge minus human on the own family's texts, minus that on the others.

    In scale widths. A judge that is lenient or severe to all texts alike has 0. `n` counts the rows of both kinds.

    Args:
        score: the judge's scores (N,); None or NaN: unscored.
        human: human scores (N,) on the same scale.
        is_own: whether each text (N,) is of the judge's own model family.
        group: the group of each row (N,).
        width: of the scale, in points.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.
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
        raise ValueError(f"the two score columns have different lengths: {len(one_N)} and {len(other_N)}")
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
        raise ValueError(f"scores and groups have different lengths: {len(keep_N)} and {len(group)}")
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
