"""Verdict parts on disk, one folder per judge: which are missing, the requests for them, and writing them.

Has the functions that Ray runs on blocks; judging/judge.py defines what a verdict is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.artifacts import JobDir
from cluster.generate import ADAPTER, SEED, Batch
from cluster.parts import forget_rows, parts_of, sound_parts, sound_rows, write_part
from evaluation.batch.ingest import iter_rows
from evaluation.judges.aggregation import NOT_ASKED, CascadeConfig
from evaluation.judges.few_shot import chosen_examples
from judging.datasets import is_blank
from judging.judge import Judge
from judging.pairing import EMPTY, OTHER_FIELDS
from judging.records import Record, content_id, seed_of
from judging.self_preference import own_family
from judging.tasks import load_task

VERDICT_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "aspect")),
        ("score", pa.float64()),
        *((name, pa.string()) for name in ("mode", "unscored", "reason", "reasoning")),
        ("label_mass", pa.float64()),
        ("label_probabilities", pa.list_(pa.float64())),
        ("detail", pa.string()),
        ("interval", pa.list_(pa.float64())),
        ("novelty", pa.float64()),
        ("num_prompt_tokens", pa.int64()),
        ("num_generated_tokens", pa.int64()),
    ]
)
Blocks = dict[Path, np.ndarray]  # a file of records -> the keys of its (record, aspect) pairs, uint64
OWN_FAMILY = "own_family"
ON_PURPOSE = (OWN_FAMILY, NOT_ASKED, EMPTY, OTHER_FIELDS)  # reasons of rows whose model was not queried, by design
OWN_COLUMNS = ("id", "task", "scores", "system", "candidate")
TOKENS = ("num_prompt_tokens", "num_generated_tokens")
NO_TOKENS = dict.fromkeys(TOKENS, 0)
NUM_DETAILS = 3  # per judge, in the summary
MAX_DETAILS = 1000  # kinds to count: unparsable replies all differ
DETAIL_CHARS = 300
DIGITS = re.compile(r"\d+")


def aspects_of(task: str, scores: str, aspects: tuple[str, ...] | None) -> tuple[str, ...]:
    """The aspects to judge for a record.

    Args:
        task: the record's task.
        scores: its human scores by aspect, as JSON.
        aspects: the configured aspects, which are returned; None: the task's aspects with human scores, or else the
            task's first aspect.
    """
    if aspects is not None:
        return aspects
    known, rated = load_task(task).aspects, json.loads(scores)
    return tuple(aspect for aspect in known if aspect in rated) or tuple(known)[:1]


def aspects_of_row(row: Mapping[str, Any], aspects: tuple[str, ...] | None) -> tuple[str, ...]:
    """`aspects_of` for a row of `records/`."""
    return aspects_of(row["task"], row["scores"], aspects)


def _key(id: str, aspect: str) -> int:
    return int(content_id(id, aspect), 16)


def done_keys(folder: Path) -> np.ndarray:
    """Keys of the verdicts on disk, sorted (uint64); parts that a killed run left unreadable are removed."""
    keys = [_key(row["id"], row["aspect"]) for row in sound_rows(folder, ("id", "aspect"))]
    return np.unique(np.array(keys, dtype=np.uint64))


def _are_done(keys: np.ndarray, done: np.ndarray) -> np.ndarray:
    """Which of `keys` are among `done`, which is sorted: much faster than `np.isin` for a block against millions."""
    at = np.minimum(np.searchsorted(done, keys), max(len(done) - 1, 0))
    return done[at] == keys if len(done) else np.zeros(len(keys), dtype=bool)


def survey(folder: Path, judges: Sequence[Judge], aspects: tuple[str, ...] | None) -> Blocks:
    """The keys of each block's (record, aspect) pairs, in one pass over the records for all judges.

    Also writes below `folder/verdicts` the verdicts on texts that are not sent to a judge's model: blank ones (`empty`)
    and those of excluded systems (`own_family`); one part per block of records, overwritten by a later run.

    Args:
        folder: of the evaluation.
        judges: all of them.
        aspects: to judge; None: every aspect with human scores.
    """
    blocks: Blocks = {}
    for judge in judges:
        (folder / "verdicts" / judge.name).mkdir(parents=True, exist_ok=True)
    for part in parts_of(folder / "records"):
        pairs = [(row, aspect) for row in iter_rows([part], OWN_COLUMNS) for aspect in aspects_of_row(row, aspects)]
        blocks[part] = np.array([_key(row["id"], aspect) for row, aspect in pairs], dtype=np.uint64)
        for judge in judges:
            rows = [
                {"id": row["id"], "aspect": aspect, "mode": judge.mode, "unscored": reason, **NO_TOKENS}
                for row, aspect in pairs
                if (reason := _not_to_ask(judge, row))
            ]
            if rows:
                out = folder / "verdicts" / judge.name
                write_part(out, rows, VERDICT_SCHEMA, (f"{row['id']}/{row['aspect']}" for row in rows))
    return blocks


def pending(blocks: Blocks, done: np.ndarray) -> dict[Path, int]:
    """The blocks with missing verdicts, each with the number of its (record, aspect) pairs without one.

    Args:
        blocks: what `survey` returned.
        done: keys of the verdicts on disk, sorted (uint64).
    """
    missing = {part: len(keys) - int(_are_done(keys, done).sum()) for part, keys in blocks.items()}
    return {part: number for part, number in missing.items() if number}


def _not_to_ask(judge: Judge, row: Mapping[str, Any]) -> str | None:
    if is_blank(row["candidate"]):
        return EMPTY
    return OWN_FAMILY if own_family(judge.not_systems, row["system"]) else None


class Cascade(NamedTuple):
    """`first`: the judge to query first; `sure`: blocks of the (id, aspect) pairs where its answer is used alone."""

    first: str
    sure: Callable[[], Iterable[Sequence[tuple[str, str]]]]


def sure_of(folder: Path, cascade: CascadeConfig) -> Iterator[list[tuple[str, str]]]:
    """The records and aspects where the first judge of the cascade is sure, one block per part of its verdicts."""
    columns = ("id", "aspect", "score", "label_probabilities")
    for part in sound_parts(folder / "verdicts" / cascade.first, columns):
        yield [(row["id"], row["aspect"]) for row in part if cascade.is_sure(row["score"], row["label_probabilities"])]


def write_not_asked(folder: Path, others: Sequence[Judge], sure: Iterable[Sequence[tuple[str, str]]]) -> None:
    """Write verdicts `not_asked` of the other judges where the first judge of the cascade is sure.

    One part per block, overwritten by a later run; existing verdicts are kept.

    Args:
        folder: of the evaluation.
        others: the other judges.
        sure: blocks of (id, aspect) pairs.
    """
    done = {judge.name: done_keys(folder / "verdicts" / judge.name) for judge in others}
    for block in sure:
        keys = np.array([_key(id, aspect) for id, aspect in block], dtype=np.uint64)
        for judge in others:
            rows = [
                {"id": id, "aspect": aspect, "mode": judge.mode, "unscored": NOT_ASKED, **NO_TOKENS}
                for (id, aspect), is_done in zip(block, _are_done(keys, done[judge.name]), strict=True)
                if not is_done
            ]
            if rows:
                out = folder / "verdicts" / judge.name
                write_part(out, rows, VERDICT_SCHEMA, (f"{row['id']}/{row['aspect']}" for row in rows))


def requests(
    batch: Batch,
    judges: Mapping[str, Judge],
    aspects: tuple[str, ...] | None,
    done: Mapping[str, np.ndarray],
    adapters: Mapping[str, str] = MappingProxyType({}),
    seed: int | None = None,
) -> Batch:
    """Input columns: judge (one name per batch), part (a file of records). Output columns: judge, id, task, aspect
    and those that cluster.generate reads. Rows are sorted by task and aspect, so that neighbours share the longest
    prefix.

    Args:
        batch: the input columns.
        judges: by name.
        aspects: to judge; None: every aspect with human scores.
        done: keys of the verdicts on disk, by judge.
        adapters: of the judges whose model is a LoRA adapter, by judge.
        seed: of the run, for judges whose replies are sampled: each request gets its own; None: nothing is sampled.
    """
    (name,) = set(map(str, batch["judge"]))
    parts = [Path(part) for part in batch["part"]]
    keyed = [
        (Record.from_row(row), aspect)
        for row in iter_rows(parts)
        for aspect in aspects_of(row["task"], row["scores"], aspects)
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for part in parts if judges[name].pool else ():
        found |= chosen_examples(part.parent.parent, name, part) or {}
    rows: list[dict[str, Any]] = []
    keys = np.array([_key(record.id, aspect) for record, aspect in keyed], dtype=np.uint64)
    for (record, aspect), is_done in zip(keyed, _are_done(keys, done[name]), strict=True):
        if not is_done:
            key = {"judge": name, "id": record.id, "task": record.task, "aspect": aspect}
            key[ADAPTER] = adapters.get(name, "")
            asked = judges[name].request(record, aspect, found.get((record.id, aspect)))
            own = {} if seed is None else {SEED: seed_of(seed, name, asked["prompt"])}
            rows.append({**key, **asked, **own})
    rows.sort(key=lambda row: (row["task"], row["aspect"]))
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def write_verdicts(batch: Batch, judges: Mapping[str, Judge], folder: str) -> Batch:
    """Input columns: those of `requests` and of cluster.generate. Output column: num_rows.

    Writes one part per judge below `folder/{judge}`: the engine's batches may mix rows of several judges.

    Args:
        batch: the input columns.
        judges: by name.
        folder: `verdicts/` of the evaluation.
    """
    replies: dict[str, list[dict[str, Any]]] = {}
    for index in range(len(batch["id"])):
        reply = {name: column[index] for name, column in batch.items()}
        replies.setdefault(str(reply["judge"]), []).append(reply)
    for name, rows in replies.items():
        verdicts = [_row(judges[name], reply) for reply in rows]
        write_part(Path(folder) / name, verdicts, VERDICT_SCHEMA, (f"{row['id']}/{row['aspect']}" for row in verdicts))
    return {"num_rows": [len(batch["id"])]}


def _row(judge: Judge, reply: Mapping[str, Any]) -> dict[str, Any]:
    verdict = judge.verdict(reply["task"], reply["aspect"], reply)
    columns = {name: getattr(verdict, name) for name in VERDICT_SCHEMA.names if hasattr(verdict, name)}
    tokens = {name: int(reply[name]) for name in TOKENS}
    return {"id": reply["id"], **columns, **tokens}


def mean_tokens(folder: Path, aspect: str, ids: Collection[str]) -> float | None:
    """Mean tokens per request, of prompt and reply together.

    Args:
        folder: the parts of a judge or of the integrating model.
        aspect: the aspect to count.
        ids: of the records to count.

    Returns:
        The mean, or None where there are no such rows.
    """
    total = number = 0
    for part in parts_of(folder):
        for row in pq.read_table(part, columns=["id", "aspect", *TOKENS]).to_pylist():
            if row["aspect"] == aspect and row["id"] in ids:
                total, number = total + sum(row[name] or 0 for name in TOKENS), number + 1
    return total / number if number else None


def most_frequent_details(folder: Path) -> list[dict[str, Any]]:
    """The errors of a judge's rows without a score, the most frequent first: unscored (the reason), detail (the first
    of its kind), count.

    Details that differ only in numbers are of one kind. Rows that were not queried have none.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for part in parts_of(folder):
        table = pq.read_table(part, columns=["score", "unscored", "detail"])
        for row in table.filter(pc.is_null(table.column("score"))).to_pylist():
            detail = " ".join((row["detail"] or "")[: 4 * DETAIL_CHARS].split())[:DETAIL_CHARS]
            kind = (row["unscored"], DIGITS.sub("0", detail))
            if detail and (kind in first or len(first) < MAX_DETAILS):
                counts[kind] += 1
                first.setdefault(kind, detail)
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:NUM_DETAILS]
    return [{"unscored": kind[0], "detail": first[kind], "count": count} for kind, count in most]


def forget_unscored(job: JobDir) -> bool:
    """Remove the verdicts without a score, so that they are queried again; False where there are none.

    Texts that are not queried by design keep their verdicts.
    """
    parts = sorted((job.path / "verdicts").glob("*/part-*.parquet"))
    return forget_rows(parts, "score", job.reopen, but=("unscored", ON_PURPOSE))
