"""The plan: every number worked out by hand, from a made-up model folder and from configs/gpu.yaml."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main as command
from cluster.artifacts import JobDir
from cluster.config import RunConfig, build, load
from cluster.jobs import SECTIONS
from cluster.jobs import sections as known_sections
from judging.data_config import DataConfig
from judging.datasets import read_records
from judging.tasks import load_task
from judging.template import rubric_template, texts_for
from tests.train.making import jsonl, rated, unit
from tests.train.planning.test_model_size import ADAPTER, tiny_folder
from train.inversion.one_shot import as_reply
from train.planning.plan import main
from train.planning.table import HEAD, count, hours, render, size

ROOT = Path(__file__).parents[3]
# 5e11 operations a second, and 100 tokens written.
MACHINE = {"gpus": 2, "tflops": 1, "gb_s": 1, "memory_gb": 1, "decode_tokens_per_s": 100}
PLAIN = {"nodes": {"own": MACHINE}, "node": "own", "mfu": 0.5, "tokens_per_answer": 8}


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without the data beside the checkout, and an empty hub cache."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *place, **more: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of 1,000,000 parameters by its header."""
    return tiny_folder(tmp_path / "models" / "tiny")


@pytest.fixture
def instructions(tmp_path: Path) -> dict[str, Any]:
    """Three instructions of 40 characters, 10 tokens, with own answers of 20 characters, 5 tokens."""
    rows = [{"instruction": letter * 40, "output": letter * 20} for letter in "abc"]
    return {"files": [jsonl(tmp_path / "i.jsonl", rows)]}


def planned(model: Any, **sections: Any) -> dict[str, Any]:
    """The summary for one model `m`, of that source or specification."""
    spec = model if isinstance(model, dict) else {"source": str(model)}
    raw = {"run": "r", "models": {"m": spec}, "plan": PLAIN, **sections}
    return main(build(raw, known_sections(), origin="test")).summary


def words(summary: dict[str, Any]) -> dict[str, str]:
    return {one["words"]: one["source"] for one in summary["assumptions"]}


# ---------------------------------------------------------------------- the jobs, with a model of 1,000,000 parameters


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
    assert words(summary)["3 instructions of 10 tokens, their own answers of 5"].startswith("instructions.files: meas")


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
    assert words(summary)["m: 2 answers of 20 tokens"] == "r/distill/m: measured"


SFT: dict[str, Any] = {
    "models": {"m": {"base": "m"}},
    "lora_rank": 4,
    "epochs": 2,
    "num_workers": 2,
    "per_device_batch": 1,
    "effective_batch": 2,
    "cutoff": 64,
    "dev_share": 0,
}


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


RECORD = rated("one", {"overall": 3})
TEXTS = {"source": "Question one?", "candidate": "Answer one."}
ROW = {"id": "one", "task": "qa", "group": "g-one", **TEXTS, "scores": {"overall": 3}, "scale": [1, 5]}


def test_inversion_by_hand(folder: Path, tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [ROW])
    invert = {"models": ["m"], "inversion": {"m": "m"}, "num_candidates": 3, "max_tokens": 20, "sources": ["inverse"]}
    (row,) = planned(folder, data={"records": [pool], "pool": [pool]}, invert=invert)["jobs"]
    tokens = len(as_reply(unit(RECORD), RECORD, with_score=True)) / 4
    # 3 prompts are written, each of 20 tokens; each is then read with the text and answered by one token.
    assert row["tokens_in"] == pytest.approx(3 * tokens + 3 * (20 + tokens))
    assert (row["model"], row["tokens_out"]) == ("m/inverse", 3 * 20 + 3)
    # The first token of each comes with the reading: 3 x 19 others are written.
    assert row["gpu_hours"] == pytest.approx((2e6 * row["tokens_in"] / 5e11 + 57 / 100) / 3600)
    assert row["disk_bytes"] == 4 * 60 * 4


def test_every_candidate_is_tried_on_the_dev_part(folder: Path, tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [ROW])
    dev = jsonl(tmp_path / "dev.jsonl", [{**ROW, "id": str(number)} for number in range(7)])
    invert = {"models": ["m"], "num_candidates": 3, "max_tokens": 20, "sources": ["forward"], "dev": [dev]}
    (row,) = planned(folder, data={"records": [pool], "pool": [pool]}, invert=invert)["jobs"]
    assert row["tokens_out"] == 3 * 20 + 3 * 7


