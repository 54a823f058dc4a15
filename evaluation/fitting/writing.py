"""What `fit-judge` writes for a judge: its regressions, the held-out scores of its labels, and its cut model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import models
from cluster.artifacts import read_json, write_text
from cluster.config import RunConfig
from cluster.model_layers import cut
from cluster.model_specs import VllmSpec
from evaluation.fitting.learning import Examples, Key, Learned
from evaluation.judges.fitted_judges import cut_model, is_model
from judging.fitted.regression import as_files
from judging.template_io import file_name


def write_regression(folder: Path, key: Key, one: Learned, examples: Examples, depth: int) -> dict[str, Any]:
    """Write the regression of a task and aspect; returns what the summary says of it."""
    (task, aspect), records = key, examples.records
    told = {
        "n": len(records),
        "num_groups": len(set(examples.groups)),
        "num_unreadable": examples.num_unreadable,
        "depth": depth,
        "penalty": one.choice.penalty,
        "half_width": one.regression.half_width if np.isfinite(one.regression.half_width) else None,
        "agreement": {
            name: {statistic: estimate.to_json() for statistic, estimate in found.items()}
            for name, found in one.agreements.items()
        },
    }
    taught = {
        "ids": [record.id for record in records],
        "groups": sorted({record.group_key for record in records}),
        "texts": sorted({record.text_hash for record in records}),
    }
    numbers, text = as_files(one.regression, {"task": task, "aspect": aspect, **told, "taught": taught})
    file = (folder / file_name(task, aspect)).with_suffix(".safetensors")
    beside = file.with_name(f".{file.name}")
    beside.write_bytes(numbers)
    beside.replace(file)
    write_text(file.with_suffix(".json"), text)
    return told


def write_held_out(file: Path, examples: Mapping[Key, Examples], learned: Mapping[Key, Learned]) -> None:
    """A row for each label: what people said, and each column's score by a fit that has not seen the text's group."""
    tables = []
    for (task, aspect), one in examples.items():
        size = len(one.records)
        columns: dict[str, Any] = {
            "id": [record.id for record in one.records],
            "group": list(one.groups),
            "task": [task] * size,
            "aspect": [aspect] * size,
            "label": one.label_N,
        }
        for name, score_N in learned[task, aspect].held_out.items():
            columns[name] = pa.array([None] * size if score_N is None else score_N, pa.float64(), from_pandas=True)
        tables.append(pa.table(columns))
    beside = file.with_name(f".{file.name}")
    pq.write_table(pa.concat_tables(tables), beside)
    beside.replace(file)


def write_cut_model(run: RunConfig, model: str, spec: VllmSpec, depth: int) -> dict[str, str]:
    """Make the cut model, unless it is there as it was made; returns its folder below the run's and its fingerprint."""
    whole = models.resolve(spec.source, revision=spec.revision)
    folder = cut_model(run.run, model, whole.fingerprint, depth)
    beside = folder.with_name(f"{folder.name}.json")
    known = read_json(beside) or {}
    if not is_model(folder, known.get("fingerprint", ""), verify=True):
        shutil.rmtree(folder, ignore_errors=True)
        cut(whole.path, depth, folder)
        known = {"fingerprint": models.resolve(str(folder), verify=True).fingerprint}
        write_text(beside, json.dumps(known))
    return {"folder": str(folder.relative_to(run.run)), **known}
