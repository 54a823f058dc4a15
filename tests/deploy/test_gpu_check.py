"""The GPU check: what it skips and why, its table, and its torch parts on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.gpu_check import __main__ as check
from tests.bench.measure import ROOT

NO_RAY_NO_VLLM = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "vllm", "faiss", "openai", "fastapi"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def test_a_part_is_skipped_with_its_reason(tmp_path: Path) -> None:
    assert check.skipped("batch", on_cpu=False, num_gpus=0, scratch=tmp_path) == "no GPU here (nvidia-smi lists none)"
    assert check.skipped("batch", on_cpu=True, num_gpus=0, scratch=tmp_path) == ""
    assert check.skipped("states", on_cpu=False, num_gpus=0, scratch=tmp_path) == ""
    assert check.skipped("fsdp", on_cpu=False, num_gpus=1, scratch=tmp_path) == "needs 2 GPUs, here is 1"
    assert check.skipped("fsdp", on_cpu=False, num_gpus=2, scratch=tmp_path) == ""
    assert check.skipped("labels", on_cpu=False, num_gpus=1, scratch=tmp_path).startswith("compares the scores")
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / "prompts.json").touch()
    assert check.skipped("labels", on_cpu=False, num_gpus=1, scratch=tmp_path) == ""


def test_no_part_begins_after_twenty_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "gpus_here", lambda: ["NVIDIA L4"])
    monkeypatch.setattr(check, "BUDGET_S", 0)
    assert check.main(["batch", "--out", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["parts"] == {
        "batch": {"state": "skipped", "reason": "no time is left"}
    }
    assert "| batch | skipped: no time is left | - |" in capsys.readouterr().out


def test_the_table_has_figures_reasons_and_memory() -> None:
    parts = {
        "batch": {
            "state": check.OK,
            "seconds": 70,
            "gpu_memory_mib": [70_000],
            "figures": {"ratio": 0.95123, "mfu": None},
        },
        "fsdp": {"state": check.SKIPPED, "reason": "needs 2 GPUs, here is 1"},
        "sft": {"state": check.FAILED, "reason": "CUDA out of memory", "seconds": 3},
    }
    known = {"gpus": ["NVIDIA L4"], "driver": "580.1", "torch": "2.13.0", "vllm": "0.29.0"}
    assert check.table({"machine": known, "model": "m", "parts": parts}).splitlines() == [
        "1 x NVIDIA L4, driver 580.1; torch 2.13.0, vllm 0.29.0; model: m",
        "",
        "| part | result | GPU memory, MiB |",
        "|---|---|---|",
        "| batch | ok in 70 s: ratio 0.951 | 70000 |",
        "| fsdp | skipped: needs 2 GPUs, here is 1 | - |",
        "| sft | FAILED: CUDA out of memory | - |",
    ]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        check.main(["bath"])
    assert refused.value.code == 2
    assert "unknown part 'bath'; must be one of batch, labels" in capsys.readouterr().err


@pytest.mark.slow
def test_the_torch_parts_pass_on_the_cpu_without_ray_and_vllm(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_RAY_NO_VLLM)
    out = tmp_path / "found.json"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.bench.gpu_check", "--torch-only", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    parts = json.loads(out.read_text())["parts"]
    assert [(name, part["state"]) for name, part in parts.items()] == [(name, "ok") for name in check.TORCH_PARTS]
    assert parts["states"]["figures"]["smallest_cosine"] > 0.999
    assert parts["finetuning"]["figures"]["dev_loss"][0] == pytest.approx(
        parts["finetuning"]["figures"]["of_transformers"], abs=1e-3
    )