def test_evaluation_counts_the_prompts_that_judges_get_and_reads_a_beginning_once(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [ROW, {**ROW, "id": "two"}])
    judges = {"j": {"model": "m"}, "p": {"model": "m", "score_mode": "parsed", "max_tokens": 30}}
    summary = planned(folder, data={"records": [records]}, evaluate={"judges": judges})
    expected, parsed = summary["jobs"]
    template = rubric_template(load_task("qa"), "overall")
    prompt = template.render(texts_for(RECORD, template), mode="expected").text
    assert expected["tokens_in"] == 2 * len(prompt) / 4
    # The second prompt is the first again: only one is read.
    assert expected["gpu_hours"] == pytest.approx(2e6 * len(prompt) / 4 / 5e11 / 3600)
    assert (expected["tokens_out"], parsed["tokens_out"]) == (2, 60)
    assert "evaluate: 2 prompts a judge" in " ".join(words(summary))


def row_of(group: str, **more: Any) -> dict[str, Any]:
    return {**ROW, "id": f"{group}-{len(more)}", "group": group, **more}


def prompt_tokens(row: dict[str, Any]) -> float:
    template = rubric_template(load_task("qa"), "overall")
    return len(template.render({"source": row["source"], "candidate": row["candidate"]}, mode="expected").text) / 4


def head_tokens() -> float:
    """What stands before the first example's first text."""
    template = rubric_template(load_task("qa"), "overall")
    return template.render(TEXTS, mode="expected", examples=[(TEXTS, 3)]).text.index("Question one?") / 4


def test_retrieved_examples_leave_only_the_rubrics_head_to_share(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [ROW, {**ROW, "id": "two"}])
    judges = {
        "fixed": {"model": "m", "examples": ["a", "b"]},
        "found": {"model": "m", "icl": {"arm": "random", "k": 2}},
        "diverse": {"model": "m", "icl": {"arm": "diverse", "k1": 3, "k2": 1}},
    }
    fixed, found, diverse = planned(folder, data={"records": [records]}, evaluate={"judges": judges})["jobs"]
    one, head = prompt_tokens(ROW), head_tokens()
    example = one - head
    assert [fixed["tokens_in"], found["tokens_in"], diverse["tokens_in"]] == pytest.approx(
        [2 * (one + 2 * example), 2 * (one + 2 * example), 2 * (one + 4 * example)]
    )
    # Fixed: the second prompt is known; of both, the examples are counted as known.
    assert fixed["gpu_hours"] == pytest.approx(2e6 * one / 5e11 / 3600)
    assert found["gpu_hours"] == pytest.approx(2e6 * (2 * (one + 2 * example) - head) / 5e11 / 3600)


def test_only_the_groups_of_the_part_are_counted(folder: Path, tmp_path: Path) -> None:
    rows = [row_of(f"g{number}") for number in range(40)]
    data = DataConfig.model_validate(
        {"records": [jsonl(tmp_path / "r.jsonl", rows)], "dev_share": 0.5, "groups_share": 0.7}
    )
    num = {
        part: sum(data.model_copy(update={"part": part}).takes(one) for one in read_records(data.records))
        for part in ("test", "dev")
    }
    assert min(num.values()) > 5
    sections: dict[str, Any] = {"evaluate": {"judges": {"j": {"model": "m"}}}, "panel": {}}
    panel, evaluate = planned(folder, data=data.model_dump(), **sections)["jobs"]
    assert (panel["job"], panel["tokens_out"]) == ("panel", num["dev"])
    assert (evaluate["job"], evaluate["tokens_out"]) == ("evaluate", num["test"])
    # An optimised prompt has seen a quarter of the dev part, which `panel` leaves out where a judge uses it.
    sections["optimise"] = {"models": ["m"], "share": 0.25}
    assert planned(folder, data=data.model_dump(), **sections)["jobs"][1]["tokens_out"] == num["dev"]
    sections["evaluate"]["judges"]["o"] = {"model": "m", "prompt": "optimised"}
    assert planned(folder, data=data.model_dump(), **sections)["jobs"][1]["tokens_out"] == round(0.75 * num["dev"])
    # The dev part itself may be what is evaluated.
    (row,) = planned(
        folder, data={**data.model_dump(), "part": "dev"}, evaluate={"judges": {"j": {"model": "m"}}}
    )["jobs"]  # fmt: skip
    assert row["tokens_out"] == num["dev"]


