"""Job `panel`: selects the best judge and learns a vote of all for each task and aspect, on the labelled dev part.

Judges the dev part (`data.dev_share`) with every judge of `evaluate`. Below `{run}/panel`: `evaluate/` (the scores, in
the layout of that job), `panel.yaml` (the chosen judges and why), `votes.json` (calibrations and weights). `evaluate`
and `serve` read both files with `vote: {rule: best}` or `{rule: learned}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import yaml
from pydantic import AfterValidator, Field, FiniteFloat

from cluster import runtime
from cluster.artifacts import JobDir, Outcome, read_json, write_text
from cluster.config import RunConfig, section, section_or_default
from cluster.strict import Strict
from cluster.terminal import say
from evaluation.batch import evaluate as batch
from evaluation.batch.config import Config as EvaluateConfig
from evaluation.batch.verdicts import mean_tokens
from evaluation.judges.aggregation import Key, VoteConfig
from evaluation.measure.formatting import with_interval
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Scale
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Floats
from judging.stats.estimate import of_order
from judging.stats.rows import Columns
from judging.tasks import load_task
from judging.voting.selection import Choice, choose_judge
from judging.voting.stacking import stack
from judging.voting.vote_io import save_votes

HEAD = "# Made by `inverdict panel`: the judge chosen on the dev part for each task and aspect, and why.\n"


class Config(Strict):
    """The configuration's `panel` section."""

    criterion: Annotated[str, AfterValidator(of_order)] = Field(
        "group.spearman", description="statistic that selects the best judge; higher must be better"
    )
    min_coverage: float = Field(
        0.9, gt=0, le=1, description="minimum share of the dev part that a judge must have scored to be selected"
    )
    cost: dict[str, FiniteFloat] = Field(
        default_factory=dict,
        description="cost per token, by model; unset: 1, so that a judge's cost is its number of tokens",
    )
    method: Literal["nnls", "ridge"] = Field(
        "nnls", description="regression for the learned weights; nnls: non-negative least squares"
    )
    folds: int = Field(
        5,
        ge=3,
        description="cross-validation folds, of whole groups, for the weights' shrinkage and the held-out estimate",
    )
    resamples: int = Field(2000, ge=100, description="bootstrap resamples")


class Part(NamedTuple):
    """The labelled dev rows of one task and aspect; scores and labels in points of the task's scale."""

    task: str
    aspect: str
    scale: Scale
    columns: Columns
    scores: dict[str, list[float | None]]  # by judge
    costs: dict[str, float]  # per row, by judge


def main(run: RunConfig) -> Outcome:
    """Judge the dev part, select and learn; completed steps are skipped.

    Raises InputError or UserError where the configuration is invalid or the dev part does not suffice.
    """
    config = section_or_default(run, "panel", Config)
    evaluate, data = section(run, "evaluate", EvaluateConfig), section(run, "data", DataConfig)
    if not data.has_dev:
        raise InputError(
            "panel: a labelled dev part is required. Set data.dev_share or data.dev.",
            code="missing_key",
            key="data.dev_share",
        )
    if unknown := [name for name in config.cost if name not in run.models]:
        raise InputError(
            f"panel.cost: unknown model {unknown[0]!r}; `models` has {', '.join(run.models)}.",
            code="unknown_model",
            key="panel.cost",
        )
    # The judges' dev scores need no aggregation, no integrating model and no pairs.
    plain = evaluate.model_copy(update={"vote": VoteConfig(), "integrator": None, "pairs": None})
    dev = run.model_copy(update={"data": data.model_copy(update={"part": "dev"}), "evaluate": plain})
    say("panel: judging the dev part")
    job = JobDir(run.run, "panel")
    judged = batch.main(dev, within=job.path)

    def work() -> dict[str, Any]:
        job.claim()
        return _choose(run, config, job.path, judged.summary)

    fingerprint = _fingerprint(run, config, job.path)
    return Outcome(judged.exit_code, job.complete(fingerprint, work, what="panel"))


def _fingerprint(run: RunConfig, config: Config, folder: Path) -> dict[str, Any]:
    return {
        "panel": json.loads(config.model_dump_json()),
        "evaluate": read_json(folder / "evaluate" / "fingerprint.json"),
        "seed": run.seed,
        "versions": runtime.versions(),
    }


