"""Files of rated texts -> Parquet blocks of records in the job's folder, whole groups in each block. No judges here.

The whole input is validated before the blocks are moved into place: an invalid input leaves no files. Memory does not
grow with the number of records, except for a few bytes per id.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artifacts import write_text
from cluster.parts import parts_of
from judging.data_config import DataConfig
from judging.data_names import Names
from judging.datasets import Check, Empty, Rejected, read_records
from judging.errors import InputError
from judging.records import Record, Scale

RECORD_SCHEMA = pa.schema(
    [(name, pa.large_string()) for name in Record("", "", "", "", "").to_row()] + [("group_key", pa.large_string())]
)
ROWS_A_BUCKET = 10_000
KINDS = "kinds.json"  # every task with every set of aspects that one of its records is rated on
SCALES = "scales.json"  # every task, data set, aspect, and both ends of a scale of its labels


class Ingested(NamedTuple):
    num_records: int
    num_rejected: int
    num_left_out: int = 0


def ingest(
    data: DataConfig,
    folder: Path,
    *,
    block_rows: int,
    check: Check,
    without: Collection[str] = (),
    without_texts: Collection[str] = (),
) -> Ingested:
    """Write the records of `data.records` to `folder/part-*.parquet`, and invalid rows to `folder/rejected.jsonl`.

    `folder` appears complete or not at all.

    Args:
        data: the section `data`.
        folder: to create.
        block_rows: minimum rows of a block, which has whole groups; the last one may be smaller.
        check: returns why a record cannot be used, or None.
        without: keys of groups (`Record.group_key`) whose records are validated, counted and excluded.
        without_texts: likewise, hashes of texts (`Record.text_hash`).

    Raises:
        InputError: more than `data.max_rejected_share` of the rows are invalid, or no record remains.
    """
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        counts, in_order = _write_checked(data, beside, block_rows, check, (without, without_texts))
        if not in_order:
            _regroup(beside, counts.num_records, block_rows)
        write_text(beside / "counts.json", json.dumps(counts._asdict()))
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return counts


def ingested(folder: Path) -> Ingested | None:
    """The counts of an earlier `ingest` into `folder`, or None."""
    path = folder / "counts.json"
    return Ingested(**json.loads(path.read_text())) if path.exists() else None


def kinds_of(folder: Path) -> list[tuple[str, str]]:
    """Every task among the records, with the scores (JSON) of one record for each set of rated aspects."""
    path = folder / KINDS
    if not path.exists():  # written by an earlier version
        rows = iter_rows(parts_of(folder), ("task", "scores"))
        write_text(path, json.dumps(list({(row["task"], tuple(json.loads(row["scores"]))): None for row in rows})))
    kinds = json.loads(path.read_text())
    return [(task, json.dumps(dict.fromkeys(aspects, 0))) for task, aspects in kinds]


def label_scales(folder: Path) -> dict[tuple[str, str, str], Scale]:
    """The scale of the labels by task, data set and aspect, where all labels have the same one.

    Rows without a label are given on it too: labelled and other texts of one part are compared with each other.

    Args:
        folder: of the records.
    """
    path = folder / SCALES
    if path.exists():
        known = json.loads(path.read_text())
    else:  # written by an earlier version
        rows = iter_rows(parts_of(folder), ("task", "dataset", "scales"))
        known = [
            (row["task"], row["dataset"], aspect, *ends)
            for row in rows
            for aspect, ends in json.loads(row["scales"]).items()
        ]
    found: dict[tuple[str, str, str], set[Scale]] = {}
    for task, dataset, aspect, low, high in known:
        found.setdefault((task, dataset, aspect), set()).add(Scale(low, high))
    return {key: next(iter(each)) for key, each in found.items() if len(each) == 1}


def _write_checked(
    data: DataConfig, folder: Path, block_rows: int, check: Check, without: tuple[Collection[str], Collection[str]]
) -> tuple[Ingested, bool]:
    """Write the parts, in the order of the input; returns the counts, and whether every group is contiguous."""
    num_records, num_left_out, rejected = 0, 0, []
    first_group: set[int] = set()
    last_key, in_order = "", True
    names, kinds = Names(), dict[tuple[str, tuple[str, ...]], None]()
    scales: dict[tuple[str, str, str, float, float], None] = {}
    with BlockWriter(folder, block_rows) as blocks:
        for found in read_records(data.judged, check=check, names=names, **data.reading()):
            if isinstance(found, Rejected) and not isinstance(found, Empty):
                rejected.append(found)
                if data.max_rejected_share == 0:
                    raise found.error()
                continue
            row = found.record if isinstance(found, Empty) else found
            if not data.takes(row):
                continue
            if row.group_key in without[0] or (without[1] and row.text_hash in without[1]):
                num_left_out += 1
                continue
            num_records += 1
            kinds[row.task, tuple(row.scores)] = None
            scales |= {(row.task, row.dataset, name, one.low, one.high): None for name, one in row.scales.items()}
            if row.group_key != last_key:
                in_order = in_order and hash(row.group_key) not in first_group
                first_group.add(hash(row.group_key))
                last_key = row.group_key
            blocks.add({**row.to_row(), "group_key": row.group_key})
    _check_names(data, names)
    _check_counts(data, num_records, num_left_out, rejected)
    write_text(folder / KINDS, json.dumps(list(kinds)))
    write_text(folder / SCALES, json.dumps(list(scales)))
    if rejected:
        lines = [json.dumps(dataclasses.asdict(row), ensure_ascii=False) for row in rejected]
        (folder / "rejected.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Ingested(num_records, len(rejected), num_left_out), in_order


def _check_counts(data: DataConfig, num_records: int, num_left_out: int, rejected: Sequence[Rejected]) -> None:
    """Raises InputError where too many rows are invalid or no record remains."""
    num_rows = num_records + num_left_out + len(rejected)
    if num_rows == 0:
        raise _nothing_shared(data)
    if len(rejected) / num_rows > data.max_rejected_share or len(rejected) == num_rows:
        raise InputError(
            f"{rejected[0]} ({len(rejected)} of {num_rows} rows are invalid; data.max_rejected_share allows"
            f" {data.max_rejected_share:.0%})",
            code="too_many_rejected",
            key="data.max_rejected_share",
        )
    if num_records == 0:
        pool = ", or set data.pool_share if they are also in data.pool" if data.pool else ""
        raise InputError(
            f"All {num_left_out} records are excluded: human scores of their groups were used for a judge's prompt"
            f" (`groups` in its template file), for a fitted judge or for selection. Evaluate other records "
            f"(data.records) or use another prompt{pool}.",
            code="contaminated",
            key="data.records",
        )


def _nothing_shared(data: DataConfig) -> InputError:
    """The error where a share of `data` selects no group."""
    if data.dev_share is not None:
        key, what = "dev_share", f"{data.dev_share:g} leaves no group in the {data.part} part. Change it."
    elif data.pool_share is not None:
        key, what = "pool_share", f"{data.pool_share:g} leaves no group to judge. Lower it."
    else:
        key, what = "groups_share", f"{data.groups_share} selects no group. Raise it."
    return InputError(f"data.{key}: {what}", code="not_enough_groups", key=f"data.{key}")


def _check_names(data: DataConfig, names: Names) -> None:
    """Raises InputError where a setting of `data` names something that no file has; `names`: of the judged files."""
    if names.problem(data) is None:
        return
    for _ in read_records([*data.records, *data.pool, *data.dev], names=names, **data.reading()):
        pass
    if problem := names.problem(data):
        raise problem


class BlockWriter:
    """Collects rows and writes a part once it has enough rows and the group has ended."""

    def __init__(self, folder: Path, block_rows: int) -> None:
        self._folder = folder
        self._block_rows = block_rows
        self._rows: list[dict[str, str]] = []
        self._number = 0

    def __enter__(self) -> BlockWriter:
        return self

    def add(self, row: dict[str, str]) -> None:
        if len(self._rows) >= self._block_rows and row["group_key"] != self._rows[-1]["group_key"]:
            self._flush()
        self._rows.append(row)

    def _flush(self) -> None:
        table = pa.Table.from_pylist(self._rows, schema=RECORD_SCHEMA)
        pq.write_table(table, self._folder / f"part-{self._number:06d}.parquet", compression="zstd")
        self._rows, self._number = [], self._number + 1

    def __exit__(self, *error: object) -> None:
        if self._rows and error[0] is None:
            self._flush()


def _regroup(folder: Path, num_records: int, block_rows: int) -> None:
    """Make every group contiguous: rows go by hash into buckets on disk, and each bucket is sorted in memory."""
    num_buckets = num_records // ROWS_A_BUCKET + 1
    buckets = [folder / f".bucket-{number}.parquet" for number in range(num_buckets)]
    writers = [pq.ParquetWriter(bucket, RECORD_SCHEMA) for bucket in buckets]
    for part in parts_of(folder):
        table = pq.read_table(part, schema=RECORD_SCHEMA)
        bucket_of = [zlib.crc32(key.encode()) % num_buckets for key in table.column("group_key").to_pylist()]
        for number, writer in enumerate(writers):
            writer.write_table(table.filter(pa.array([bucket == number for bucket in bucket_of])))
        part.unlink()
    for writer in writers:
        writer.close()
    with BlockWriter(folder, block_rows) as blocks:
        for bucket in buckets:
            for row in sorted(pq.read_table(bucket).to_pylist(), key=lambda row: str(row["group_key"])):
                blocks.add(row)
            bucket.unlink()


def iter_rows(parts: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of the parts, one part in memory at a time."""
    for part in parts:
        yield from pq.read_table(part, columns=list(columns) if columns else None).to_pylist()
