"""Job `feedback`: the utility of each example: the judge scores a text with that one example in its prompt.

Below `{run}/feedback`: `pairs/part-*.parquet` (id, query_id, example_id, task, aspect, arm), `part-*.parquet` (those,
then score, utility, label_mass, error), `manifest.json`. Queries and examples come from `data.pool`; under
`data.pool_share`, from its groups that are never judged. utility = 1 - |score - human score| / width of the scale:
1 is best. A pair without a score keeps the reason; an interrupted job resumes from the finished parts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import feasibility as demands
from cluster import models, runtime
from cluster.artifacts import JobDir, Outcome
from cluster.config import RunConfig, section
from cluster.engine import api_key
from cluster.errors import JobFailed
from cluster.generate import Batch, Sampling
from cluster.generate_parts import generate_parts
from cluster.identity import model_identity, spec_of
from cluster.model_specs import HttpSpec, ModelSpec
from cluster.parts import forget_rows, parts_of, sound_rows, write_part
from cluster.precision import settled
from cluster.tokens import labels_problem, special_tokens_of
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.judge import Judge
from judging.records import Record
from judging.tasks import load_task
from judging.template import LABEL_PREFIX, Template, rubric_template
from retrieval.feedback_config import Config
from retrieval.mining import PAIR_SCHEMA, mine, write_pairs
from retrieval.pool import finished, pool_identity, rated_data, rated_pool, towers_identity

SCHEMA = pa.schema(
    [
        *PAIR_SCHEMA,
        ("score", pa.float64()),
        ("utility", pa.float64()),
        ("label_mass", pa.float64()),
        ("error", pa.string()),
    ]
)


def main(run: RunConfig, *, retry_failed: bool = False) -> Outcome:
    """Score every selected pair of text and example with the judge; resume an interrupted run.

    `retry_failed`: score the pairs without a score again.
    """
    config, data = section(run, "feedback", Config), rated_data(run)
    spec = spec_of(run, config.model, "feedback.model")
    job = JobDir(run.run, "feedback")
    fingerprint = {
        "feedback": json.loads(config.model_dump_json(exclude={"block_rows"})),
        "pool": pool_identity(data),
        "model": model_identity(spec),
        "encoder": models.resolve(config.encoder).fingerprint if config.semantic else None,
        "towers": towers_identity(_towers(config, data)) if config.towers else None,
        "seed": run.seed,
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        pool = rated_pool(data)
        wanted = wanted_aspects(pool, config.aspects)
        templates = {key: rubric_template(load_task(key[0]), key[1]) for key in wanted}
        _check_askable(spec, templates)
        job.claim()
        runtime.start(run.ray)
        demands.check(run, [config.model])
        if not (job.path / "pairs").exists():
            write_pairs(job.path, list(mine(config, pool, wanted, run.seed)), config.block_rows)
        judge = Judge(
            config.model,
            "expected",
            templates,
            special_tokens=special_tokens_of(spec),
            min_label_mass=config.min_label_mass,
            pool=pool,
        )
        _ask(run, config, job.path, judge)
        summary = {**_summary(job.path), "pool": fingerprint["pool"]}
        if not summary["aspects"]:
            for part in parts_of(job.path):
                part.unlink()  # so that the same command tries again
            raise _no_score(config.model, summary["unscored"])
        return summary

    def reopens() -> bool:
        return retry_failed and forget_rows(parts_of(job.path), "utility", job.reopen)

    return Outcome(0, job.complete(fingerprint, work, what="feedback", reopens=reopens))


def _no_score(model: str, unscored: Mapping[str, int]) -> JobFailed:
    reasons = ", ".join(f"{number} {kind}" for kind, number in unscored.items())
    return JobFailed(
        f"feedback: the judge {model} returned no score ({reasons}). Check the model, then run the same command again.",
        code="no_scores",
    )


def _towers(config: Config, data: DataConfig) -> Path:
    """The `fit` of the earlier round. Raises InputError where it is missing or of another pool."""
    assert config.towers is not None
    job = JobDir(config.towers, "fit")
    finished(job, data)
    return job.path.resolve()


def _check_askable(spec: ModelSpec, templates: Mapping[tuple[str, str], Template]) -> None:
    """Check here what would otherwise fail inside the workers. Raises InputError or UserError."""
    if isinstance(spec, HttpSpec):
        api_key(spec)
    for (task, aspect), template in templates.items():
        if problem := labels_problem(spec, LABEL_PREFIX, template.scale.labels()):
            raise InputError(
                f"`feedback.model` cannot score {task}/{aspect} by label probabilities: {problem}",
                code="unsupported",
                key="feedback.model",
            )


def wanted_aspects(pool: Mapping[str, Record], aspects: Sequence[str] | None) -> list[tuple[str, str]]:
    """(task, aspect) pairs to collect feedback for: those of `aspects`, or all rated ones that the task defines.

    Raises InputError where the pool cannot give feedback: no score on an aspect of `aspects`, or only one group.
    """
    groups: dict[tuple[str, str], set[str]] = {}
    for record in pool.values():
        known = load_task(record.task).aspects
        for aspect in record.scores:
            if aspect in known and (aspects is None or aspect in aspects):
                groups.setdefault((record.task, aspect), set()).add(record.group_key)
    for aspect in aspects or ():
        if not any(aspect == found for _, found in groups):
            raise InputError(
                f"`feedback.aspects`: no text of data.pool is rated on {aspect!r}.",
                code="no_scores",
                key="feedback.aspects",
            )
    if not groups:
        raise InputError(
            "`data.pool` has no human score on an aspect of its tasks. Check data.aspects, or add rated texts.",
            code="no_scores",
            key="data.pool",
        )
    for (task, aspect), keys in groups.items():
        if len(keys) < 2:
            raise InputError(
                f"`data.pool` has only one group of {task} rated on {aspect}, but an example is never shown for its "
                "own group. Add rated texts of a second group.",
                code="not_enough_groups",
                key="data.pool",
            )
    return sorted(groups)


def _ask(run: RunConfig, config: Config, folder: Path, judge: Judge) -> None:
    """Score every pair that has no score yet."""
    done = {row["id"] for row in sound_rows(folder, ["id"])}
    rows = {part: pq.read_table(part, columns=["id"]).column("id").to_pylist() for part in parts_of(folder / "pairs")}
    missing = {part: sum(id not in done for id in ids) for part, ids in rows.items()}
    blocks = [{"part": str(part.resolve()), "num_rows": number} for part, number in missing.items() if number]
    if not blocks:
        return
    import ray

    known = ray.put(judge)
    generate_parts(
        blocks,
        settled(run, spec_of(run, config.model, "feedback.model")),
        Sampling(seed=run.seed),
        requests=(_requests, known, done),
        write=(_write, known, str(folder.resolve())),
        what=f"feedback: {config.model}",
        total=sum(map(len, rows.values())),
        done=len(done),
    )


def _requests(batch: Batch, known: Any, done: set[str]) -> Batch:
    """Input column: part. Output columns: those of a pair, and those that cluster.generate reads."""
    judge = _held(known)
    pairs = [row for part in batch["part"] for row in pq.read_table(part).to_pylist() if row["id"] not in done]
    rows = [
        {**pair, **judge.request(judge.pool[pair["query_id"]], pair["aspect"], [pair["example_id"]])} for pair in pairs
    ]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _write(batch: Batch, known: Any, folder: str) -> Batch:
    """Input columns: those of `_requests` and of cluster.generate. Writes one part; output column: num_rows."""
    judge = _held(known)
    rows = []
    for place in range(len(batch["id"])):
        row = {name: column[place] for name, column in batch.items()}
        template = judge.templates[row["task"], row["aspect"]]
        verdict = judge.verdict(row["task"], row["aspect"], row)
        utility = None
        if verdict.score is not None:
            given = judge.pool[row["query_id"]].score_on(template.aspect, template.scale)
            wrong = abs(verdict.score - given) / template.scale.width
            utility = 1 - wrong
        told = {"score": verdict.score, "label_mass": verdict.label_mass, "error": verdict.unscored or ""}
        rows.append({**{name: row[name] for name in PAIR_SCHEMA.names}, "utility": utility, **told})
    write_part(Path(folder), rows, SCHEMA, (str(row["id"]) for row in rows))
    return {"num_rows": [len(rows)]}


def _held(known: Any) -> Judge:
    """The judge behind Ray's reference, or as it is."""
    import ray

    held: Judge = ray.get(known) if isinstance(known, ray.ObjectRef) else known
    return held