def _choose(run: RunConfig, config: Config, folder: Path, judged: Mapping[str, Any]) -> dict[str, Any]:
    parts = list(_parts(folder / "evaluate", run, config))
    if not parts:
        raise InputError(
            "panel: no record of the dev part has a human score. Label its records, or choose another one (data.dev or "
            "data.dev_share).",
            code="no_scores",
            key="data",
        )
    chosen, votes, held_out = [], {}, []
    for part in parts:
        choice = _chosen(part, config, run.seed)
        assert choice.judge is not None
        names = sorted(part.scores)
        stacked = stack(
            np.array([part.scores[name] for name in names], dtype=float).T,
            part.columns.human,
            list(map(str, part.columns.group)),
            names,
            scale=part.scale,
            method=config.method,
            folds=config.folds,
            seed=run.seed,
        )
        votes[part.task, part.aspect] = stacked.vote
        held_out.append(_held_out(part, stacked.dev_R, part.scores[choice.judge], config, run.seed))
        chosen.append(_entry(part, choice))
    save_votes(folder / "votes.json", votes)
    # As `evaluate` resolved them, which is how the panel's votes are looked up: a text feature has its own score mode.
    judges = read_json(folder / "evaluate" / "fingerprint.json")["evaluate"]["judges"]  # type: ignore[index]
    labels = run.data.labels  # type: ignore[attr-defined]
    content = {"criterion": config.criterion, "labels": labels, "judges": judges, "chosen": chosen}
    write_text(folder / "panel.yaml", HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
    learned = [
        {
            "task": task,
            "aspect": aspect,
            "kind": one.kind,
            "note": one.note,
            "weights": {member.judge: round(member.weight, 4) for member in one.members},
            "reasons": one.reasons,
            "cv_rmse_learned": one.cv_rmse_learned,
            "cv_rmse_mean": one.cv_rmse_mean,
            **figures,
        }
        for ((task, aspect), one), figures in zip(votes.items(), held_out, strict=True)
    ]
    return {"criterion": config.criterion, "chosen": chosen, "learned": learned, "folder": str(folder)}


def _chosen(part: Part, config: Config, seed: int) -> Choice:
    """The best judge of one task and aspect. Raises InputError where none can be selected."""
    if len(set(part.columns.human)) == 1:
        raise InputError(
            f"panel: all labels of {part.task}/{part.aspect} in the dev part are equal, so judges cannot be compared. "
            "Label more records of the dev part (data.dev or data.dev_share).",
            code="constant_labels",
            key="data",
        )
    say(f"panel: {part.task}/{part.aspect}: {len(part.columns.human)} labelled texts of the dev part")
    choice = choose_judge(
        part.columns,
        part.scores,
        part.costs,
        criterion=config.criterion,
        min_coverage=config.min_coverage,
        resamples=config.resamples,
        seed=seed,
    )
    if choice.judge is None:
        why = "; ".join(f"{name}: {one.out}" for name, one in choice.candidates.items())
        raise InputError(
            f"panel: no judge can be selected for {part.task}/{part.aspect} ({why}).",
            code="no_usable_judge",
            key="evaluate.judges",
        )
    return choice


def _held_out(part: Part, dev_R: Floats, best: Sequence[float | None], config: Config, seed: int) -> dict[str, Any]:
    """The learned vote on held-out groups: its agreement, and the difference to the chosen judge."""
    columns = replace(part.columns, score=dev_R)
    settings: dict[str, Any] = {
        "levels": (config.criterion.split(".")[0],),
        "resamples": config.resamples,
        "seed": seed,
    }
    return {
        "held_out": agreement(columns, shuffles=0, **settings)[config.criterion].to_json(),
        "minus_chosen": compare(columns, best, **settings)[config.criterion].to_json(),
    }


def _parts(evaluated: Path, run: RunConfig, config: Config) -> Iterable[Part]:
    rows: dict[Key, list[dict[str, Any]]] = {}
    for row in pq.read_table(evaluated / "scores.parquet").to_pylist():
        if row["label"] is not None:
            rows.setdefault((row["task"], row["aspect"]), []).append(row)
    judges = run.evaluate.judges  # type: ignore[attr-defined]
    for (task, aspect), rated in sorted(rows.items()):
        scale = load_task(task).scale_of(aspect)
        scales = [Scale(row["scale_low"], row["scale_high"]) for row in rated]

        def moved(name: str, rated: list[dict[str, Any]] = rated, scales: Any = scales, scale: Scale = scale) -> Any:
            values = [row[name] for row in rated]
            return [v if v is None else one.rescale(v, scale) for v, one in zip(values, scales, strict=True)]

        groups = [f"{row['dataset']}/{row['group']}" for row in rated]
        ids = {row["id"] for row in rated}
        costs = {
            name: (mean_tokens(evaluated / "verdicts" / name, aspect, ids) or 0.0) * config.cost.get(judge.model, 1.0)
            for name, judge in judges.items()
        }
        columns = Columns(groups, moved("label"), [None] * len(rated))
        yield Part(task, aspect, scale, columns, {name: moved(f"{name}.score") for name in judges}, costs)


def _entry(part: Part, choice: Choice) -> dict[str, Any]:
    return {
        "task": part.task,
        "aspect": part.aspect,
        "judge": choice.judge,
        "why": choice.why,
        "num_rows": len(part.columns.human),
        "num_groups": len(set(part.columns.group)),
        "candidates": {
            name: {
                "agreement": one.agreement.to_json(),
                "minus_best": one.minus_best.to_json() if one.minus_best else None,
                "cost": round(one.cost, 2),
                "out": one.out,
            }
            for name, one in choice.candidates.items()
        },
    }


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal: the chosen judge among the candidates, and the learned weights."""
    lines = []
    for one, learned in zip(summary["chosen"], summary["learned"], strict=True):
        lines.append(
            f"{one['task']}/{one['aspect']}: {one['judge']} ({one['num_rows']} dev texts, {one['num_groups']} groups): "
            f"{one['why']}"
        )
        for name, judge in one["candidates"].items():
            note = f"  {judge['out']}" if judge["out"] else ""
            weight = f"  weight {learned['weights'][name]:.2f}"
            lines.append(
                f"  {name:<16} {with_interval(judge['agreement'])}  {judge['cost']:,.0f} per text{weight}{note}"
            )
        note = f"; {learned['note']}" if learned["note"] else ""
        lines.append(
            f"  {'learned vote':<16} {with_interval(learned['held_out'])} on held-out groups, minus {one['judge']} "
            f"{with_interval(learned['minus_chosen'])}{note}"
        )
    lines.append(
        f"{summary['criterion']} [95 % interval] on the dev part, also used for the selection; {summary['folder']}"
    )
    return "\n".join(lines)