def test_optimising_by_hand(folder: Path, tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "id": "two"}, {**ROW, "id": "three", "scores": {"relevance": 2}}]
    dev = jsonl(tmp_path / "dev.jsonl", rows)
    optimise = {"models": ["m"], "rounds": 2, "num_drafts": 3, "cases": 4, "max_tokens": 20, "share": 1}
    (row,) = planned(
        folder, data={"records": [dev], "dev": [dev]}, optimise={**optimise, "aspects": ["overall"]}
    )["jobs"]  # fmt: skip
    one = prompt_tokens(ROW)
    case = one - head_tokens()
    # Two texts by the start and by each of 2 x 3 drafts; 6 drafts of 20 tokens, each from 4 cases.
    assert row["tokens_in"] == pytest.approx(14 * one + 6 * 4 * case)
    assert row["tokens_out"] == 14 + 6 * 20
    # The texts are the same: half of what the judge reads is known. Of 3 drafts of a round two have a known request.
    assert row["gpu_hours"] == pytest.approx((2e6 * (7 * one + 2 * 4 * case) / 5e11 + 6 * 19 / 100) / 3600)


def test_feedback_by_hand(folder: Path, tmp_path: Path) -> None:
    # The first five are not rated, so nobody tries examples for them; nor is a row of an unknown task used.
    rows = [row_of(f"g{number}", **({} if number > 4 else {"scores": {}})) for number in range(10)]
    pool = jsonl(tmp_path / "pool.jsonl", [*rows, {**ROW, "id": "odd", "task": "cooking", "scores": {"salt": 1}}])
    feedback = {"model": "m", "queries": 3, "random": 2, "bm25": 1, "semantic": 0}
    (row,) = planned(folder, data={"records": [pool], "pool": [pool]}, feedback=feedback)["jobs"]
    # 3 texts, 3 examples each; a prompt and an example as long as its text's part.
    one, head = prompt_tokens(ROW), head_tokens()
    assert (row["tokens_in"], row["tokens_out"]) == (pytest.approx(9 * (2 * one - head)), 9)
    # Of 3 texts 2 have the rubric's head in common with one before: so have 6 of the 9 prompts.
    assert row["gpu_hours"] == pytest.approx(2e6 * (row["tokens_in"] - 6 * head) / 5e11 / 3600)


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


def test_tokens_are_counted_by_the_models_own_tokenizer(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token a character
    letters.save(str(folder / "tokenizer.json"))
    records = jsonl(tmp_path / "records.jsonl", [ROW])
    summary = planned(folder, data={"records": [records]}, evaluate={"judges": {"j": {"model": "m"}}})
    assert summary["jobs"][0]["tokens_in"] == 4 * prompt_tokens(ROW)
    assert words(summary)["m: 1 characters a token of a judge's prompt"].endswith("tokenizer.json, 1 prompts")


def test_an_evaluation_without_its_files_is_left_out_and_said(folder: Path) -> None:
    summary = planned(folder, data={"records": ["gone.jsonl"]}, evaluate={"judges": {"j": {"model": "m"}}})
    assert (summary["jobs"], summary["total"]["gpu_hours"]) == ([], 0)
    assert words(summary)["evaluate is left out"] == "data: gone.jsonl is not here"


def test_a_model_elsewhere_costs_tokens_and_no_hours(instructions: dict[str, Any]) -> None:
    summary = planned({"backend": "scripted"}, instructions=instructions, distill={"models": ["m"]})
    (row,) = summary["jobs"]
    assert (row["tokens_out"], row["gpu_hours"], row["wall_hours"], row["gpu_memory_bytes"]) == (24, 0, 0, 0)


@pytest.mark.parametrize("model", [{"backend": "scripted"}, {"backend": "http", "base_url": "http://h", "model": "x"}])
def test_every_judging_job_is_counted_for_models_elsewhere(model: dict[str, Any], tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [row_of(f"g{number}") for number in range(6)])
    summary = planned(
        model,
        data={"records": [rows], "dev": [rows], "pool": [rows]},
        optimise={"models": ["m"]},
        feedback={"model": "m"},
        panel={},
        evaluate={"judges": {"j": {"model": "m"}}, "integrator": {"model": "m", "max_tokens": 50}},
    )
    rows_of = {(row["job"], row["model"]): row for row in summary["jobs"]}
    assert list(rows_of) == [
        *(("optimise", "m"), ("feedback", "m"), ("panel", "j")),
        *(("evaluate", "j"), ("evaluate", "integrator m")),
    ]
    assert rows_of["evaluate", "integrator m"]["tokens_out"] == 6 * 50
    assert summary["total"]["gpu_hours"] == 0


def test_examples_are_cut_at_their_budget(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [ROW])
    judges = {"j": {"model": "m", "icl": {"arm": "random", "k": 4, "max_tokens": 10}}}
    (row,) = planned(folder, data={"records": [records]}, evaluate={"judges": judges})["jobs"]
    assert row["tokens_in"] == prompt_tokens(ROW) + 10


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


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({}, "the configuration has no section of a job that could be planned: distill, sft, invert, optimise,"),
        ({"distill": {"models": ["m"]}}, "the configuration has no `instructions` section"),
        (
            {"distill": {"models": ["m"]}, "instructions": {"files": ["gone.jsonl"]}},
            "instructions.files: gone.jsonl is not on this machine, so nothing says how many",
        ),
        (
            {"distill": {"models": ["m"]}, "instructions": {"files": ["gone.jsonl"], "limit": 5}},
            "models.m: neither a folder on this machine nor the name 'org/judge' tells how large the model is: give "
            "its billions of parameters, --set plan.params_b.m=7.6",
        ),
        (
            {"distill": {"models": ["n"]}, "instructions": {"files": ["x"], "limit": 5}},
            "distill.models: 'n' is none of",
        ),
        ({"plan": {**PLAIN, "node": "b200"}}, "test: `plan`: node: 'b200' is none of plan.nodes: a100, h100, l4, own"),
        ({"plan": {**PLAIN, "nodes": {"new": {"gpus": 4}}}}, "test: `plan.nodes.new.tflops`"),
        ({"invert": {"models": ["m"]}}, "invert.inversion.m: neither it nor `sft` names the inversion model of m"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + sentence.replace(".", r"\.")[:40]) as refused:
        planned("org/judge", **sections)
    assert str(refused.value).startswith(sentence)
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]


