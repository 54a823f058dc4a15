"""Job `transfer`: prompt transfer between models, as a matrix of agreement of every judge with every learned prompt.

Below `{run}/transfer`: `evaluate/` (one judge per prompt and model, in the layout of that job) and `matrix.json`. A
cell is one model judging with the prompts of one source, learned for one model: the selected prompt, or with
`every_candidate` all valid ones, whose mean has an interval over groups and prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cluster.artifacts import JobDir, Outcome, write_text
from cluster.config import RunConfig, section
from cluster.identity import spec_of
from cluster.strict import Strict
from cluster.tables import aligned
from cluster.terminal import say
from evaluation.batch import evaluate as batch
from evaluation.batch.config import Config as EvaluateConfig
from evaluation.judges.judge_config import JudgeConfig
from evaluation.judges.prompt_sources import RUBRIC
from evaluation.measure.formatting import with_interval
from evaluation.measure.slices import labelled_slices
from judging.errors import InputError
from judging.stats.mean_agreement import mean_agreement
from judging.stats.rows import Columns

SHOWN = ("group.spearman", "dataset.spearman")
LENGTH = "length"
Key = tuple[str, str]  # the prompt's source and model ("inverse smollm2"), and the judging model


class Config(Strict):
    """The configuration's `transfer` section."""

    judges: tuple[str, ...] = Field(min_length=1, description="names under `models`; each judges with every prompt")
    prompts_of: tuple[str, ...] | None = Field(
        None, min_length=1, description="models whose learned prompts are used; unset: those of `judges`"
    )
    sources: tuple[Literal["rubric", "forward", "inverse"], ...] = Field(
        ("rubric", "forward", "inverse"), min_length=1, description="sources of the prompts"
    )
    every_candidate: bool = Field(False, description="use all valid candidates of a source instead of the selected one")
    aspects: tuple[str, ...] | None = Field(
        None, min_length=1, description="aspects to judge; unset: every aspect with human scores"
    )
    resamples: int = Field(2000, ge=100, description="bootstrap resamples")
    max_unscored_share: float = Field(
        0.05, ge=0, le=1, description="accepted share without a score, of any judge; above it: exit 3"
    )


def main(run: RunConfig) -> Outcome:
    """Judge with every prompt and measure every cell. Raises InputError where `invert` has not finished."""
    config = section(run, "transfer", Config)
    cells = dict(_cells(run, config))
    judges = {f"{judge}.{name}": spec for (_, judge), found in cells.items() for name, spec in found.items()}
    inner = EvaluateConfig(
        judges=judges, aspects=config.aspects, max_unscored_share=config.max_unscored_share, block_rows=64
    )
    evaluated = batch.main(run.model_copy(update={"run": run.run / "transfer", "evaluate": inner}))
    columns = {key: [f"{key[1]}.{name}" for name in found] for key, found in cells.items()}
    say(f"transfer: measuring {len(judges)} prompts, {config.resamples} resamples")
    slices = list(_measured(run.run / "transfer" / "evaluate" / "scores.parquet", columns, config, run.seed))
    file = run.run / "transfer" / "matrix.json"
    summary = {"evaluation": evaluated.summary, "slices": slices, "file": str(file.resolve())}
    write_text(file, json.dumps(summary, indent=1))
    return Outcome(evaluated.exit_code, summary)


def _cells(run: RunConfig, config: Config) -> Iterator[tuple[Key, dict[str, JudgeConfig]]]:
    """The judges of each cell, by the rest of their name: "rubric", "inverse.smollm2", "inverse.smollm2.003"."""
    for judge in config.judges:
        if judge not in run.models:
            raise InputError(
                f"transfer.judges: unknown model {judge!r}; `models` has {', '.join(run.models) or 'none'}.",
                code="unknown_model",
                key="transfer.judges",
            )
        spec_of(run, judge, "transfer.judges")  # refuses a text feature, which has no prompt
        for source in config.sources:
            if source == RUBRIC:
                yield (RUBRIC, judge), {RUBRIC: JudgeConfig(model=judge)}
                continue
            for owner in config.prompts_of or config.judges:
                files = _files(run, config, source, owner)
                found = {
                    ".".join(filter(None, (source, owner, rest))): JudgeConfig(model=judge, prompt=str(path))
                    for rest, path in files.items()
                }
                yield (f"{source} {owner}", judge), found


