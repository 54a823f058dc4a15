"""Job `fit`: the judge's feedback -> two towers that retrieve the examples with the highest utility, with Ray Train.

Below `{run}/fit`: `pairs/` (texts and utilities as the workers read them), `checkpoints/`, `query/` and `example/` (two
sentence-transformers folders), `fit.json` (losses, NDCG@4 on the held-out groups), `manifest.json`. fit_worker.py
is what each worker runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cluster import models, runtime
from cluster.artifacts import JobDir, Outcome, file_hash, read_json
from cluster.config import RunConfig, section
from cluster.parts import parts_of
from cluster.terminal import say
from cluster.training import TrainingConfig, train
from judging.errors import InputError
from judging.records import Record, content_id
from retrieval.fit_worker_args import Settings, Weight
from retrieval.ndcg import compare
from retrieval.ndcg import render as render_orders
from retrieval.pool import finished, pool_identity, rated_data, rated_pool, towers_identity
from retrieval.ranked_lists import QueryList, query_lists
from retrieval.texts import example_text, query_text

TEXT_SCHEMA = pa.schema([("text", pa.large_string()), ("group", pa.string())])
QUERY_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("query", pa.int64()),
        ("examples", pa.list_(pa.int64())),
        ("utilities", pa.list_(pa.float64())),
    ]
)
ONLY_SPEED = {"use_gpu", "cpus_per_worker", "accelerator_type", "max_failures"}


class Config(TrainingConfig):
    """The configuration's `fit` section."""

    encoder: str = Field(
        "embedded:all-minilm-l6-v2", description="sentence-transformers model that both towers start from"
    )
    shared: bool = Field(False, description="share one tower for both sides")
    max_length: int = Field(256, ge=8, description="tokens of a text that a tower reads; longer texts are truncated")
    scale: float = Field(20.0, gt=0, description="factor of the cosine similarity in the loss")
    weight: Weight = Field(
        "true_rank",
        description="weight of a pair in the loss: by the rank of the utilities, or by the current position",
    )
    lambda_rank: float = Field(
        0.8, ge=0, le=1, description="share of the ranking loss; the rest is the loss on in-batch negatives"
    )
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    epochs: int = Field(6, ge=1)
    patience: int = Field(2, ge=1, description="early stopping: epochs without a better NDCG on the held-out groups")
    batch_queries: int = Field(8, ge=1, description="queries per worker and step, each with all its scored examples")
    task_power: float = Field(0.5, ge=0, le=1, description="a task is sampled in proportion to its size to this power")
    dev_share: float = Field(
        0.2, gt=0, lt=1, description="share of the queries' groups that is held out, chosen by hash"
    )


