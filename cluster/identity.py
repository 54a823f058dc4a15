"""The parts of a fingerprint: models by specification and weights, input files by content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster import models
from cluster.adapters import adapter_of
from cluster.artifacts import file_hash
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.model_layers import CutSpec
from cluster.model_specs import ADAPTED, FeaturesSpec, ModelSpec, VllmSpec

# Settings that change the speed or the place of the work, never its result.
NOT_IDENTITY = {
    *("num_gpus", "num_cpus", "num_engines", "batch_size", "kv_cache_gib", "max_in_flight", "max_retries"),
    *("timeout_s", "api_key_env", "api_key_file", "accelerator_type", "resources", "tensor_parallel_size"),
    *("pipeline_parallel_size", "delay_s", "engine_metrics"),
    *ADAPTED,  # names and places: the adapter's weights are part of `model_identity`
}

NEWER = ("chat_template_kwargs", "thinking_token_budget")  # left out at their defaults: runs of before stay valid
OF_FILES = ("weights", "adapter")  # what `model_identity` adds to `spec_identity`


def spec_of(run: RunConfig, name: str, place: str) -> ModelSpec:
    """The model of that name.

    Args:
        run: the configuration.
        name: a key of `models`.
        place: the configuration key that names the model.

    Raises:
        UserError: there is no such model, or it is a text feature that cannot do this; `key` is `place`.
    """
    if name not in run.models:
        known = f"must be one of {', '.join(run.models)}" if run.models else "the configuration has no `models`"
        raise UserError(f"`{place}`: unknown model {name!r}; {known}.", code="unknown_model", key=place)
    spec = run.models[name]
    if isinstance(spec, FeaturesSpec) and not place.startswith("evaluate.judges."):
        raise UserError(
            f"`{place}`: {name!r} is a text feature (`backend: features`), not a model. It can only be a judge.",
            code="unsupported",
            key=place,
        )
    return spec


def spec_identity(spec: ModelSpec) -> dict[str, Any]:
    """A model's specification without the settings that only change speed or place."""
    known = {key: value for key, value in json.loads(spec.model_dump_json()).items() if key not in NOT_IDENTITY}
    known = {key: value for key, value in known.items() if key not in NEWER or value}
    if isinstance(spec, CutSpec):
        del known["source"]  # a place in the run folder, which may be moved
    return known


def model_identity(spec: ModelSpec) -> dict[str, Any]:
    """The same with the fingerprint of the model's weights, and of its LoRA adapter."""
    known = spec_identity(spec)
    if isinstance(spec, VllmSpec):
        known["weights"] = models.resolve(spec.source, revision=spec.revision, weights=False).fingerprint
        if spec.adapter:
            known["adapter"] = adapter_of(spec).fingerprint
    return known


def input_hashes(paths: Iterable[str], known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """sha256 of every input file or folder, with the `known` hashes of inputs that are neither.

    Raises UserError if one is missing.
    """
    found = [path for path in paths if path not in known]
    for path in found:
        if not Path(path).exists():
            raise UserError(
                f"File not found: {path}. Paths are relative to the working directory.", code="missing_file"
            )
    return {**known, **{path: file_hash(Path(path)) for path in found}}
