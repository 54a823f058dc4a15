"""From instructions to a judge's own prompt with the embedded SmolLM2 on the real vLLM, on the smallest budget."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from cluster import models
from cluster.__main__ import main
from judging.template_io import load_templates

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("ray_cluster")]
ROOT = Path(__file__).parents[2]
SOURCE = "embedded:smollm2-135m-instruct"
JOBS = ("distill/m", "sft/m/inverse", "invert/m")
SCRIPTED = ("--set", "models.m={backend: scripted}")


def config(folder: Path) -> dict[str, Any]:
    return {
        "run": str(folder / "run"),
        "instructions": {"files": [str(ROOT / "examples" / "instructions.jsonl")], "limit": 16},
        "data": {
            "records": [str(folder / "few.jsonl")],
            "pool": [str(ROOT / "examples" / "pool.jsonl")],
            "labels": "constructed",
        },
        "models": {"m": {"source": SOURCE, "max_model_len": 1024, "kv_cache_gib": 0.5}},
        "distill": {"models": ["m"], "max_tokens": 48},
        "sft": {
            "models": {"m": {"base": "m"}},
            "epochs": 1,
            "effective_batch": 4,
            "cutoff": 256,
            "dev_share": 0.2,
            "learning_rate": 0.001,
        },
        "invert": {
            "models": ["m"],
            "examples": ["pool-qa-3-3"],
            "sources": ["inverse"],
            "num_candidates": 4,
            "max_tokens": 64,
            "require_scale": False,
        },
        "evaluate": {"judges": {"rubric": {"model": "m"}, "inverse": {"model": "m", "prompt": "inverse"}}},
        "report": {"resamples": 100},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    lines = (ROOT / "examples" / "constructed.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "few.jsonl").write_text("".join(f"{line}\n" for line in lines[:10]), encoding="utf-8")
    (folder / "c.yaml").write_text(yaml.safe_dump(config(folder)))
    for job in ("distill", "sft", "invert"):
        assert main([job, str(folder / "c.yaml")]) == 0
    # That vLLM judges with a prompt of one's own is tested in test_evaluate_engine.py.
    for job in ("evaluate", "report"):
        assert main([job, str(folder / "c.yaml"), *SCRIPTED]) == 0
    return folder / "run"


def test_every_job_is_complete_and_a_second_run_does_none_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifests = [run / job / "manifest.json" for job in JOBS]
    before = [manifest.stat().st_mtime_ns for manifest in manifests]
    for job in ("distill", "sft", "invert"):
        assert main([job, str(run.parent / "c.yaml")]) == 0
    assert [manifest.stat().st_mtime_ns for manifest in manifests] == before
    assert capsys.readouterr().err.count("done before") == 3


def test_the_adapter_loads_on_the_base_and_is_what_was_merged(run: Path) -> None:
    folder = run / "sft" / "m" / "inverse"
    base = AutoModelForCausalLM.from_pretrained(models.resolve(SOURCE).path, dtype=torch.float32).eval()
    ids = torch.tensor([[1, 4093, 198, 28120, 736]])
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
        together = merged.eval()(input_ids=ids).logits
    assert torch.allclose(adapted, together, atol=1e-2)
    assert float((adapted - plain).abs().max()) > 0.05


def test_vllm_wrote_prompts_with_the_merged_model_and_a_judge_has_one(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "invert" / "m" / "candidates.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert len({line["raw"] for line in lines}) > 1  # each draw has a seed of its own
    assert all(line["raw"] or line["problems"] for line in lines)
    [file] = (run / "invert" / "m" / "inverse").iterdir()
    template = load_templates(file)["overall"]
    assert template.seen_groups == {"qa/constructed/pool-qa-3"}
    rows = pq.read_table(run / "evaluate" / "scores.parquet").to_pylist()
    assert len(rows) == 10
    assert all(1 <= row["inverse.score"] <= 5 for row in rows)
    assert any(row["inverse.score"] != row["rubric.score"] for row in rows) or template.about.get("fallback")


def test_the_report_shows_the_learned_prompt_and_the_training(run: Path) -> None:
    page = (run / "report" / "report.html").read_text()
    assert "Learned prompts" in page
    assert "Inversion training" in page
    training = json.loads((run / "sft" / "m" / "inverse" / "training.json").read_text())
    assert training["num_train"] >= 4
    assert training["losses"][-1]["loss"] > 0
