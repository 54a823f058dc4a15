"""Contamination check: no certified record may be in the data used for training or selection, by group or by text.

Groups are compared by their key. Texts are compared by a normalised hash, so that a rated text is also found under
another group's name.
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
from evaluation.judges.fitted_judges import FittedJudge
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record
from judging.template_io import load_templates


@dataclass(frozen=True)
class UsedData:
    """The data of one source (`name`) used for training or selection: its groups, and its texts where known."""

    name: str
    groups: frozenset[str]
    texts: frozenset[str] = frozenset()


def used_data(
    run: RunConfig,
    data: DataConfig,
    pool: Mapping[str, Record],
    measured: Sequence[Record],
    fitted: Mapping[str, FittedJudge] | None = None,
) -> list[UsedData]:
    """All data with human scores that this run used for training or selection.

    Args:
        run: its folder holds the artifacts of the earlier jobs.
        data: the configuration's `data` section.
        pool: the records of `data.pool` that can be few-shot examples, by id.
        measured: the records to certify.
        fitted: the fitted judges by name.

    Returns:
        One entry per source that has at least one group.
    """
    found = [
        _of_records("data.pool", pool.values()),
        UsedData("data.dev_share", frozenset(record.group_key for record in measured if data.develops(record))),
        _of_records("panel", map(Record.from_row, _rows(run.run / "panel" / "evaluate" / "records"))),
        UsedData("evaluate/templates", _of_templates(run.run / "evaluate" / "templates")),
        UsedData("index", _of_indexes(run.run / "index")),
        UsedData("feedback", _of_feedback(run.run / "feedback", measured)),
        *(UsedData(f"fit_judge/{name}", one.groups, one.texts) for name, one in (fitted or {}).items()),
    ]
    return [one for one in found if one.groups]


def check_contamination(measured: Iterable[Record], used: Sequence[UsedData]) -> None:
    """Raises InputError (`contaminated`) where a measured record's group or text was used."""
    for record in measured:
        for source in used:
            if record.group_key in source.groups:
                what = f"its group {record.group_key!r}"
            elif record.candidate and record.text_hash in source.texts:
                what = "an equal text"
            else:
                continue
            raise InputError(
                f"Contamination: record {record.id!r} is to be certified, but {what} was used for training or "
                f"selection ({source.name}). Evaluate on other records, or split them with data.pool_share.",
                code="contaminated",
            )


def _of_records(name: str, records: Iterable[Record]) -> UsedData:
    known = [(record.group_key, record.text_hash) for record in records]
    return UsedData(name, frozenset(key for key, _ in known), frozenset(text for _, text in known))


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The records on which the job `panel` selected judges and trained the learned vote."""
    return iter_rows(parts_of(folder))


def _of_templates(folder: Path) -> frozenset[str]:
    """Groups used for the judges' prompts: one-shot examples, and labelled texts that selected the prompt."""
    files = sorted(folder.glob("*/*.txt"))
    return frozenset(key for file in files for one in load_templates(file).values() for key in one.seen_groups)


def _of_indexes(folder: Path) -> frozenset[str]:
    files = sorted(folder.rglob("examples.parquet"))
    return frozenset(key for file in files for key in pq.read_table(file, columns=["group"])["group"].to_pylist())


def _of_feedback(folder: Path, measured: Sequence[Record]) -> frozenset[str]:
    """Groups of measured records that are in the retriever's training data, which holds the ids of records."""
    ids: set[str] = set()
    for part in parts_of(folder / "pairs"):
        table = pq.read_table(part, columns=["query_id", "example_id"])
        ids |= {*table["query_id"].to_pylist(), *table["example_id"].to_pylist()}
    return frozenset(record.group_key for record in measured if record.id in ids)
