"""Job `distill`: generate the forward model's responses to an instruction set, as Parquet. Knows no training.

Below `{run}/distill/{model}`: `instructions/part-*.parquet` (id, instruction), `rejected.jsonl` (invalid rows),
`part-*.parquet` (id, instruction, response, finish_reason, num_tokens, error), `manifest.json`. Engines share the
parts; an interrupted job resumes from the finished ones. A failed row keeps its error and never fails the job.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cluster import feasibility as demands
from cluster import runtime
from cluster.artifacts import JobDir, Outcome, write_text
from cluster.config import RunConfig, section
from cluster.generate import Batch, Sampling
from cluster.generate_parts import generate_parts
from cluster.identity import input_hashes, model_identity, spec_of
from cluster.model_specs import ModelSpec
from cluster.parts import parts_of, sound_rows, write_part
from cluster.precision import settled
from cluster.strict import Strict
from judging.hub import hub_hashes
from judging.records import seed_of
from train.instructions import InstructionConfig, Taken, read_instructions

SCHEMA = pa.schema(
    [
        *((name, pa.large_string()) for name in ("id", "instruction", "response", "finish_reason")),
        ("num_tokens", pa.int64()),
        ("error", pa.large_string()),
    ]
)
INSTRUCTION_SCHEMA = pa.schema([("id", pa.large_string()), ("instruction", pa.large_string())])


class Config(Strict):
    """The configuration's `distill` section."""

    models: tuple[str, ...] = Field(
        min_length=1, description="names under `models`; each generates a response to every instruction"
    )
    max_tokens: int = Field(
        512, ge=1, description="maximum length of a response; a longer one is truncated and excluded from training"
    )
    temperature: float = Field(0.7, ge=0, le=2, description="0: greedy decoding, with which small models loop")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="nucleus sampling; below 1 it is slow on a CPU (the vocabulary is sorted at every token)",
    )
    block_rows: int = Field(64, ge=1, description="responses a part file; an interrupted part is generated again")


def main(run: RunConfig) -> Outcome:
    """Generate the responses of every configured model; resume an interrupted run."""
    config, chosen = sections(run)
    specs = {name: spec_of(run, name, "distill.models") for name in config.models}
    taken: list[Taken] = []  # read once, and only where there is work

    def instructions() -> Taken:
        if not taken:
            taken.append(read_instructions(chosen))
        return taken[0]

    found = {name: _distil(run, config, chosen, name, spec, instructions) for name, spec in specs.items()}
    return Outcome(0, {"models": found})


def sections(run: RunConfig) -> tuple[Config, InstructionConfig]:
    return section(run, "distill", Config), section(run, "instructions", InstructionConfig)


def _distil(
    run: RunConfig, config: Config, chosen: InstructionConfig, name: str, spec: ModelSpec, instructions: Any
) -> dict[str, Any]:
    job = JobDir(run.run, f"distill/{name}")
    fingerprint = {
        "instructions": {"limit": chosen.limit, "files": input_hashes(chosen.files, hub_hashes(chosen.files))},
        "distill": json.loads(config.model_dump_json(exclude={"models", "block_rows"})),
        "model": model_identity(spec),
        "seed": run.seed,
        # How the seeds are made decides the sampled replies, and one run must not mix two ways.
        **({"seeds": "by id"} if config.temperature else {}),
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        wanted = instructions()
        job.claim()
        _write_instructions(wanted, job.path, config.block_rows)
        runtime.start(run.ray)
        demands.check(run, [name])
        _answer_all(run, config, name, settled(run, spec), job.path, len(wanted.instructions))
        return _summary(job.path, wanted)

    return job.complete(fingerprint, work, what=f"distill: {name}")


def _write_instructions(wanted: Taken, folder: Path, block_rows: int) -> None:
    blocks = folder / "instructions"
    # An interrupted job may have had blocks of another size, which would prompt for the same rows again.
    shutil.rmtree(blocks, ignore_errors=True)
    blocks.mkdir()
    rows = [{"id": one.id, "instruction": one.text} for one in wanted.instructions]
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows]
        write_part(blocks, block, INSTRUCTION_SCHEMA, (row["id"] for row in block))
    lines = [json.dumps({"file": r.file, "line": r.line, "reason": r.reason}) for r in wanted.rejected]
    write_text(folder / "rejected.jsonl", "".join(f"{line}\n" for line in lines))


