"""The pool of rated texts and its identity: texts used for training or as examples are excluded from evaluation.

Every job of this package records the identity of its pool; the next job refuses artefacts made from another pool.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cluster.artifacts import JobDir, file_hash, read_json
from cluster.config import RunConfig, section
from cluster.identity import input_hashes
from judging.data_config import DataConfig
from judging.datasets import read_pool
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.readers import RowError
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import is_task_file, unknown_aspect


def rated_data(run: RunConfig) -> DataConfig:
    """The section `data` with its pool. Raises InputError where there is none."""
    data = section(run, "data", DataConfig)
    if not data.pool:
        raise InputError(
            "`data.pool` is missing. Set it to the files of rated texts.", code="missing_key", key="data.pool"
        )
    return data


def rated_pool(data: DataConfig) -> dict[str, Record]:
    """The records of `data.pool` that may be shown as examples, by id. Raises InputError for an invalid row."""

    def problem(record: Record) -> RowError | None:
        if is_task_file(record.task) and record.task != data.task:
            return RowError(
                f"task: a task file ({record.task}) must be set as data.task in the configuration, not in a row",
                code="unsupported",
                key="task",
            )
        try:
            return unknown_aspect(record)
        except InputError as error:
            return RowError(f"task: {error}", code=error.code, key="task")

    return read_pool(data, check=problem)


def pool_identity(data: DataConfig) -> str:
    """sha256 of everything that decides which texts the pool holds and what is read from them."""
    read = {"pool", "pool_share", "columns", "systems", "aspects", "format", "task", "dataset", "scale"}
    known = {
        "data": data.identity(include=read | {"group_by_source"}),
        "files": input_hashes([*data.pool, *data.task_files], hub_hashes(data.pool)),
        "tasks": file_hash(TASK_FOLDER),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def finished(job: JobDir, data: DataConfig) -> dict[str, Any]:
    """The summary of a finished job of this package. Raises InputError where it is missing or of another pool."""
    name = job.path.name
    done = job.manifest()
    if done is None:
        raise InputError(f"No finished `{name}` found in {job.path}. Run `inverdict {name}` first.", code="missing_job")
    summary: dict[str, Any] = done["summary"]
    if summary["pool"] != pool_identity(data):
        raise InputError(
            f"{job.path} was made from another data.pool, data.pool_share or task, and training data must not be "
            f"evaluated. Remove that folder and run `inverdict {name}` again.",
            code="other_configuration",
            key="data.pool",
        )
    return summary


def index_identity(run: Path, data: DataConfig) -> Any:
    """The fingerprint of the run's indexes. Raises InputError where they are missing or of another pool."""
    job = JobDir(run, "index")
    finished(job, data)
    return read_json(job.path / "fingerprint.json")


def towers_identity(folder: Path) -> str:
    """sha256 of both towers in the folder of the job `fit`."""
    return hashlib.sha256("".join(file_hash(folder / side) for side in ("query", "example")).encode()).hexdigest()