def test_an_unknown_optimiser_is_named(folder: Path, tmp_path: Path) -> None:
    dev = jsonl(tmp_path / "dev.jsonl", [ROW])
    with pytest.raises(ValueError, match=r"optimise.optimisers.m: 'x' is none of"):
        planned(folder, data={"records": [dev], "dev": [dev]}, optimise={"models": ["m"], "optimisers": {"m": "x"}})


def test_a_base_elsewhere_cannot_be_trained(instructions: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"sft.models.m.base: 'm' has no weights here"):
        planned({"backend": "scripted"}, instructions=instructions, sft=SFT)


# ---------------------------------------------------------------------- configs/gpu.yaml


@pytest.fixture(scope="module")
def gpu() -> RunConfig:
    return load(ROOT / "configs" / "gpu.yaml", [], known_sections())


def test_the_papers_recipe_is_in_the_configuration(gpu: Any) -> None:
    sft, invert = gpu.sft, gpu.invert
    assert (sft.lora_rank, sft.lora_alpha, sft.learning_rate, sft.epochs, sft.cutoff) == (256, 512, 1e-4, 3, 2048)
    # 4 x 8 x 32 = 1,024
    assert (sft.num_workers, sft.per_device_batch, sft.accumulation, sft.effective_batch) == (4, 8, 32, 1024)
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
    # tokens/s; 660,000 x 383, as the first token comes with the reading: 56,720 s. Together 67,023 s; 4 engines.
    assert distill["gpu_hours"] == pytest.approx(67_023 / 3600, rel=1e-4)
    assert distill["wall_hours"] == pytest.approx(67_023 / 4 / 3600, rel=1e-4)
    assert distill["disk_bytes"] == (2 * 84_480_000 + 253_440_000) * 4
    assert distill["gpu_memory_bytes"] == 15.22e9
    # 660,000 x 0.995 = 656,700 pairs of 512 tokens; ceil(656,700 / 1,024) = 642 steps, three times. Held out: 3,300
    # pairs, measured 4 times.
    said = (
        "qwen/inverse: 656,700 pairs of 512 tokens, 3 epochs, 1,926 steps; "
        "4 workers x 8 rows x 32 accumulated = 1024 rows a step"
    )
    assert said in words(summary)
    assert sft["tokens_in"] == 656_700 * 512 * 3 + 3_300 * 512 * 4
    # (4 + 2) x 7.61e9 x 1,008,691,200 / 1.248e14 = 369,045 s on 4 GPUs; 2 x 7.61e9 x 6,758,400 / 1.248e14 = 824 s on 1.
    assert sft["wall_hours"] == pytest.approx((369_045 / 4 + 824) / 3600, rel=1e-4)
    assert sft["gpu_hours"] == pytest.approx((369_045 + 4 * 824) / 3600, rel=1e-4)
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
    assert words(summary)["660,000 instructions"].startswith("assumed: instructions.limit; ../shared/data/infinity")


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
    assert said.err.startswith("inverdict plan: the configuration has no section of a job")
    assert command(["plan", "c.yaml", "--set", "plan.mfu=2"]) == 2
    assert "`plan.mfu`: input should be less than or equal to 1" in capsys.readouterr().err


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
