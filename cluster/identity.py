"""What decides a job's result: models by specification and weights, input files by content. For fingerprints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster import models
from cluster.artifacts import file_hash
from cluster.config import ModelSpec, RunConfig, VllmSpec
from cluster.errors import UserError

# What changes speed or place, never a result.
NOT_IDENTITY = {
    *("num_gpus", "num_cpus", "num_engines", "batch_size", "kv_cache_gib", "max_in_flight", "max_retries"),
    *("timeout_s", "api_key_env", "api_key_file", "accelerator_type", "resources", "tensor_parallel_size"),
    *("pipeline_parallel_size", "delay_s"),
}


def spec_of(run: RunConfig, name: str, place: str) -> ModelSpec:
    """The model of that name; UserError with the key's place where there is none."""
    if name not in run.models:
        raise UserError(f"{place}: {name!r} is none of models: {', '.join(run.models) or '(none)'}")
    return run.models[name]


def spec_identity(spec: ModelSpec) -> dict[str, Any]:
    """A model's specification without what only changes speed or place."""
    return {key: value for key, value in json.loads(spec.model_dump_json()).items() if key not in NOT_IDENTITY}


def model_identity(spec: ModelSpec) -> dict[str, Any]:
    """The same, and the fingerprint of the model's weights."""
    known = spec_identity(spec)
    if isinstance(spec, VllmSpec):
        known["weights"] = models.resolve(spec.source, revision=spec.revision).fingerprint
    return known


def input_hashes(paths: Iterable[str]) -> dict[str, str]:
    """sha256 of every input file or folder. Raises UserError where one is missing."""
    found = list(paths)
    for path in found:
        if not Path(path).exists():
            raise UserError(f"there is no file {path}: paths count from the working directory")
    return {path: file_hash(Path(path)) for path in found}
