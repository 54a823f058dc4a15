"""The plan of distillation and training, models elsewhere, machines side by side: every number worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.artifacts import JobDir
from cluster.errors import UserError
from tests.refusals import refused
from tests.train.making import jsonl
from tests.train.planning.making import (
    MACHINE,
    PLAIN,
    ROW,
    SFT,
    planned,
    words,
)
from tests.train.planning.test_model_size import ADAPTER
from train.planning.table import render

pytestmark = pytest.mark.usefixtures("nothing_cached")


def test_distillation_by_hand(folder: Path, instructions: dict[str, Any]) -> None:
    spec = {"source": str(folder), "num_engines": 2}
    summary = planned(spec, instructions=instructions, distill={"models": ["m"]})
    (row,) = summary["jobs"]
    # Read 3 x 10 tokens, written 3 x 8.
    assert (row["job"], row["model"], row["tokens_in"], row["tokens_out"]) == ("distill", "m", 30, 24)
    # 2 x 1e6 x 30 / 5e11 = 0.00012 s to read, and the first token of each answer with it; (24 - 3) / 100 = 0.21 s to
    # write; two engines share it.
    assert row["gpu_hours"] == pytest.approx(0.21012 / 3600)
    assert row["wall_hours"] == pytest.approx(0.10506 / 3600)
    # Instruction twice, answer once, 4 bytes a token; weights of 2 bytes a parameter.
    assert (row["disk_bytes"], row["gpu_memory_bytes"]) == ((2 * 30 + 24) * 4, 2_000_000)
    assert words(summary)["3 instructions of 10 tokens, their own responses of 5"].startswith(
        "instructions.files: meas"
    )


def test_an_engine_over_several_gpus_divides_its_weights_and_the_time(
    folder: Path, instructions: dict[str, Any]
) -> None:
    spec = {"source": str(folder), "tensor_parallel_size": 4}
    (row,) = planned(spec, instructions=instructions, distill={"models": ["m"]})["jobs"]
    assert (row["gpu_memory_bytes"], row["wall_hours"]) == (500_000, pytest.approx(0.21012 / 4 / 3600))


def test_writing_reads_weights_and_cache_once_a_step(folder: Path, instructions: dict[str, Any]) -> None:
    machine = {**MACHINE, "decode_tokens_per_s": None}
    plan = {**PLAIN, "nodes": {"own": machine}, "bandwidth_share": 0.5}
    (row,) = planned(folder, instructions=instructions, distill={"models": ["m"]}, plan=plan)["jobs"]
    # 3 answers at once, 10 + 8 / 2 = 14 tokens behind each, of each token 2 layers x 2 (key, value) x 4 x 2 bytes:
    # 3 x 14 x 32 = 1,344 bytes beside 2,000,000 of weights. 24 - 3 tokens are 7 steps at 5e8 bytes/s.
    assert row["gpu_hours"] == pytest.approx((0.00012 + 7 * 2_001_344 / 5e8) / 3600)
    # Slow arithmetic: writing costs what reading does, 2 x 1e6 operations a token: 30 + 21 tokens at 1e6 operations/s.
    slow = {**plan, "nodes": {"own": {**machine, "tflops": 2e-6}}}
    (row,) = planned(folder, instructions=instructions, distill={"models": ["m"]}, plan=slow)["jobs"]
    assert row["gpu_hours"] == pytest.approx(51 * 2 / 3600)


def test_finished_answers_are_measured(folder: Path, instructions: dict[str, Any]) -> None:
    job = JobDir(Path("r"), "distill/m")
    with job.opened({}):
        job.claim()
        job.finish({"num_instructions": 2, "num_tokens": 40})
    summary = planned(folder, instructions=instructions, distill={"models": ["m"]})
    assert (summary["jobs"][0]["tokens_in"], summary["jobs"][0]["tokens_out"]) == (20, 40)
    assert words(summary)["m: 2 responses of 20 tokens"] == "r/distill/m: measured"


def test_training_by_hand(folder: Path, instructions: dict[str, Any]) -> None:
    summary = planned(folder, instructions=instructions, sft=SFT)
    (row,) = summary["jobs"]
    # 3 pairs of 10 + 8 tokens, 2 epochs of ceil(3 / 2) = 2 steps.
    assert (row["model"], row["tokens_in"], row["tokens_out"]) == ("m/inverse", 108, 0)
    assert any("3 pairs of 18 tokens, 2 epochs, 4 steps; 2 workers x 1 rows x 1 acc" in one for one in words(summary))
    # LoRA: 4 x 1e6 x 108 / 5e11 = 0.000864 s, on two workers.
    assert row["gpu_hours"] == pytest.approx(0.000864 / 3600)
    assert row["wall_hours"] == pytest.approx(0.000432 / 3600)
    # Pairs: 3 x 18 x 4. Two checkpoints of 12, the adapter of 4 bytes a trained, the merged model of 2 a parameter.
    disk = {"pairs": 216, "checkpoints": 24 * ADAPTER, "adapter": 4 * ADAPTER, "merged": 2_000_000}
    assert (row["disk"], row["disk_bytes"]) == (disk, sum(disk.values()))
    # 2 a frozen, 18 + 4 a trained parameter; a token keeps 16 x 8 + 4 x 12 + 8 x 16 = 304 bytes in each of 2 layers.
    assert row["gpu_memory_bytes"] == 2_000_000 + 22 * ADAPTER + 64 * 608


@pytest.mark.parametrize(
    ("method", "checkpointing", "operations"),
    [("lora", False, 4), ("lora", True, 6), ("full", False, 6), ("full", True, 8)],
)
def test_operations_a_parameter_and_token(
    folder: Path, instructions: dict[str, Any], method: str, checkpointing: bool, operations: int
) -> None:
    sft = {**SFT, "method": method, "gradient_checkpointing": checkpointing}
    (row,) = planned(folder, instructions=instructions, sft=sft)["jobs"]
    assert row["gpu_hours"] == pytest.approx(operations * 1e6 * 108 / 5e11 / 3600)


def test_full_training_and_checkpointing_in_bytes(folder: Path, instructions: dict[str, Any]) -> None:
    sft = {**SFT, "method": "full", "gradient_checkpointing": True, "num_workers": 1}
    (row,) = planned(folder, instructions=instructions, sft=sft)["jobs"]
    # One worker: 18 bytes a parameter. Of each of 2 layers 2 x 8 bytes a token are kept, and one layer's 304.
    assert row["gpu_memory_bytes"] == 18_000_000 + 64 * (2 * 16 + 304)
    assert row["disk"] == {"pairs": 216, "checkpoints": 24_000_000, "merged": 4_000_000}


def test_pairs_end_at_the_cutoff_and_one_worker_measures_the_held_out(folder: Path) -> None:
    told = {"files": ["gone.jsonl"], "limit": 1000}
    plan = {**PLAIN, "tokens_per_instruction": 50, "tokens_per_answer": 50}
    (row,) = planned(folder, instructions=told, sft={**SFT, "dev_share": 0.1}, plan=plan)["jobs"]
    # 900 pairs of 64 (not 100) tokens twice; 100 held out, at the start and after each epoch: 3 times.
    assert row["tokens_in"] == 900 * 64 * 2 + 100 * 64 * 3
    # 4e6 x 115,200 / 5e11 = 0.9216 s on two workers, then 2e6 x 19,200 / 5e11 = 0.0768 s on one; both GPUs are held.
    assert row["wall_hours"] == pytest.approx((0.9216 / 2 + 0.0768) / 3600)
    assert row["gpu_hours"] == pytest.approx((0.9216 + 2 * 0.0768) / 3600)


def test_the_white_box_trains_twice_on_the_sets_own_answers(folder: Path, instructions: dict[str, Any]) -> None:
    sft = {**SFT, "models": {"m": {"base": "m", "mode": "white_box"}}}
    rows = planned(folder, instructions=instructions, sft=sft)["jobs"]
    # 3 pairs of 10 + 5 tokens, 2 epochs.
    assert [(row["model"], row["tokens_in"]) for row in rows] == [("m/forward", 90), ("m/inverse", 90)]


def test_types_of_machines_side_by_side(folder: Path, instructions: dict[str, Any]) -> None:
    small = {**MACHINE, "gpus": 1, "memory_gb": 0.001, "price_per_hour": 3.6}
    plan = {**PLAIN, "nodes": {"own": MACHINE, "small": small, "l4": {"price_per_hour": 1}}}
    spec = {"source": str(folder), "num_engines": 2}
    summary = planned(spec, instructions=instructions, distill={"models": ["m"]}, plan=plan)
    rows = {row["node"]: row for row in summary["nodes"]}
    assert list(rows) == ["a100", "h100", "l4", "own", "small"]
    # 0.21012 s of GPU time on two engines: one machine of two GPUs, or two of one; of each the whole is paid.
    assert rows["own"] == {
        "node": "own",
        "gpu_hours": pytest.approx(0.21012 / 3600),
        "wall_hours": pytest.approx(0.10506 / 3600),
        "num_nodes": 1,
        "node_hours": pytest.approx(0.10506 / 3600),
        "money": None,
        "fits": True,
    }
    assert (rows["small"]["num_nodes"], rows["small"]["money"]) == (2, pytest.approx(0.21012e-3))
    # 2,000,000 bytes of weights do not fit into 0.001 GB.
    assert rows["small"]["fits"] is False
    # Of a known type only what is told changes.
    assert rows["l4"]["money"] == pytest.approx(rows["l4"]["node_hours"])
    table = render(summary).splitlines()
    head = next(line for line in table if line.startswith("all on"))
    assert head.split()[-1] == "money"
    assert next(line for line in table if line.startswith("own")).split()[-1] == "?"
    assert next(line for line in table if line.startswith("small")).split()[-2] == "no"


def test_a_model_elsewhere_costs_tokens_and_no_hours(instructions: dict[str, Any]) -> None:
    summary = planned({"backend": "scripted"}, instructions=instructions, distill={"models": ["m"]})
    (row,) = summary["jobs"]
    assert (row["tokens_out"], row["gpu_hours"], row["wall_hours"], row["gpu_memory_bytes"]) == (24, 0, 0, 0)


def test_a_job_of_two_widths_pays_for_the_wider(folder: Path, tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [ROW])
    models = {"writer": {"source": str(folder)}, "m": {"source": str(folder), "num_engines": 3}}
    invert = {"models": ["m"], "inversion": {"m": "writer"}, "sources": ["inverse"]}
    summary = planned("", models=models, data={"records": [pool], "pool": [pool]}, invert=invert)
    # Three engines of one GPU: two machines of two.
    assert {row["node"]: row["num_nodes"] for row in summary["nodes"]} == {"a100": 1, "h100": 1, "l4": 3, "own": 2}


def test_a_model_that_sft_is_still_to_make_has_the_size_of_its_base(folder: Path, tmp_path: Path) -> None:
    models = {"m": {"source": str(folder)}, "own": {"source": "run:sft/m/forward/merged"}}
    records = jsonl(tmp_path / "records.jsonl", [ROW])
    summary = planned(
        "", models=models, sft=SFT, instructions={"files": ["gone"], "limit": 9}, data={"records": [records]},
        evaluate={"judges": {"j": {"model": "own"}}},
    )  # fmt: skip
    assert summary["jobs"][-1]["gpu_memory_bytes"] == 2_000_000


def test_adapters_are_planned_on_the_engine_of_their_base(tmp_path: Path) -> None:
    adapters = {name: {"base": "m", "adapter": f"run:sft/{name}/forward/adapter"} for name in ("one", "two")}
    records = jsonl(tmp_path / "records.jsonl", [ROW])
    summary = planned(
        "", models={"m": {"source": "org/m"}, **adapters}, plan={**PLAIN, "params_b": {"m": 0.001}},
        data={"records": [records]}, evaluate={"judges": {name: {"model": name} for name in adapters}},
    )  # fmt: skip
    # The base's weights once: 1e6 parameters of 2 bytes.
    assert [row["gpu_memory_bytes"] for row in summary["jobs"]] == [2_000_000] * 2
    assert summary["total"]["gpu_memory_bytes"] == 2_000_000
    assert words(summary)["one: a LoRA adapter, on the engine of m"] == "models.one.base"


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("sections", "code", "key", "named"),
    [
        ({}, "missing_section", "", "distill, sft, invert, optimise,"),
        ({"distill": {"models": ["m"]}}, "missing_section", "instructions", ""),
        (
            {"distill": {"models": ["m"]}, "instructions": {"files": ["gone.jsonl"]}},
            *("missing_file", "instructions.files", "gone.jsonl"),
        ),
        (
            {"distill": {"models": ["m"]}, "instructions": {"files": ["gone.jsonl"], "limit": 5}},
            *("missing_key", "plan.params_b.m", "--set plan.params_b.m=7.6"),
        ),
        ({"plan": {**PLAIN, "node": "b200"}}, "unknown_node", "plan", "a100, h100, l4, own"),
        ({"plan": {**PLAIN, "nodes": {"new": {"gpus": 4}}}}, "missing_key", "plan.nodes.new.tflops", ""),
        ({"invert": {"models": ["m"]}}, "missing_key", "invert.inversion.m", ""),
    ],
)
def test_what_cannot_be_planned_is_refused(sections: dict[str, Any], code: str, key: str, named: str) -> None:
    with refused(code, key, naming=named):
        planned("org/judge", **sections)


def test_unknown_models_are_named(folder: Path, tmp_path: Path) -> None:
    dev = jsonl(tmp_path / "dev.jsonl", [ROW])
    with pytest.raises(UserError, match="'n'") as caught:
        planned("org/judge", distill={"models": ["n"]}, instructions={"files": ["x"], "limit": 5})
    assert "distill.models" in f"{caught.value.key} {caught.value}"
    with pytest.raises(UserError, match="'x'") as caught:
        planned(folder, data={"records": [dev], "dev": [dev]}, optimise={"models": ["m"], "optimisers": {"m": "x"}})
    assert "optimise.optimisers.m" in f"{caught.value.key} {caught.value}"


def test_a_base_elsewhere_cannot_be_trained(instructions: dict[str, Any]) -> None:
    with refused("unsupported", "sft.models.m.base", naming="'m'"):
        planned({"backend": "scripted"}, instructions=instructions, sft=SFT)
