"""What has taught a judge and must not test it: compared with what was measured, on the artefacts of the run.

Groups are compared by their key and texts by what they say, so that a rated text under another name is found too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.config import RunConfig
from cluster.parts import parts_of
from evaluation.batch.ingest import iter_rows
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record, content_id
from judging.template_io import load_templates


@dataclass(frozen=True)
class Taught:
    """One place of the run whose human scores have taught: its groups, and its texts where they are known."""

    name: str
    groups: frozenset[str]
    texts: frozenset[str] = frozenset()


def text_hash(record: Record) -> str:
    """Of source and candidate without case, punctuation and white space."""
    return content_id(*("".join(filter(str.isalnum, text.casefold())) for text in (record.source, record.candidate)))


def taught(run: RunConfig, data: DataConfig, pool: Mapping[str, Record], measured: Sequence[Record]) -> list[Taught]:
    """Every such place of the run. `pool`: the records of `data.pool` that may serve; `measured`: see `check_leaks`."""
    found = [
        _of_records("data.pool", pool.values()),
        Taught("data.dev_share", frozenset(record.group_key for record in measured if data.develops(record))),
        _of_records("panel", map(Record.from_row, _rows(run.run / "panel" / "evaluate" / "records"))),
        Taught("evaluate/templates", _of_templates(run.run / "evaluate" / "templates")),
        Taught("index", _of_indexes(run.run / "index")),
        Taught("feedback", _of_feedback(run.run / "feedback", measured)),
    ]
    return [one for one in found if one.groups]


def check_leaks(measured: Iterable[Record], places: Sequence[Taught]) -> None:
    """Raises InputError where a measured record's group or text has taught."""
    for record in measured:
        for place in places:
            if record.group_key in place.groups:
                how = f"its group {record.group_key!r} has taught"
            elif record.candidate and text_hash(record) in place.texts:
                how = "a text that says the same has taught"
            else:
                continue
            raise InputError(
                f"leak: record {record.id!r} was measured, and {how} ({place.name}): evaluate on other records, "
                "or let data.pool_share divide them"
            )


def _of_records(name: str, records: Iterable[Record]) -> Taught:
    known = [(record.group_key, text_hash(record)) for record in records]
    return Taught(name, frozenset(key for key, _ in known), frozenset(text for _, text in known))


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The records on which the job `panel` chose judges and learned votes."""
    return iter_rows(parts_of(folder))


def _of_templates(folder: Path) -> frozenset[str]:
    """Groups that the prompts which judged have seen: one-shot examples and labelled texts that chose the prompt."""
    files = sorted(folder.glob("*/*.txt"))
    return frozenset(key for file in files for one in load_templates(file).values() for key in one.seen_groups)


def _of_indexes(folder: Path) -> frozenset[str]:
    files = sorted(folder.rglob("examples.parquet"))
    return frozenset(key for file in files for key in pq.read_table(file, columns=["group"])["group"].to_pylist())


def _of_feedback(folder: Path, measured: Sequence[Record]) -> frozenset[str]:
    """Groups of measured records that the retriever's training has tried; it notes records by id."""
    ids: set[str] = set()
    for part in parts_of(folder / "pairs"):
        table = pq.read_table(part, columns=["query_id", "example_id"])
        ids |= {*table["query_id"].to_pylist(), *table["example_id"].to_pylist()}
    return frozenset(record.group_key for record in measured if record.id in ids)
