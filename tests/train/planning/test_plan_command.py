"""The command `plan`: configs/gpu.yaml by hand, what it prints, and the formats of its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main as command
from cluster.config import RunConfig, load
from cluster.jobs import SECTIONS
from cluster.jobs import sections as known_sections
from tests.train.planning.making import (
    SFT,
    planned,
    words,
)
from train.planning.plan import main
from train.planning.table import HEAD, count, hours, render, size

pytestmark = pytest.mark.usefixtures("nothing_cached")
ROOT = Path(__file__).parents[3]


# ---------------------------------------------------------------------- configs/gpu.yaml


@pytest.fixture(scope="module")
def gpu() -> RunConfig:
    return load(ROOT / "configs" / "gpu.yaml", [], known_sections())


def test_the_papers_recipe_is_in_the_configuration(gpu: Any) -> None:
    sft, invert = gpu.sft, gpu.invert
    assert (sft.lora_rank, sft.lora_alpha, sft.learning_rate, sft.epochs, sft.cutoff) == (256, 512, 1e-4, 3, 2048)
    # 8 x 8 x 16 = 1,024
    assert (sft.num_workers, sft.per_device_batch, sft.accumulation, sft.effective_batch) == (8, 8, 16, 1024)
    assert (invert.temperature, invert.top_p, invert.top_k) == (0.95, 0.7, 50)
    assert [judge.prompt for judge in gpu.evaluate.judges.values()] == ["rubric", "forward", "inverse"]
    assert gpu.models[sft.models["qwen"].base].source == "Qwen/Qwen2.5-7B"


def test_gpu_yaml_by_hand(gpu: Any) -> None:
    summary = main(gpu).summary
    distill, sft, inverse, forward = summary["jobs"]
    # 660,000 x 128 tokens read, 660,000 x 384 written.
    assert (distill["tokens_in"], distill["tokens_out"]) == (84_480_000, 253_440_000)
    # Reading: 2 x 7.61e9 x 84.48e6 / (312e12 x 0.4) = 10,303 s. Writing: a step of 128 answers reads 15.22e9 bytes of
    # weights and 128 x (128 + 384 / 2) x 28 x 2 x 512 x 2 = 2.349e9 of cache at 0.6117e12 bytes/s, 28.72 ms: 4,456.6
    # tokens/s; 660,000 x 383, as the first token comes with the reading: 56,720 s. Together 67,023 s; 8 engines.
    assert distill["gpu_hours"] == pytest.approx(67_023 / 3600, rel=1e-4)
    assert distill["wall_hours"] == pytest.approx(67_023 / 8 / 3600, rel=1e-4)
    assert distill["disk_bytes"] == (2 * 84_480_000 + 253_440_000) * 4
    assert distill["gpu_memory_bytes"] == 15.22e9
    # 660,000 x 0.995 = 656,700 pairs of 512 tokens; ceil(656,700 / 1,024) = 642 steps, three times. Held out: 3,300
    # pairs, measured 4 times.
    said = (
        "qwen/inverse: 656,700 pairs of 512 tokens, 3 epochs, 1,926 steps; "
        "8 workers x 8 rows x 16 accumulated = 1024 rows a step"
    )
    assert said in words(summary)
    assert sft["tokens_in"] == 656_700 * 512 * 3 + 3_300 * 512 * 4
    # (4 + 2) x 7.61e9 x 1,008,691,200 / 1.248e14 = 369,045 s on 8 GPUs; 2 x 7.61e9 x 6,758,400 / 1.248e14 = 824 s on 1.
    assert sft["wall_hours"] == pytest.approx((369_045 / 8 + 824) / 3600, rel=1e-4)
    assert sft["gpu_hours"] == pytest.approx((369_045 + 8 * 824) / 3600, rel=1e-4)
    # Rank 256 x 28 layers x (2 x (3,584 + 3,584) + 2 x (3,584 + 512) + 3 x (3,584 + 18,944) = 90,112).
    adapter = 645_922_816
    assert sft["disk"] == {
        "pairs": 660_000 * 512 * 4,
        "checkpoints": 24 * adapter,
        "adapter": 4 * adapter,
        "merged": 15.22e9,
    }
    # 16 x 3,584 + 4 x (3,584 + 512) + 8 x 18,944 = 225,280 bytes a token in one layer, 2 x 3,584 x 28 = 200,704 in all.
    assert sft["gpu_memory_bytes"] == pytest.approx(15.22e9 + 22 * adapter + 8 * 2048 * 425_984)
    # 8 prompts of 768 tokens from an example of 1,000; each tried once.
    assert (inverse["tokens_in"], inverse["tokens_out"]) == (8 * 1000 + 8 * 1768, 8 * 768 + 8)
    assert forward["tokens_in"] == inverse["tokens_in"]
    assert summary["total"]["gpu_hours"] == pytest.approx(sum(row["gpu_hours"] for row in summary["jobs"]))
    assert words(summary)["qwen: 7.61 B parameters"] == "plan.params_b (configured)"
    assert words(summary)["660,000 instructions"].startswith("assumed: instructions.limit; dataset:infinity")


# ---------------------------------------------------------------------- the command


def test_the_command_loads_nothing_heavy_and_leaves_nothing() -> None:
    code = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom cluster.__main__ import main\n"
        f"main(['plan', {str(ROOT / 'configs' / 'gpu.yaml')!r}])\n"
        "print(sorted({'ray', 'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert done.stderr == ""
    assert list(Path.cwd().iterdir()) == []


def test_a_program_reads_json_and_people_read_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    place = str(ROOT / "configs" / "gpu.yaml")
    assert command(["plan", place, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert set(summary) == {"node", "jobs", "total", "nodes", "assumptions"}
    assert command(["plan", place, "--set", "instructions.limit=1000", "--set", "plan.mfu=0.5"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert (lines[0], lines[1].split("  ")[0]) == ("on a100", HEAD[0])
    # The columns of numbers end where their heads end.
    row = next(line for line in lines if line.startswith("distill"))
    assert row[: lines[1].index("tokens in") + len("tokens in")].endswith("128 k")
    assert "1. 1,000 instructions [assumed: instructions.limit;" in said.out
    assert "312 TFLOPS (dense bfloat16) x 0.5 [plan.nodes.a100.tflops (default), plan.mfu (configured)]" in said.out
    assert max(map(len, lines)) <= 120
    assert "plan" in SECTIONS


def test_a_mistake_is_one_sentence_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text("run: r\n")
    assert command(["plan", "c.yaml"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("inverdict plan: ") and "distill, sft, invert" in said.err
    assert command(["plan", "c.yaml", "--set", "plan.mfu=2"]) == 2
    assert "`plan.mfu`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "-"), (7, "7"), (999, "999"), (1234, "1.23 k"), (999_990, "1 M"), (84_480_000, "84.5 M"), (1.2e9, "1.2 B")],
)
def test_counts_for_people(number: float, told: str) -> None:
    assert count(number) == told


def test_bytes_and_hours_for_people() -> None:
    assert [size(n) for n in (0, 900, 2.5e6, 14.1e9, 999.9e9, 3.2e12)] == [
        "-", "0.9 kB", "2.5 MB", "14.1 GB", "1 TB", "3.2 TB",
    ]  # fmt: skip
    assert [hours(n) for n in (0, 0.0001, 0.002, 0.12, 4.663, 34.27, 1234.5)] == [
        "-", "1 s", "7 s", "7.2 min", "4.66 h", "34.3 h", "1,234 h",
    ]  # fmt: skip


def test_the_table_has_a_line_a_row_and_a_total(folder: Path, instructions: dict[str, Any]) -> None:
    lines = render(planned(folder, instructions=instructions, distill={"models": ["m"]}, sft=SFT)).splitlines()
    assert lines[0] == "on own"
    assert [line.split()[0] for line in lines[1:5]] == ["job", "distill", "sft", "total"]
    # 216 bytes, 24 x 1,024, 4 x 1,024, 2,000,000.
    assert lines[5] == "disk of sft m/inverse: pairs 0.216 kB, checkpoints 24.6 kB, adapter 4.1 kB, merged 2 MB"
    assert [line.split()[0] for line in lines[7:12]] == ["all", "a100", "h100", "l4", "own"]
    assert (lines[6], lines[12], lines[13]) == ("", "", "Assumptions, each with its source:")
