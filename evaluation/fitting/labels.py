"""The labelled texts that a fitted judge learns from: those of `data.pool` or of the dev part, with their identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

from cluster.artifacts import file_hash
from cluster.config import RunConfig, section
from cluster.identity import input_hashes
from judging.data_config import DataConfig
from judging.datasets import read_dev
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import unknown_aspect
from retrieval.pool import pool_identity, rated_data, rated_pool

Source = Literal["pool", "dev"]


class Labels(NamedTuple):
    """`records` by id; `identity`: sha256 of what decides them; `pool`: the texts that a judge may show as examples."""

    records: Mapping[str, Record]
    identity: str
    pool: Mapping[str, Record]


def read_labels(run: RunConfig, source: Source) -> Labels:
    """The texts of the configured source. Raises InputError where there are none or a row is invalid."""
    if source == "pool":
        data = rated_data(run)
        pool = rated_pool(data)
        return Labels(pool, pool_identity(data), pool)
    data = section(run, "data", DataConfig)
    if not data.has_dev:
        raise InputError(
            "`fit_judge.labels: dev` needs a labelled dev part. Set data.dev or data.dev_share.",
            code="missing_key",
            key="data.dev_share",
        )
    files = sorted({*(data.dev or data.records), *data.pool, *data.task_files})
    known = {
        "data": data.identity(exclude={"part"}),
        "files": input_hashes(files, hub_hashes(files)),
        "tasks": file_hash(TASK_FOLDER),
    }
    identity = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    records = {record.id: record for record in read_dev(data, check=unknown_aspect)}
    return Labels(records, identity, rated_pool(data) if data.pool else {})
