"""Batch inference of the integrating model: for every record and aspect the final score from the judges' verdicts.

Below `{run}/evaluate/integrator`: `asked/part-*.parquet` (requests, made once all judges are done) and
`part-*.parquet` (id, aspect, score, reason, error). Rows without an aggregated score are not queried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artifacts import whole_folder
from cluster.generate import SEED, Batch, Sampling
from cluster.generate_parts import generate_parts
from cluster.model_specs import ModelSpec
from cluster.parts import parts_of, sound_rows, write_part
from evaluation.batch.scores import VerdictsOnDisk
from evaluation.batch.verdicts import aspects_of_row
from evaluation.judges.aggregation import Ballot
from evaluation.judges.integrator import IntegratorConfig, integration_request, integration_score
from judging.judge import Judge
from judging.records import Record, Verdict, content_id, seed_of
from judging.template import Template

ASKED_SCHEMA = pa.schema(
    [(name, pa.large_string()) for name in ("id", "task", "aspect", "prompt", "reply_prefix", "json_schema")]
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "aspect", "reason", "error")),
        ("score", pa.float64()),
        ("num_prompt_tokens", pa.int64()),
        ("num_generated_tokens", pa.int64()),
    ]
)


def integrate_all(
    folder: Path,
    judges: Mapping[str, Judge],
    config: IntegratorConfig,
    spec: ModelSpec,
    special_tokens: tuple[str, ...],
    ballot: Ballot,
    *,
    aspects: tuple[str, ...] | None,
    seed: int,
) -> None:
    """Complete `folder/integrator` for the verdicts in `folder/verdicts`.

    Args:
        folder: of the evaluation.
        judges: by name.
        config: the section `evaluate.integrator`.
        spec: its model.
        special_tokens: of the model; removed from the texts.
        ballot: aggregates the scores; rows without an aggregated score are not queried.
        aspects: to judge; None: every aspect with human scores.
        seed: of the judges' order and of sampling.
    """
    out = folder / "integrator"
    out.mkdir(exist_ok=True)
    if not (out / "asked").exists():
        with whole_folder(out / "asked") as beside:
            _write_asked(folder, beside, judges, special_tokens, ballot, aspects=aspects, seed=seed)
    done = {content_id(row["id"], row["aspect"]) for row in sound_rows(out, ("id", "aspect"))}
    known = {part: pq.read_table(part, columns=["id", "aspect"]).to_pylist() for part in parts_of(out / "asked")}
    missing = {
        part: sum(content_id(row["id"], row["aspect"]) not in done for row in rows) for part, rows in known.items()
    }
    blocks = [{"part": str(part.resolve()), "num_rows": number} for part, number in missing.items() if number]
    if not blocks:
        return
    generate_parts(
        blocks,
        spec,
        Sampling(max_tokens=config.max_tokens, temperature=config.temperature, seed=seed),
        requests=(_requests, done, seed if config.is_sampled else None),
        write=(_write, dict(next(iter(judges.values())).templates), str(out.resolve())),
        what=f"evaluate: integrator {config.model}",
        total=sum(map(len, known.values())),
        done=len(done),
    )


def _write_asked(
    folder: Path,
    beside: Path,
    judges: Mapping[str, Judge],
    special_tokens: tuple[str, ...],
    ballot: Ballot,
    *,
    aspects: tuple[str, ...] | None,
    seed: int,
) -> None:
    """Write the requests, one part per block of records."""
    verdicts = {name: VerdictsOnDisk(folder / "verdicts" / name) for name in judges}
    templates = next(iter(judges.values())).templates
    for part in parts_of(folder / "records"):
        rows = list(_asked_rows(part, verdicts, templates, special_tokens, ballot, aspects=aspects, seed=seed))
        if rows:
            pq.write_table(pa.Table.from_pylist(rows, schema=ASKED_SCHEMA), beside / part.name)


def _asked_rows(
    part: Path,
    verdicts: Mapping[str, VerdictsOnDisk],
    templates: Mapping[tuple[str, str], Template],
    special_tokens: tuple[str, ...],
    ballot: Ballot,
    *,
    aspects: tuple[str, ...] | None,
    seed: int,
) -> Iterator[dict[str, Any]]:
    rows = pq.read_table(part).to_pylist()
    wanted = {row["id"]: aspects_of_row(row, aspects) for row in rows}
    keys = [(id, aspect) for id, some in wanted.items() for aspect in some]
    by_judge = {name: known.of(keys) for name, known in verdicts.items()}
    for row in rows:
        record = Record.from_row(row)
        for aspect in wanted[record.id]:
            given = [
                Verdict(name, aspect, *(one[record.id, aspect][key] for key in ("score", "mode", "unscored", "reason")))
                for name, one in by_judge.items()
            ]
            if ballot.count(record.task, given).score is None:
                continue
            template = templates[record.task, aspect]
            asked = integration_request(record, template, given, seed=seed, special_tokens=special_tokens)
            columns = {name: asked[name] for name in ("prompt", "reply_prefix", "json_schema")}
            yield {"id": record.id, "task": record.task, "aspect": aspect, **columns}


def _requests(batch: Batch, done: set[str], seed: int | None) -> Batch:
    """Input column: part. Output columns: id, task, aspect, and those that cluster.generate reads.

    `seed`: of the run, where replies are sampled.
    """
    rows = [
        {**row, "labels": [], **({} if seed is None else {SEED: seed_of(seed, row["prompt"])})}
        for part in batch["part"]
        for row in pq.read_table(part).to_pylist()
        if content_id(row["id"], row["aspect"]) not in done
    ]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _write(batch: Batch, templates: Mapping[tuple[str, str], Template], folder: str) -> Batch:
    """Input columns: those of `_requests` and of cluster.generate. Writes one part; output column: num_rows."""
    rows = []
    for index in range(len(batch["id"])):
        reply = {name: column[index] for name, column in batch.items()}
        template = templates[reply["task"], reply["aspect"]]
        score, reason, error = integration_score(template, reply["reply"], reply["error"], reply["finish_reason"])
        tokens = {name: int(reply[name]) for name in ("num_prompt_tokens", "num_generated_tokens")}
        rows.append(
            {"id": reply["id"], "aspect": reply["aspect"], "score": score, "reason": reason, "error": error, **tokens}
        )
    write_part(Path(folder), rows, SCHEMA, (f"{row['id']}/{row['aspect']}" for row in rows))
    return {"num_rows": [len(rows)]}


def integrated(folder: Path) -> dict[tuple[str, str], dict[str, Any]] | None:
    """Score, reason and error by (record id, aspect); None without an integrating model."""
    out = folder / "integrator"
    if not out.is_dir():
        return None
    rows = sound_rows(out, ("id", "aspect", "score", "reason", "error"))
    return {(row["id"], row["aspect"]): row for row in rows}
