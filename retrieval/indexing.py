"""Job `index`: the pool's rated texts -> FAISS indexes of plain and, after `fit`, of trained embeddings.

Below `{run}/index`: `semantic/{task}/` and `trained/{task}.{aspect}/` (see index.py), `manifest.json`. For approximate
kinds the recall against the exact search is measured and told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from cluster import models, runtime
from cluster.artifacts import JobDir, file_hash
from cluster.config import RunConfig, Strict
from cluster.identity import input_hashes
from judging.datasets import DataConfig, read_pool
from judging.errors import InputError
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from retrieval.encode import encode
from retrieval.feedback import wanted_aspects
from retrieval.index import Example, ExampleIndex, Kind, recall
from retrieval.retriever import semantic_folder, trained_folder
from retrieval.texts import example_text, plain_text

RECALL_AT, RECALL_QUERIES = 4, 1000


class Config(Strict):
    """The configuration's `index` section."""

    kind: Kind = Field("flat", description="flat: exact, enough to a million; hnsw, ivf: approximate, recall measured")
    encoder: str = Field("embedded:all-minilm-l6-v2", description="sentence encoder for plain semantic search")
    max_length: int = Field(256, ge=8, description="tokens of a text that are read; with trained towers: as in `fit`")


class Indexed(NamedTuple):
    exit_code: int
    summary: dict[str, Any]


def main(run: RunConfig) -> Indexed:
    """Index the pool, with the trained towers where the configuration has a `fit` section."""
    config: Config | None = getattr(run, "index", None)
    data: DataConfig | None = getattr(run, "data", None)
    if config is None or data is None or not data.pool:
        raise InputError(
            f"the configuration has no {'`index` section' if config is None else 'data.pool of rated texts'}"
        )
    towers = _towers(run, config)
    plain = models.resolve(config.encoder)
    encoders: dict[str, Any] = {
        "semantic": str(plain.path),
        "semantic_made_by": f"{plain.fingerprint}/{config.max_length}",
        "query": str((towers / "query").resolve()) if towers else None,
        "trained_made_by": f"{file_hash(towers / 'example')}/{config.max_length}" if towers else "",
        "max_length": config.max_length,
    }
    job = JobDir(run.run, "index")
    fingerprint = {
        "index": json.loads(config.model_dump_json(exclude={"encoder"})),
        "data": json.loads(data.model_dump_json(exclude={"records", "groups_share", "max_rejected_share", "labels"})),
        "files": input_hashes(data.pool),
        "tasks": file_hash(TASK_FOLDER),
        "made_by": [encoders["semantic_made_by"], encoders["trained_made_by"]],
        "versions": runtime.versions(),
    }
    with job.opened(fingerprint):
        if done := job.manifest():
            runtime.say(f"index: done before, {job.path} is up to date")
            return Indexed(0, dict(done["summary"]))
        pool = read_pool(data)
        wanted = wanted_aspects(pool, None)
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
        summary = {"indexes": found, "kind": config.kind, "encoders": encoders, "folder": str(job.path)}
        job.finish(summary)
    return Indexed(0, summary)


def _towers(run: RunConfig, config: Config) -> Path | None:
    """The folder of trained towers, or None where the configuration trains none."""
    fit = getattr(run, "fit", None)
    if fit is None:
        return None
    job = JobDir(run.run, "fit")
    if job.manifest() is None:
        raise InputError(f"{job.path} holds no trained towers: run `inverdict fit` first")
    if fit.max_length != config.max_length:
        raise InputError(
            f"index.max_length: the towers were trained on {fit.max_length} tokens, not {config.max_length}"
        )
    return job.path


def _build(
    config: Config, source: str, texts: Sequence[str], records: Sequence[Record], place: Path, made_by: str
) -> dict[str, Any]:
    runtime.say(f"index: {place.parent.name}/{place.name}: {len(texts)} texts")
    try:
        vectors = encode(source, texts, config.max_length)
    except ValueError as error:
        raise InputError(str(error)) from error
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
