"""Every way to make one score of the judges', side by side on the same rows: agreement, and cost in tokens.

The single judges, mean, median, where `inverdict panel` was run the best judge and the learned vote, the integrating
model, and cascades that ask the whole panel only where a first judge is unsure. Reads what `evaluate` and `panel` left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.artifacts import JobDir
from cluster.parts import parts_of
from evaluation.batch.verdicts import mean_tokens
from evaluation.judges.aggregation import NOT_ASKED, PANEL, Ballot, VoteConfig, ballot_of
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
    """One way to make a score; `tokens` a text, prompts and replies of all that are asked (None: not known)."""

    agreement: Estimate
    minus_mean: Estimate | None
    minus_length: Estimate
    tokens: float | None


@dataclass(frozen=True)
class Compared:
    """All rules on the rows of one slice; `first` is the judge that the cascade asks before the others."""

    rules: Mapping[str, Rule]
    first: str | None
    cascade: Sequence[Point]

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
    """The rules on a slice; None where there is one judge alone."""
    judges = list(part.modes)
    if len(judges) < 2:
        return None
    rows = part.rows
    told = _told(run / "evaluate", judges, part)
    ballot = _taught(run)
    columns = Columns([row["group"] for row in rows], [row["label"] for row in rows], [None] * len(rows))
    scores = {name: [row[f"{name}.score"] for row in rows] for name in judges}
    whole = _sum(told[name].tokens for name in judges)
    tokens: dict[str, float | None] = {name: told[name].tokens for name in judges}
    for rule in ("mean", "median", "best", "learned"):
        if ballot.knows(rule, part.task, part.aspect):
            scores[rule] = [_counted(ballot, rule, part, row, judges) for row in rows]
            tokens[rule] = told[ballot.best[part.task, part.aspect]].tokens if rule == "best" else whole
    if f"{PANEL}.vote" in rows[0]:
        read = mean_tokens(run / "evaluate" / "integrator", part.aspect, {row["id"] for row in rows})
        scores["integrated"] = [row[f"{PANEL}.score"] for row in rows]
        tokens["integrated"] = None if read is None or whole is None else whole + read
    settings: dict[str, Any] = {"levels": ("group",), "resamples": resamples, "seed": seed}
    length = [float(row["candidate_chars"]) for row in rows]
    rules = {}
    for name, column in scores.items():
        own = replace(columns, score=column)
        known = name in part.modes  # a judge, which the slice has measured already
        rules[name] = Rule(
            (part.estimates[name] if known else agreement(own, shuffles=0, **settings))[CRITERION],
            None if name == "mean" else compare(own, scores["mean"], **settings)[CRITERION],
            (part.against_length[name] if known else compare(own, length, **settings))[CRITERION],
            tokens[name],
        )
    first, points = _cascade(columns, scores, told, part, ballot, resamples=resamples, seed=seed)
    return Compared(rules, first, points)


@dataclass(frozen=True)
class _Told:
    """A judge's mean tokens a text (None: no verdict says), and its uncertainty by row (None: it wrote no labels)."""

    tokens: float | None
    unsure: Scores


def _told(evaluated: Path, judges: Sequence[str], part: Slice) -> dict[str, _Told]:
    places = {row["id"]: place for place, row in enumerate(part.rows)}
    found = {}
    for name in judges:
        unsure: Scores = [None] * len(places)
        folder = evaluated / "verdicts" / name
        for file in parts_of(folder):
            for row in pq.read_table(file, columns=["id", "aspect", "label_probabilities"]).to_pylist():
                if row["aspect"] == part.aspect and row["id"] in places and row["label_probabilities"]:
                    unsure[places[row["id"]]] = label_entropy(row["label_probabilities"])
        found[name] = _Told(mean_tokens(folder, part.aspect, places), unsure)
    return found


def _taught(run: Path) -> Ballot:
    """What the job `panel` chose and learned of the judges that were evaluated; nothing where it did not know them."""
    done = JobDir(run, "evaluate").manifest() or {}
    judges = done.get("fingerprint", {}).get("evaluate", {}).get("judges", {})
    try:
        return ballot_of(run, VoteConfig(rule="learned"), judges)
    except InputError:
        return Ballot()


def _counted(ballot: Ballot, rule: str, part: Slice, row: Mapping[str, Any], judges: Sequence[str]) -> float | None:
    """The panel's score of a row by that rule, in points of the row's scale."""
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
    told: Mapping[str, _Told],
    part: Slice,
    ballot: Ballot,
    **settings: Any,
) -> tuple[str | None, list[Point]]:
    """The cheapest judge that tells its labels' probabilities first; then the learned vote, or the mean.

    Under the learned vote the first judge's score is that vote's too, with the others abstaining: calibrated alike.
    """
    rows, judges = part.rows, list(part.modes)
    if any(row[f"{name}.unscored"] == NOT_ASKED for row in rows for name in judges):
        return None, []  # it was a cascade itself
    usable = [name for name in judges if told[name].tokens and any(one is not None for one in told[name].unsure)]
    whole = _sum(told[name].tokens for name in judges)
    if not usable or not whole:
        return None, []
    first = min(usable, key=lambda name: (told[name].tokens or 0.0, name))
    rule = "learned" if "learned" in scores else "mean"
    alone = [_counted(ballot, rule, part, row, [first]) for row in rows]
    return first, cascade(
        columns,
        alone,
        scores[rule],
        told[first].unsure,
        first_cost=told[first].tokens or 0.0,
        panel_cost=whole,
        criterion=CRITERION,
        **settings,
    )


def _sum(values: Any) -> float | None:
    known = list(values)
    return None if any(value is None for value in known) else float(sum(known))
