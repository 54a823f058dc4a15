"""Compares the aggregation rules on the same rows: agreement with the labels, and cost in tokens.

The rules are the single judges, mean and median, the best judge and the learned vote if `inverdict panel` was run, the
integrating model, and cascades that query the whole panel only if the first judge is uncertain. Reads the output of
`evaluate` and `panel`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.artifacts import JobDir
from cluster.parts import parts_of
from evaluation.batch.verdicts import mean_tokens
from evaluation.judges.aggregation import NOT_ASKED, PANEL, Ballot, VoteConfig, ballot_of
from evaluation.judges.judge_config import FEATURE
from evaluation.measure.slices import Slice
from judging.errors import InputError
from judging.records import Scale, Verdict
from judging.stats.agreement import agreement, compare
from judging.stats.cascade import Point, cascade, label_entropy
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns
from judging.tasks import load_task

CRITERION = "group.spearman"
Scores = list[float | None]


@dataclass(frozen=True)
class Rule:
    """One aggregation rule; `tokens`: prompt and reply tokens per text of all queried judges (None: unknown)."""

    agreement: Estimate
    minus_mean: Estimate | None
    minus_length: Estimate
    tokens: float | None


@dataclass(frozen=True)
class WithoutFeatures:
    """A rule without the text features among the judges, and how much more agreement it has with them (paired)."""

    agreement: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Compared:
    """All rules on the rows of one slice; `first`: the judge that the cascade queries first.

    `without_features`: by rule; empty unless the panel has both judges and text features.
    """

    rules: Mapping[str, Rule]
    first: str | None
    cascade: Sequence[Point]
    without_features: Mapping[str, WithoutFeatures] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "criterion": CRITERION,
            "rules": {
                name: {
                    "agreement": one.agreement.to_json(),
                    "minus_mean": one.minus_mean.to_json() if one.minus_mean else None,
                    "minus_length": one.minus_length.to_json(),
                    "tokens": one.tokens,
                }
                for name, one in self.rules.items()
            },
            "without_features": {
                name: {"agreement": one.agreement.to_json(), "gain": one.gain.to_json()}
                for name, one in self.without_features.items()
            },
            "cascade": {
                "first": self.first,
                "points": [
                    {
                        "threshold": point.threshold if math.isfinite(point.threshold) else None,
                        "share": point.share,
                        "tokens": point.cost,
                        "token_share": point.cost_share,
                        "agreement": point.agreement.to_json(),
                        "minus_panel": point.minus_panel.to_json(),
                    }
                    for point in self.cascade
                ],
            },
        }


def compared(run: Path, part: Slice, *, resamples: int, seed: int) -> Compared | None:
    """The comparison of the rules on a slice; None if there is one judge only.

    Args:
        run: the run folder.
        part: the slice.
        resamples: bootstrap resamples of groups.
        seed: of the bootstrap.
    """
    judges = list(part.modes)
    if len(judges) < 2:
        return None
    rows = part.rows
    outputs = _outputs(run / "evaluate", judges, part)
    ballot = _learned(run)
    columns = Columns([row["group"] for row in rows], [row["label"] for row in rows], [None] * len(rows))
    scores = {name: [row[f"{name}.score"] for row in rows] for name in judges}
    whole = _sum(outputs[name].tokens for name in judges)
    tokens: dict[str, float | None] = {name: outputs[name].tokens for name in judges}
    for rule in ("mean", "median", "best", "learned"):
        if ballot.knows(rule, part.task, part.aspect):
            scores[rule] = [_aggregated(ballot, rule, part, row, judges) for row in rows]
            tokens[rule] = outputs[ballot.best[part.task, part.aspect]].tokens if rule == "best" else whole
    if f"{PANEL}.vote" in rows[0]:
        read = mean_tokens(run / "evaluate" / "integrator", part.aspect, {row["id"] for row in rows})
        scores["integrated"] = [row[f"{PANEL}.score"] for row in rows]
        tokens["integrated"] = None if read is None or whole is None else whole + read
    settings: dict[str, Any] = {"levels": ("group",), "resamples": resamples, "seed": seed}
    length = [float(row["candidate_chars"]) for row in rows]
    rules = {}
    for name, column in scores.items():
        own = replace(columns, score=column)
        known = name in part.modes  # a judge, measured in the slice already
        rules[name] = Rule(
            (part.estimates[name] if known else agreement(own, shuffles=0, **settings))[CRITERION],
            None if name == "mean" else compare(own, scores["mean"], **settings)[CRITERION],
            (part.against_length[name] if known else compare(own, length, **settings))[CRITERION],
            tokens[name],
        )
    first, points = _cascade(columns, scores, outputs, part, ballot, resamples=resamples, seed=seed)
    return Compared(rules, first, points, _without_features(columns, scores, part, ballot, settings))


def _without_features(
    columns: Columns, scores: Mapping[str, Scores], part: Slice, ballot: Ballot, settings: Mapping[str, Any]
) -> dict[str, WithoutFeatures]:
    """Mean, median and learned vote over the judges alone; a learned vote takes a feature's score as missing."""
    judges = [name for name, mode in part.modes.items() if mode != FEATURE]
    if not judges or len(judges) == len(part.modes):
        return {}
    found = {}
    for rule in ("mean", "median", "learned"):
        if rule in scores:
            alone = [_aggregated(ballot, rule, part, row, judges) for row in part.rows]
            found[rule] = WithoutFeatures(
                agreement(replace(columns, score=alone), shuffles=0, **settings)[CRITERION],
                compare(replace(columns, score=scores[rule]), alone, **settings)[CRITERION],
            )
    return found


