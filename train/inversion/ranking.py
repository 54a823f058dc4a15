"""Which verified candidate becomes the template: the one under which the judge gives the human scores most probability.

With a labelled dev part the agreement with the human scores decides instead. Input: templates and the judge's replies;
output: a value for each candidate and a ranking. Knows no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from judging.judge import Judge
from judging.records import Record, Scale
from judging.stats.agreement import agreement
from judging.stats.rows import Columns
from train.inversion.prompt_candidates import Candidate

LEVELS = ("dataset", "group")


def requests(
    candidates: Iterable[Candidate], records: Sequence[Record], special_tokens: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The requests that measure the candidates.

    Args:
        candidates: only the verified ones are measured.
        records: rated texts.
        special_tokens: of the judge.

    Yields:
        A row for cluster.generate for each candidate, aspect and record with a human score on the aspect.
    """
    for candidate in candidates:
        if not candidate.is_verified:
            continue
        for aspect, template in candidate.templates.items():
            judge = Judge.of(template, special_tokens)
            for place, record in enumerate(records):
                if aspect in record.scores:
                    known = {"candidate": candidate.number, "aspect": aspect, "record": place}
                    yield {**known, **judge.request(record, aspect)}


def log_probability(label_logprobs: Sequence[float], score: float, scale: Scale) -> float:
    """Natural logarithm of the probability of `score`; between two labels it is interpolated by distance.

    Args:
        label_logprobs: of the labels of the scale; NaN where unknown, empty where the engine returned none.
        score: on `scale`.
        scale: the template's.

    Returns:
        The log-probability, at most 0; -inf where the engine returned neither label.
    """
    labels = [float(label) for label in scale.labels()]
    low = max(label for label in labels if label <= score) if score >= labels[0] else labels[0]
    high = min(low + 1, labels[-1])
    share = min(max(score - low, 0.0), 1.0)
    masses = [0.0 if math.isnan(p) else math.exp(p) for p in label_logprobs] or [0.0] * len(labels)
    mass = (1 - share) * masses[labels.index(low)] + share * masses[labels.index(high)]
    return math.log(mass) if mass > 0 else -math.inf


def mean_log_probability(
    candidate: Candidate, replies: Iterable[Mapping[str, Any]], records: Sequence[Record]
) -> tuple[float | None, str]:
    """The method's objective: mean log-probability of the human scores over aspects and examples.

    Args:
        candidate: a verified one.
        replies: its rows of cluster.generate.
        records: those of the rows' `record`.

    Returns:
        The mean in nats, at most 0, and ""; or None and the reason, where one reply has no score.
    """
    total, number = 0.0, 0
    for reply in replies:
        template, record = candidate.templates[reply["aspect"]], records[reply["record"]]
        if unscored := Judge.of(template).verdict(template.task, template.aspect, reply).unscored:
            return None, f"the judge returned no score: {unscored}"
        score = record.score_on(template.aspect, template.scale)
        total += log_probability(reply["label_logprobs"], score, template.scale)
        number += 1
    return (total / number, "") if number and total > -math.inf else (None, "no probability on the human score")


def dev_agreement(
    candidate: Candidate, replies: Iterable[Mapping[str, Any]], records: Sequence[Record]
) -> tuple[float | None, str]:
    """Agreement on the dev part: mean within-group Spearman (over all rows where no group has an order).

    Args:
        candidate: a verified one.
        replies: its rows of cluster.generate.
        records: those of the rows' `record`.

    Returns:
        The mean over aspects, -1 to 1, and ""; or None and the reason, where it is undefined for every aspect.
    """
    rows: dict[str, list[tuple[Record, float | None]]] = {}
    for reply in replies:
        template = candidate.templates[reply["aspect"]]
        verdict = Judge.of(template).verdict(template.task, template.aspect, reply)
        rows.setdefault(template.aspect, []).append((records[reply["record"]], verdict.score))
    values = [value for aspect, scored in rows.items() if not math.isnan(value := spearman(aspect, scored))]
    return (sum(values) / len(values), "") if values else (None, "no agreement could be measured on the dev part")


def spearman(aspect: str, scored: Sequence[tuple[Record, float | None]]) -> float:
    """Mean within-group Spearman with the human scores (over all rows where no group has an order), or NaN."""
    columns = Columns(
        group=[record.group_key for record, _ in scored],
        human=[record.scores[aspect] for record, _ in scored],
        score=[score for _, score in scored],
        system=None,
        ratings=None,
    )
    found = agreement(columns, levels=LEVELS, resamples=1, shuffles=0)
    within = found["group.spearman"].value
    return found["dataset.spearman"].value if math.isnan(within) else within


def ranked(candidates: Sequence[Candidate], values: Mapping[int, float]) -> list[int]:
    """Numbers of the candidates with a value, the best first.

    Ties (at the printed digits) are broken by fewer appended slots, then by shorter text, then by number.
    """
    by_number = {candidate.number: candidate for candidate in candidates}

    def order(number: int) -> tuple[float, int, int, int]:
        candidate = by_number[number]
        appended = sum(how == "appended" for how in candidate.found.values())
        return -round(values[number], 6), appended, len(candidate.text), number

    return sorted(values, key=order)