def _answer_all(run: RunConfig, config: Config, name: str, spec: ModelSpec, folder: Path, total: int) -> None:
    """Generate a response to every instruction that has none yet."""
    done = {row["id"] for row in sound_rows(folder, ["id"])}
    missing = {part: sum(id not in done for id in _ids(part)) for part in parts_of(folder / "instructions")}
    blocks = [{"part": str(part.resolve()), "num_rows": number} for part, number in missing.items() if number]
    if not blocks:
        return
    generate_parts(
        blocks,
        spec,
        Sampling(config.max_tokens, config.temperature, config.top_p, seed=run.seed),
        requests=(_requests, done, run.seed),
        write=(_write_answers, str(folder.resolve())),
        what=f"distill: {name}",
        total=total,
        done=len(done),
    )


def _ids(part: Path) -> list[str]:
    ids: list[str] = pq.read_table(part, columns=["id"]).column("id").to_pylist()
    return ids


def _requests(batch: Batch, done: set[str], seed: int) -> Batch:
    """Input column: part. Output columns: id, instruction and those that cluster.generate reads, with a seed by id."""
    rows = [row for part in batch["part"] for row in pq.read_table(part).to_pylist() if row["id"] not in done]
    return {
        "id": [row["id"] for row in rows],
        "instruction": [row["instruction"] for row in rows],
        "prompt": [row["instruction"] for row in rows],
        "reply_prefix": [""] * len(rows),
        "labels": [[]] * len(rows),
        "json_schema": [""] * len(rows),
        "seed": [seed_of(seed, row["id"]) for row in rows],
    }


def _write_answers(batch: Batch, folder: str) -> Batch:
    """Input columns: those of `_requests` and of cluster.generate. Writes one part; output column: num_rows."""
    names = {"reply": "response", "num_generated_tokens": "num_tokens"}
    columns = {names.get(name, name): list(column) for name, column in batch.items()}
    rows = [{name: columns[name][place] for name in SCHEMA.names} for place in range(len(columns["id"]))]
    write_part(Path(folder), rows, SCHEMA, (str(row["id"]) for row in rows))
    return {"num_rows": [len(rows)]}


def _summary(folder: Path, wanted: Taken) -> dict[str, Any]:
    errors: dict[str, int] = {}
    num_tokens = num_cut = num_rows = 0
    for row in sound_rows(folder, ["num_tokens", "finish_reason", "error"]):
        num_rows += 1
        num_tokens += row["num_tokens"]
        num_cut += row["finish_reason"] == "length"
        if row["error"]:
            errors[row["error"]] = errors.get(row["error"], 0) + 1
    return {
        "num_instructions": num_rows,
        "num_rejected": len(wanted.rejected),
        "num_duplicates": wanted.num_duplicates,
        "num_over_limit": wanted.num_over_limit,
        "num_tokens": num_tokens,
        "num_cut_off": num_cut,
        "errors": errors,
        "folder": str(folder),
    }


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal."""
    lines = []
    for name, found in summary["models"].items():
        errors = "".join(f", {number} {kind}" for kind, number in found["errors"].items())
        lines.append(
            f"{name}: {found['num_instructions']} responses, {found['num_tokens']} tokens, "
            f"{found['num_cut_off']} truncated{errors}; {found['num_rejected']} invalid rows, "
            f"{found['num_duplicates']} duplicates\n  {found['folder']}"
        )
    return "\n".join(lines)