def _summary(folder: Path) -> dict[str, Any]:
    """Counts, and by task and aspect: pairs, mean utility, and the mean gain of the best example over the mean one."""
    found: dict[str, dict[str, Any]] = {}
    utilities: dict[str, dict[str, list[float]]] = {}
    errors: Counter[str] = Counter()
    for row in sound_rows(folder, [name for name in SCHEMA.names if name not in ("score", "label_mass")]):
        key = f"{row['task']}/{row['aspect']}"
        if row["utility"] is None:
            errors[row["error"]] += 1
        else:
            utilities.setdefault(key, {}).setdefault(row["query_id"], []).append(row["utility"])
    for key, by_query in sorted(utilities.items()):
        several = [values for values in by_query.values() if len(values) > 1]
        found[key] = {
            "num_queries": len(by_query),
            "num_pairs": sum(map(len, by_query.values())),
            "mean_utility": float(np.mean([np.mean(values) for values in by_query.values()])),
            "mean_gain_of_best": float(np.mean([max(values) - np.mean(values) for values in several]))
            if several
            else None,
        }
    return {"aspects": found, "unscored": dict(errors), "folder": str(folder)}


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    width = max([len(key) for key in summary["aspects"]], default=0)
    lines = []
    for key, found in summary["aspects"].items():
        best = found["mean_gain_of_best"]
        lines.append(
            f"{key:<{width}}  {found['num_pairs']} pairs of {found['num_queries']} texts, mean utility "
            f"{found['mean_utility']:.3f}" + (f", best example of a text {best:+.3f}" if best is not None else "")
        )
    if summary["unscored"]:
        lines.append("unscored: " + ", ".join(f"{number} {kind}" for kind, number in summary["unscored"].items()))
    return "\n".join([*lines, f"  {summary['folder']}"])
