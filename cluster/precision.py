"""The dtype on CPUs: bfloat16 where the processor computes it, else float32; one for a whole run folder.

bfloat16 is about twice as fast as float32 on a processor that computes it (AVX512-BF16, AMX), and several times slower
on any other. The choice is kept in `{run}/dtype.json`, so that a run which is resumed on another processor, and every
job of the run folder, computes alike.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from cluster import runtime
from cluster.artifacts import write_text
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.model_specs import ModelSpec, VllmSpec
from cluster.terminal import say

Dtype = Literal["bfloat16", "float32"]
# Names of the instructions in /proc/cpuinfo.
COMPUTE_BFLOAT16 = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}
CPUINFO = Path("/proc/cpuinfo")
FILE = "dtype.json"


def instructions(cpuinfo: str) -> list[str]:
    """The instructions for bfloat16 in the text of /proc/cpuinfo, by their usual names; empty: there are none."""
    flags = next((line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    return [name for flag, name in COMPUTE_BFLOAT16.items() if flag in flags]


def dtype_here() -> Dtype:
    """The faster dtype on this machine's processor."""
    try:
        return "bfloat16" if instructions(CPUINFO.read_text(encoding="utf-8", errors="replace")) else "float32"
    except OSError:
        return "float32"


def on_gpus(spec: VllmSpec) -> bool:
    """Whether the model's engines run on GPUs of the running cluster."""
    return spec.num_gpus > 0 if spec.num_gpus is not None else runtime.num_gpus() > 0


def settled(run: RunConfig, spec: ModelSpec) -> ModelSpec:
    """The model with the dtype that the run folder's engines on CPUs have; any other as it is.

    Needs `runtime.start`. The first call decides and writes `{run}/dtype.json`.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    if not isinstance(spec, VllmSpec) or spec.dtype != "auto" or on_gpus(spec):
        return spec
    return spec.model_copy(update={"dtype": kept_dtype(run.run)})


def all_settled(run: RunConfig, names: Collection[str]) -> RunConfig:
    """The configuration with the models of these names `settled`; the others are not used."""
    known = {name: settled(run, spec) if name in names else spec for name, spec in run.models.items()}
    return run.model_copy(update={"models": known})


def kept_dtype(folder: Path) -> Dtype:
    """The dtype that all work on CPUs in a run folder has. Raises UserError as `settled` does."""
    file, here = folder / FILE, dtype_here()
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        if known is None:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps({"dtype": here}))
            return here
    except (ValueError, RecursionError):
        known = {}
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror}. Choose another `run`, or set `dtype` of the models, which "
            "this file keeps.",
            code="store_unwritable",
            key="run",
        ) from error
    if not isinstance(known, dict) or known.get("dtype") not in ("bfloat16", "float32"):
        raise UserError(f"{file} is damaged. Delete it and run the job again.", code="damaged_artifact")
    kept: Dtype = known["dtype"]
    if kept == "bfloat16" and here == "float32":
        say(f"{file}: this run began in bfloat16, which this processor computes slowly; it is kept for equal scores")
    return kept