def main(run: RunConfig) -> Outcome:
    """Train the towers on the output of `feedback`; resume an interrupted run."""
    config, data = section(run, "fit", Config), rated_data(run)
    feedback = JobDir(run.run, "feedback")
    finished(feedback, data)
    start = models.resolve(config.encoder)
    job = JobDir(run.run, "fit")
    fingerprint = {
        "feedback": [f"{part.name}={file_hash(part)}" for part in parts_of(feedback.path)],
        "fit": json.loads(config.model_dump_json(exclude={"encoder", *ONLY_SPEED})),
        "pool": pool_identity(data),
        "encoder": start.fingerprint,
        "seed": run.seed,
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        lists = query_lists(feedback.path)
        job.claim()
        pool = rated_pool(data)
        parts = split(lists, pool, config.dev_share, run.seed)
        counts = write_pairs(parts, pool, job.path / "pairs")
        say(f"fit: {counts['num_train']} training texts with their scored examples, {counts['num_dev']} held out")
        runtime.start(run.ray)
        if not (job.path / "fit.json").exists():
            from retrieval.fit_worker import fitting

            train(
                fitting, asdict(_settings(run, config, start.reference, job.path)), config, folder=job.path, what="fit"
            )
        facts = read_json(job.path / "fit.json") or {}
        shown = {key: facts[key] for key in ("ndcg", "by_epoch", "losses", "best_epoch", "num_epochs", "seconds")}
        orders = _orders(parts["dev"], pool, job.path, start.reference, config.max_length, run.seed)
        made = {"pool": fingerprint["pool"], "towers": towers_identity(job.path)}
        return {**counts, **shown, "orders": orders, **made, "folder": str(job.path)}

    return Outcome(0, job.complete(fingerprint, work, what="fit"))


def split(
    lists: Sequence[QueryList], pool: Mapping[str, Record], dev_share: float, seed: int
) -> dict[str, list[QueryList]]:
    """Split the lists into `train` and `dev` by a hash of the query's group.

    Args:
        lists: what `feedback` measured.
        pool: the records by id.
        dev_share: share of the groups that goes to `dev`, between 0 and 1.
        seed: of the hash.

    Returns:
        The lists by part.

    Raises:
        InputError: where one part is empty.
    """
    parts: dict[str, list[QueryList]] = {"train": [], "dev": []}
    for one in lists:
        held_out = int(content_id("dev", str(seed), pool[one.query_id].group_key), 16) < dev_share * 16**16
        parts["dev" if held_out else "train"].append(one)
    for name, found in parts.items():
        if not found:
            raise InputError(
                f"`fit.dev_share` of {dev_share:g} leaves no group for the {name} part. Change it, or add groups to "
                "data.pool.",
                code="not_enough_groups",
                key="fit.dev_share",
            )
    return parts


def write_pairs(parts: Mapping[str, Sequence[QueryList]], pool: Mapping[str, Record], folder: Path) -> dict[str, int]:
    """Write the training data of the workers.

    Args:
        parts: the lists by part (`train`, `dev`).
        pool: the records by id.
        folder: where `texts.parquet` (each text once) and `train.parquet`, `dev.parquet` (row numbers in it) go.

    Returns:
        `num_train`, `num_dev`, `num_texts`.
    """
    folder.mkdir(exist_ok=True)
    places: dict[tuple[str, str, str], int] = {}
    texts: list[dict[str, str]] = []

    def place(side: str, id: str, aspect: str) -> int:
        key = (side, id, aspect)
        if key not in places:
            record = pool[id]
            text = query_text(record, aspect) if side == "query" else example_text(record, aspect)
            places[key] = len(texts)
            texts.append({"text": text, "group": record.group_key})
        return places[key]

    for name, lists in parts.items():
        rows = [
            {
                "task": f"{one.task}/{one.aspect}",
                "query": place("query", one.query_id, one.aspect),
                "examples": [place("example", id, one.aspect) for id in one.example_ids],
                "utilities": one.utilities,
            }
            for one in lists
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=QUERY_SCHEMA), folder / f"{name}.parquet")
    pq.write_table(pa.Table.from_pylist(texts, schema=TEXT_SCHEMA), folder / "texts.parquet")
    return {"num_train": len(parts["train"]), "num_dev": len(parts["dev"]), "num_texts": len(texts)}


def _orders(
    held_out: Sequence[QueryList], pool: Mapping[str, Record], folder: Path, semantic: str, max_length: int, seed: int
) -> dict[str, Any]:
    """NDCG of the towers and of the baselines on the held-out lists. In a worker: the driver loads no torch."""
    import ray

    folders = {side: str((folder / side).resolve()) for side in ("query", "example")} | {"semantic": semantic}
    found: dict[str, Any] = ray.get(
        ray.remote(num_cpus=1)(compare).remote(held_out, dict(pool), folders, max_length, seed)
    )
    return found


def _settings(run: RunConfig, config: Config, start: str, folder: Path) -> Settings:
    place = folder.resolve()
    kept = config.model_dump(exclude={"encoder", "dev_share", "num_workers", *ONLY_SPEED})
    return Settings(
        start=start, source=config.encoder, pairs=str(place / "pairs"), out=str(place), seed=run.seed, **kept
    )


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    return (
        f"{summary['num_train']} training texts, NDCG@4 {summary['ndcg']['before']:.3f} before training, "
        f"{summary['ndcg']['after']:.3f} after epoch {summary['best_epoch']} of {summary['num_epochs']} (selected on "
        f"these held-out texts), "
        f"{summary['seconds']:.0f} s\n{render_orders(summary['orders'])}\n  {summary['folder']}"
    )
