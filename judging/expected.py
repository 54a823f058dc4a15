"""The expected score and label mass from the log-probabilities of the scale's labels at one decoding step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from judging.records import Scale


class Expected(NamedTuple):
    """`score` in points (None: every label has probability 0); `label_mass` 0 to 1; `probabilities` sum to 1."""

    score: float | None
    label_mass: float
    probabilities: tuple[float, ...] | None


def expected_score(label_logprobs: Sequence[float | None], scale: Scale) -> Expected:
    """The sum over the labels of value times probability, the probabilities normalised over the labels.

    `label_logprobs`: natural logarithms of the probabilities under the model's raw distribution, in the order of
    `scale.labels()`; None or NaN: the engine did not report that label, which counts as probability 0.
    """
    labels = scale.labels()
    if len(label_logprobs) != len(labels):
        raise ValueError(f"{len(label_logprobs)} log-probabilities for {len(labels)} labels of the scale {scale}")
    masses = [0.0 if p is None or math.isnan(p) else math.exp(min(p, 0.0)) for p in label_logprobs]
    mass = math.fsum(masses)
    if mass == 0.0:
        return Expected(None, 0.0, None)
    probabilities = tuple(p / mass for p in masses)
    score = math.fsum(p * int(label) for p, label in zip(probabilities, labels, strict=True))
    return Expected(min(max(score, float(labels[0])), float(labels[-1])), min(mass, 1.0), probabilities)
