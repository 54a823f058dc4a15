"""The rated texts that teach and serve, known by content: what one job has learned from, no later job may judge.

Every job of this package notes which pool it worked with; the next one refuses what was made of another.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cluster.artifacts import JobDir, file_hash
from cluster.config import RunConfig, section
from cluster.identity import input_hashes
from judging.data_config import DataConfig
from judging.datasets import read_pool
from judging.errors import InputError
from judging.readers import RowError
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import is_task_file, unknown_aspect


def rated_data(run: RunConfig) -> DataConfig:
    """The section `data` with its pool. Raises InputError where there is none."""
    data = section(run, "data", DataConfig)
    if not data.pool:
        raise InputError("the configuration has no data.pool of rated texts")
    return data


def rated_pool(data: DataConfig) -> dict[str, Record]:
    """The records of `data.pool` that may serve, by id; InputError where a row does not fit."""

    def problem(record: Record) -> RowError | str | None:
        if is_task_file(record.task) and record.task != data.task:
            return f"task: a task file ({record.task}) is named in the configuration (data.task), not in a row"
        try:
            return unknown_aspect(record)
        except InputError as error:
            return f"task: {error}"

    return read_pool(data, check=problem)


def pool_identity(data: DataConfig) -> str:
    """sha256 of all that decides which texts teach and what is read of them."""
    read = {"pool", "pool_share", "columns", "aspects", "format", "task", "dataset", "scale", "group_by_source"}
    known = {
        "data": json.loads(data.model_dump_json(include=read)),
        "files": input_hashes([*data.pool, *data.task_files]),
        "tasks": file_hash(TASK_FOLDER),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def finished(job: JobDir, data: DataConfig) -> dict[str, Any]:
    """The summary of a finished job of this package. Raises InputError where it is not there, or of another pool."""
    name = job.path.name
    done = job.manifest()
    if done is None:
        raise InputError(f"{job.path} holds no finished {name}: run `inverdict {name}` first")
    summary: dict[str, Any] = done["summary"]
    if summary["pool"] != pool_identity(data):
        raise InputError(
            f"{job.path} was made of another data.pool, data.pool_share or task: what has taught must not be judged; "
            f"remove that folder and run `inverdict {name}` again"
        )
    return summary


def towers_identity(folder: Path) -> str:
    """sha256 of both towers in the folder of the job `fit`."""
    return hashlib.sha256("".join(file_hash(folder / side) for side in ("query", "example")).encode()).hexdigest()