@dataclass(frozen=True)
class _Output:
    """A judge's mean tokens per text (None: unknown), and its uncertainty by row (None: no label probabilities)."""

    tokens: float | None
    uncertainty: Scores


def _outputs(evaluated: Path, judges: Sequence[str], part: Slice) -> dict[str, _Output]:
    index = {row["id"]: number for number, row in enumerate(part.rows)}
    found = {}
    for name in judges:
        uncertainty: Scores = [None] * len(index)
        folder = evaluated / "verdicts" / name
        for file in parts_of(folder):
            for row in pq.read_table(file, columns=["id", "aspect", "label_probabilities"]).to_pylist():
                if row["aspect"] == part.aspect and row["id"] in index and row["label_probabilities"]:
                    uncertainty[index[row["id"]]] = label_entropy(row["label_probabilities"])
        found[name] = _Output(mean_tokens(folder, part.aspect, index), uncertainty)
    return found


def _learned(run: Path) -> Ballot:
    """The rules that the job `panel` fitted on these judges; none where it has not run, or ran on other judges."""
    done = JobDir(run, "evaluate").manifest() or {}
    judges = done.get("fingerprint", {}).get("evaluate", {}).get("judges", {})
    try:
        return ballot_of(run, VoteConfig(rule="learned"), judges)
    except InputError:
        return Ballot()


def _aggregated(ballot: Ballot, rule: str, part: Slice, row: Mapping[str, Any], judges: Sequence[str]) -> float | None:
    """The panel's score of a row by that rule, on the row's scale."""
    own, to = load_task(part.task).scale_of(part.aspect), Scale(*part.scale)
    verdicts = [
        Verdict(
            name,
            part.aspect,
            None if row[f"{name}.score"] is None else to.rescale(row[f"{name}.score"], own),
            part.modes[name],  # type: ignore[arg-type]
            row[f"{name}.unscored"],
        )
        for name in judges
    ]
    score = ballot.count(part.task, verdicts, rule=rule).score  # type: ignore[arg-type]
    return None if score is None else own.rescale(score, to)


def _cascade(
    columns: Columns,
    scores: Mapping[str, Scores],
    outputs: Mapping[str, _Output],
    part: Slice,
    ballot: Ballot,
    **settings: Any,
) -> tuple[str | None, list[Point]]:
    """The cascade's first judge, the cheapest one with label probabilities, and its points.

    The panel's score is the learned vote, or else the mean. With the learned vote, the first judge's score also comes
    from that vote with all others missing, so that both are calibrated alike.
    """
    rows, judges = part.rows, list(part.modes)
    if any(row[f"{name}.unscored"] == NOT_ASKED for row in rows for name in judges):
        return None, []  # the evaluation itself was a cascade
    usable = [
        name for name in judges if outputs[name].tokens and any(one is not None for one in outputs[name].uncertainty)
    ]
    whole = _sum(outputs[name].tokens for name in judges)
    if not usable or not whole:
        return None, []
    first = min(usable, key=lambda name: (outputs[name].tokens or 0.0, name))
    rule = "learned" if "learned" in scores else "mean"
    alone = [_aggregated(ballot, rule, part, row, [first]) for row in rows]
    return first, cascade(
        columns,
        alone,
        scores[rule],
        outputs[first].uncertainty,
        first_cost=outputs[first].tokens or 0.0,
        panel_cost=whole,
        criterion=CRITERION,
        **settings,
    )


def _sum(values: Any) -> float | None:
    known = list(values)
    return None if any(value is None for value in known) else float(sum(known))