def _files(run: RunConfig, config: Config, source: str, owner: str) -> dict[str, Path]:
    """A source's prompts by the end of their judges' names: the selected ones' folder, or every candidate's file."""
    job = JobDir(run.run / "invert", owner)
    if job.manifest() is None or not (job.path / source).is_dir():
        raise InputError(
            f"transfer: no finished {source} prompts in {job.path}. Run `inverdict invert` first.",
            code="missing_job",
            key="transfer.sources",
        )
    if not config.every_candidate:
        return {"": job.path / source}
    files = sorted((job.path / "candidates" / source).glob("*.txt"))
    tasks = {file.name.split(".")[0] for file in files}
    if len(tasks) > 1:
        raise InputError(
            f"transfer.every_candidate: {job.path} has prompts for several tasks ({', '.join(sorted(tasks))}). Invert "
            "each task in a run folder of its own.",
            code="unsupported",
            key="transfer.every_candidate",
        )
    if not files:
        raise InputError(
            f"transfer.every_candidate: all {source} candidates in {job.path} were rejected, see "
            "candidates.jsonl there. Choose other sources or models.",
            code="unknown_prompt",
            key="transfer.every_candidate",
        )
    return {file.stem.split(".")[-1]: file for file in files}


def _measured(
    scores: Path, columns: Mapping[Key, Sequence[str]], config: Config, seed: int
) -> Iterator[dict[str, Any]]:
    """One entry per task, data set, aspect and scale: every cell, and its difference to the judge's rubric."""
    for (task, dataset, aspect, *_), rows in labelled_slices(scores).items():
        known = Columns([row["group"] for row in rows], [row["label"] for row in rows], [None] * len(rows))
        values = {key: [[row[f"{name}.score"] for row in rows] for name in names] for key, names in columns.items()}
        cells = []
        for key, scores_of_each in values.items():
            cells.append(_cell(key, known, scores_of_each, values.get((RUBRIC, key[1])), config, seed))
        length = mean_agreement(
            known, [[row["candidate_chars"] for row in rows]], resamples=config.resamples, seed=seed
        )
        yield {
            "task": task,
            "dataset": dataset,
            "aspect": aspect,
            "scale": [rows[0]["scale_low"], rows[0]["scale_high"]],
            "num_rows": len(rows),
            "num_groups": len({row["group"] for row in rows}),
            "cells": cells,
            LENGTH: {name: length[name].to_json() for name in SHOWN},
        }


def _cell(
    key: Key, known: Columns, found: Sequence[Any], rubric: Sequence[Any] | None, config: Config, seed: int
) -> dict[str, Any]:
    estimates = mean_agreement(known, found, resamples=config.resamples, seed=seed)
    single = [mean_agreement(known, [one], resamples=2, seed=seed) for one in found]
    cell: dict[str, Any] = {"prompt": key[0], "judge": key[1], "num_prompts": len(found)}
    for name in SHOWN:
        cell[name] = estimates[name].to_json()
        cell[f"{name}.of_each_prompt"] = [one[name].to_json()["value"] for one in single]
    if rubric is not None and key[0] != RUBRIC:
        differences = mean_agreement(known, found, minus=rubric, resamples=config.resamples, seed=seed)
        cell["minus_rubric"] = {name: differences[name].to_json() for name in SHOWN}
    return cell


def render(summary: Mapping[str, Any]) -> str:
    """The matrices for the terminal: one row per prompt source, one column per judge."""
    blocks = []
    for part in summary["slices"]:
        title = f"{part['task']} / {part['dataset'] or 'records'} / {part['aspect']}"
        shape = f"{part['num_rows']} rows, {part['num_groups']} groups"
        for name in SHOWN:
            blocks.append(f"{title}: {name}, {shape}\n{_matrix(part, name)}")
    return (
        "\n\n".join(blocks) + "\n\n[ ] 95 % interval over groups, and over prompts where a cell has several (x n). "
        f"Rows: source and model of the prompt; columns: judge.\n{summary['file']}"
    )


def _matrix(part: Mapping[str, Any], name: str) -> str:
    judges = list(dict.fromkeys(cell["judge"] for cell in part["cells"]))
    cells = {(cell["prompt"], cell["judge"]): cell for cell in part["cells"]}
    rows = [["prompt", *judges]]
    for prompt in dict.fromkeys(cell["prompt"] for cell in part["cells"]):
        rows.append([prompt, *(_text(cells[prompt, judge], name) for judge in judges)])
        if prompt != RUBRIC and (RUBRIC, judges[0]) in cells:
            rows.append(["  minus rubric", *(_text(cells[prompt, judge]["minus_rubric"], name) for judge in judges)])
    rows.append([LENGTH, *(_text(part[LENGTH], name) for _ in judges)])
    return aligned(rows, num_left=len(rows[0]))


def _text(cell: Mapping[str, Any], name: str) -> str:
    several = f" x {cell['num_prompts']}" if cell.get("num_prompts", 1) > 1 else ""
    return with_interval(cell[name]) + several
