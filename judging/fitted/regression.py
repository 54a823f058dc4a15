"""A fitted judge's regression for one task and aspect: hidden state -> score, interval, novelty; as files.

Legend: N rows, D features, L depths.
`NAME.safetensors` holds the numbers and `NAME.json` everything else. It knows no models and no prompts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from judging.errors import InputError
from judging.fitted.conformal import half_width, interval
from judging.fitted.novelty import Novelty, measure
from judging.fitted.ridge import CrossValidated, Linear, Target, fit, folds
from judging.records import Scale


class Reading(NamedTuple):
    """`score` and the ends of its interval lie on the scale. `novelty`: see `Novelty.share_below`."""

    score: float
    low: float
    high: float
    novelty: float


@dataclass(frozen=True)
class Regression:
    """`scale`: of the scores, in points. `half_width`: of the interval, in points; infinite with too few groups.

    `max_novelty`: texts of this novelty and more are not scored; None: all are.
    """

    linear: Linear
    novelty: Novelty
    half_width: float
    scale: Scale
    max_novelty: float | None

    def read(self, hidden_D: Sequence[float]) -> Reading | None:
        """The reading of one hidden state; None where it has another length or is not finite."""
        found_D = np.asarray(hidden_D, dtype=float)
        if found_D.shape != self.linear.weight_D.shape or not np.isfinite(found_D).all():
            return None
        raw = float(self.linear.predict(found_D[None])[0])
        score = min(max(raw, self.scale.low), self.scale.high)
        low, high = interval(score, self.half_width, self.scale)
        return Reading(score, low, high, float(self.novelty.share_below(found_D[None])[0]))

    def is_unlike(self, novelty: float) -> bool:
        """Whether a text of that novelty is too unlike the training rows to be scored."""
        return self.max_novelty is not None and novelty >= self.max_novelty


def regression_of(
    target: Target, found: CrossValidated, scale: Scale, *, level: float, max_novelty: float | None, seed: int
) -> Regression:
    """The regression on all rows of the target, at the chosen depth and penalty.

    Args:
        target: what it learns.
        found: its cross-validation, whose residuals give the interval.
        scale: of the scores.
        level: of the interval, between 0 and 1.
        max_novelty: see `Regression`.
        seed: draws the folds in which novelty is measured.
    """
    features_ND = np.asarray(target.depths_LND[found.choice.depth], dtype=float)
    on_scale_N = np.clip(found.score_N, scale.low, scale.high)
    return Regression(
        fit(features_ND, target.score_N, found.choice.penalty),
        measure(features_ND, folds(target.group_N, seed)),
        half_width(target.score_N - on_scale_N, target.group_N, level),
        scale,
        max_novelty,
    )


def as_files(one: Regression, about: Mapping[str, Any]) -> tuple[bytes, str]:
    """The content of the safetensors and of the JSON file. `about`: plain values that are written with it."""
    arrays = {
        "weight": one.linear.weight_D,
        "bias": np.array([one.linear.bias]),
        **{f"novelty.{name}": np.atleast_1d(value) for name, value in one.novelty._asdict().items()},
    }
    numbers = save({name: np.ascontiguousarray(value, dtype=np.float64) for name, value in arrays.items()})
    head = {
        "scale": [one.scale.low, one.scale.high],
        "half_width": one.half_width if math.isfinite(one.half_width) else None,
        "max_novelty": one.max_novelty,
        "sha256": hashlib.sha256(numbers).hexdigest(),
    }
    return numbers, json.dumps({**head, **about}, indent=1, ensure_ascii=False)


def read_files(path: Path) -> tuple[Regression, dict[str, Any]]:
    """The regression in `path` (.safetensors) and the JSON beside it.

    Raises InputError where one of them is missing or damaged.
    """
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        numbers = path.read_bytes()
        if hashlib.sha256(numbers).hexdigest() != about["sha256"]:
            raise _damaged(path)
        arrays = load(numbers)
        novelty: dict[str, Any] = {name: arrays[f"novelty.{name}"] for name in Novelty._fields}
        novelty["rest_deviation"] = float(novelty["rest_deviation"][0])
        half = math.inf if about["half_width"] is None else float(about["half_width"])
        linear = Linear(arrays["weight"], float(arrays["bias"][0]))
        return Regression(linear, Novelty(**novelty), half, Scale(*about["scale"]), about["max_novelty"]), about
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is missing or damaged. Delete {path.parent} and run `inverdict fit-judge` again.",
        code="damaged_artifact",
    )
