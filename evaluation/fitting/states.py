"""The labelled texts of a fitted judge -> hidden states on disk, by part; a killed job resumes from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cluster.generate import Batch
from cluster.generate_parts import run_parts
from cluster.hidden_states import hidden_states
from cluster.model_specs import ScriptedSpec, VllmSpec
from cluster.parts import sound_rows, write_part
from evaluation.judges.few_shot import Chooser
from judging.judge import Judge
from judging.records import Record

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("aspect", pa.string()),
        ("hidden_states", pa.list_(pa.list_(pa.float32()))),
        ("label_logprobs", pa.list_(pa.float64())),
        ("num_prompt_tokens", pa.int64()),
        ("error", pa.string()),
    ]
)


class State(NamedTuple):
    """`hidden`: one array for each depth; empty arrays where `error` says why there are none."""

    hidden: tuple[np.ndarray, ...]
    label_logprobs: tuple[float, ...]
    error: str


def read_all(
    folder: Path,
    judge: Judge,
    pairs: Sequence[tuple[Record, str]],
    spec: VllmSpec | ScriptedSpec,
    depths: Sequence[int],
    chooser: Chooser | None,
    block_rows: int,
) -> dict[tuple[str, str], State]:
    """Complete `folder/part-*.parquet` for all pairs of a record and an aspect, and read it.

    Args:
        folder: of the parts.
        judge: renders the prompts.
        pairs: what to read; the records are in the judge's pool or rated on the aspect.
        spec: the model.
        depths: numbers of layers, ascending.
        chooser: retrieves the judge's examples; None: it has fixed ones or none.
        block_rows: pairs of a part.

    Returns:
        The states by record id and aspect.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {(row["id"], row["aspect"]) for row in sound_rows(folder, ("id", "aspect"))}
    missing = [(record, aspect) for record, aspect in pairs if (record.id, aspect) not in done]
    if missing:
        run_parts(
            list(_blocks(judge, missing, chooser, block_rows)),
            partial(hidden_states, spec=spec, depths=depths),
            requests=(_requests,),
            write=(_write, str(folder.resolve())),
            what=f"fit-judge: {judge.name}",
            total=len(pairs),
            done=len(done),
        )
    found = {}
    for row in sound_rows(folder, ("id", "aspect", "hidden_states", "label_logprobs", "error")):
        hidden = tuple(np.asarray(one, dtype=np.float32) for one in row["hidden_states"])
        found[row["id"], row["aspect"]] = State(hidden, tuple(row["label_logprobs"]), row["error"])
    return found


def _blocks(
    judge: Judge, pairs: Sequence[tuple[Record, str]], chooser: Chooser | None, block_rows: int
) -> Iterator[Mapping[str, Any]]:
    """Blocks of whole sources, whose prompts begin alike, as far as `block_rows` has room for them."""
    for some in _of_whole_sources(pairs, block_rows):
        rows = []
        for record, aspect in some:
            found = chooser.choose([record], aspect)[0].ids if chooser else None
            rows.append({"id": record.id, "aspect": aspect, **judge.request(record, aspect, found)})
        yield {"rows": json.dumps(rows), "num_rows": len(rows)}


def _of_whole_sources(pairs: Sequence[tuple[Record, str]], block_rows: int) -> Iterator[list[tuple[Record, str]]]:
    def source(pair: tuple[Record, str]) -> tuple[str, str, str]:
        record, aspect = pair
        return record.task, aspect, record.group_key

    block: list[tuple[Record, str]] = []
    for _, group in groupby(sorted(pairs, key=source), key=source):
        of_source = list(group)
        if block and len(block) + len(of_source) > block_rows:
            yield block
            block = []
        block += of_source
        while len(block) > block_rows:  # one source with more texts
            yield block[:block_rows]
            block = block[block_rows:]
    if block:
        yield block


def _requests(batch: Batch) -> Batch:
    """Input column: rows (JSON). Output columns: id, aspect, and those that cluster.generate reads."""
    rows: list[dict[str, Any]] = [row for text in batch["rows"] for row in json.loads(text)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _write(batch: Batch, folder: str) -> Batch:
    """Input columns: those of `_requests` and of cluster.hidden_states. Writes one part; output column: num_rows."""
    rows = [{name: batch[name][place] for name in SCHEMA.names} for place in range(len(batch["id"]))]
    for row in rows:
        row["hidden_states"] = [list(map(float, one)) for one in row["hidden_states"]]
        row["label_logprobs"] = list(map(float, row["label_logprobs"]))
    write_part(Path(folder), rows, SCHEMA, (f"{row['id']}/{row['aspect']}" for row in rows))
    return {"num_rows": [len(rows)]}
