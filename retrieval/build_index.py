"""Job `index`: the pool's rated texts -> FAISS indexes of plain and, after `fit`, of trained embeddings.

Below `{run}/index`: `semantic/{task}/` and `trained/{task}.{aspect}/` (see faiss_index.py), `manifest.json`. For
approximate kinds the recall against exact search is measured and reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster import models, runtime
from cluster.artifacts import JobDir, Outcome
from cluster.config import RunConfig, section
from cluster.strict import Strict
from cluster.terminal import say
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record
from judging.tasks import load_task
from retrieval.encode import encode
from retrieval.faiss_index import Example, ExampleIndex, Kind, recall
from retrieval.pool import finished, pool_identity, rated_data, rated_pool, towers_identity
from retrieval.retriever import semantic_folder, trained_folder
from retrieval.texts import example_text, plain_text

RECALL_AT, RECALL_QUERIES = 4, 1000


class Config(Strict):
    """The configuration's `index` section."""

    kind: Kind = Field(
        "flat", description="flat: exact, for up to a million texts; hnsw, ivf: approximate, recall is measured"
    )
    encoder: str = Field("embedded:all-minilm-l6-v2", description="sentence encoder for plain semantic search")
    max_length: int = Field(256, ge=8, description="tokens read of a text; with trained towers the same as in `fit`")


def main(run: RunConfig) -> Outcome:
    """Index the pool, with the trained towers where the configuration has a `fit` section."""
    config, data = section(run, "index", Config), rated_data(run)
    towers = _towers(run, config, data)
    plain = models.resolve(config.encoder)
    encoders: dict[str, Any] = {
        "semantic": config.encoder,
        "semantic_made_by": f"{plain.fingerprint}/{config.max_length}",
        "trained_made_by": towers_identity(towers) if towers else "",
        "max_length": config.max_length,
    }
    job = JobDir(run.run, "index")
    fingerprint = {
        "index": json.loads(config.model_dump_json(exclude={"encoder"})),
        "pool": pool_identity(data),
        "made_by": [encoders["semantic_made_by"], encoders["trained_made_by"]],
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        pool = rated_pool(data)
        wanted = rated_aspects(pool)
        job.claim()
        runtime.start(run.ray)
        found = {}
        for task in dict.fromkeys(task for task, _ in wanted):
            known = [record for record in pool.values() if record.task == task]
            texts = [plain_text(record) for record in known]
            place = semantic_folder(job.path, task)
            found[f"semantic/{task}"] = _build(
                config, config.encoder, texts, known, place, encoders["semantic_made_by"]
            )
        for task, aspect in wanted if towers else ():
            known = [record for record in pool.values() if record.task == task and aspect in record.scores]
            texts = [example_text(record, aspect) for record in known]
            place = trained_folder(job.path, task, aspect)
            example = str((towers / "example").resolve()) if towers else ""
            found[f"trained/{task}/{aspect}"] = _build(
                config, example, texts, known, place, encoders["trained_made_by"]
            )
        made = {"encoders": encoders, "pool": fingerprint["pool"]}
        return {"indexes": found, "kind": config.kind, **made, "folder": str(job.path)}

    return Outcome(0, job.complete(fingerprint, work, what="index"))


def rated_aspects(pool: Mapping[str, Record]) -> list[tuple[str, str]]:
    """(task, aspect) pairs that the pool has rated examples for. Raises InputError where there is none."""
    pairs = {(r.task, aspect) for r in pool.values() for aspect in r.scores if aspect in load_task(r.task).aspects}
    if not pairs:
        raise InputError(
            "`data.pool` has no human score on an aspect of its tasks, so there is no example to index. Check "
            "data.aspects, or add rated texts.",
            code="no_scores",
            key="data.pool",
        )
    return sorted(pairs)


def _towers(run: RunConfig, config: Config, data: DataConfig) -> Path | None:
    """The folder of trained towers, or None where the configuration trains none."""
    fit = getattr(run, "fit", None)
    if fit is None:
        return None
    job = JobDir(run.run, "fit")
    finished(job, data)
    if fit.max_length != config.max_length:
        raise InputError(
            f"`index.max_length` is {config.max_length}, but the towers were trained with {fit.max_length} tokens. Set "
            "both to the same value.",
            code="conflict",
            key="index.max_length",
        )
    return job.path


def _build(
    config: Config, source: str, texts: Sequence[str], records: Sequence[Record], place: Path, made_by: str
) -> dict[str, Any]:
    say(f"index: {place.parent.name}/{place.name}: {len(texts)} texts")
    vectors = encode(source, texts, config.max_length)
    examples = [Example(record.id, record.group_key) for record in records]
    index = ExampleIndex.build(vectors, examples, kind=config.kind, made_by=made_by)
    index.save(place)
    told: dict[str, Any] = {"num_examples": len(index), "dimension": index.dimension}
    if config.kind != "flat":
        exact = ExampleIndex.build(vectors, examples, kind="flat", made_by=made_by)
        told["recall"] = recall(index, exact, vectors[:RECALL_QUERIES], RECALL_AT)
    return told


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    lines = []
    for name, found in summary["indexes"].items():
        told = f", recall@{RECALL_AT} {found['recall']:.3f}" if "recall" in found else ""
        lines.append(
            f"{name}: {found['num_examples']} examples, {found['dimension']} dimensions, {summary['kind']}{told}"
        )
    return "\n".join([*lines, f"  {summary['folder']}"])
