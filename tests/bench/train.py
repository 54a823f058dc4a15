"""Speed and memory of flow a, as ratios within one run: `make bench-train`, or one part by name.

distill: generated tokens/s of the job against plain `vllm.LLM.generate` on the same prompts with the same settings,
engine start excluded. sft: tokens/s of a training through Ray Train against a bare transformers + peft loop on the same
batches, both in float32; and of that training in bfloat16, where the processor computes it, against float32. memory:
peak of one Gemma step of 4 x 512 tokens, all of which but the first carry loss.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cluster.precision import dtype_here
from tests.bench.batch import probed, seconds_of
from tests.bench.measure import DATA, ROOT, in_child

SMOLLM2, GEMMA = "embedded:smollm2-135m-instruct", "embedded:gemma3-270m"
NUM_INSTRUCTIONS, MAX_TOKENS, MAX_LEN = 192, 96, 1024
SEED, TEMPERATURE, TOP_P = 0, 0.7, 0.95
# Rows of one length: any order of them makes the same batches, without padding.
NUM_ROWS, ROW_TOKENS, PROMPT_TOKENS, BATCH = 64, 192, 144, 4
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def main(parts: Sequence[str]) -> int:
    for part in parts or ("memory", "sft", "distill"):
        found = {"memory": _memory, "sft": _sft, "distill": _distill}[part]()
        print(f"{part}: {json.dumps(found)}", flush=True)
    return 0


def _ratio(ours: float, raw: float, target: float) -> dict[str, float]:
    return {
        "tokens_per_s": round(ours, 1),
        "raw_tokens_per_s": round(raw, 1),
        "ratio": round(ours / raw, 3),
        "target": target,
    }


# ---------------------------------------------------------------------------- distill


def _distill() -> dict[str, Any]:
    if not DATA.exists():
        return {"skipped": f"{DATA} is missing"}
    ours, raw = _in_child("distill"), _in_child("generate")
    return {
        **_ratio(ours["tokens_per_s"], raw["tokens_per_s"], 0.90),
        "tokens": ours["tokens"],
        "raw_tokens": raw["tokens"],
    }


def _config(folder: str) -> Any:
    from cluster.config import build
    from cluster.jobs import sections

    raw = {
        "run": f"{folder}/run",
        "instructions": {"files": [str(DATA / "sft_self_instruct.jsonl")], "limit": NUM_INSTRUCTIONS},
        "models": {"m": {"source": SMOLLM2, "dtype": "float32", "max_model_len": MAX_LEN}},
        "distill": {"models": ["m"], "max_tokens": MAX_TOKENS, "temperature": TEMPERATURE, "top_p": TOP_P},
    }
    return build(raw, sections(), origin="bench")


def _distill_child() -> dict[str, float]:
    from train import distill

    with tempfile.TemporaryDirectory() as folder:
        rows = probed(lambda: distill.main(_config(folder)), folder)
    assert len(rows) == NUM_INSTRUCTIONS
    tokens = sum(row["generated_tokens"] for row in rows)
    return {"tokens_per_s": tokens / seconds_of(rows), "tokens": tokens}


def _generate_child() -> dict[str, float]:
    os.environ |= {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(os.cpu_count()),
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    from vllm import LLM, SamplingParams, TokensPrompt

    from cluster import models
    from cluster.tokens import Encoder
    from train.instructions import read_instructions

    folder = str(models.resolve(SMOLLM2).path)
    known = Encoder(folder)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = read_instructions(_config(scratch).instructions).instructions
    ids = [known.prompt_ids(one.text, "", MAX_LEN - MAX_TOKENS) for one in wanted]
    # The settings of cluster.generate for sampled replies on a CPU.
    engine = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "max_model_len": MAX_LEN}
    engine |= {"enable_chunked_prefill": False, "max_num_batched_tokens": 4096, "disable_log_stats": True}
    model = LLM(folder, **engine)
    params = SamplingParams(max_tokens=MAX_TOKENS, temperature=TEMPERATURE, top_p=TOP_P, seed=SEED)
    start = time.perf_counter()
    outputs = model.generate([TokensPrompt(prompt_token_ids=one) for one in ids if one], params, use_tqdm=False)
    seconds = time.perf_counter() - start
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return {"tokens_per_s": tokens / seconds, "tokens": tokens}


# ---------------------------------------------------------------------------- sft


def _sft() -> dict[str, Any]:
    ours, raw = _in_child("ray_train"), _in_child("bare")
    found = {**_ratio(ours["tokens_per_s"], raw["tokens_per_s"], 0.90), "loss": ours["loss"], "raw_loss": raw["loss"]}
    if dtype_here() == "float32":
        return found
    fast = _in_child("ray_train_bfloat16")
    faster = round(fast["tokens_per_s"] / ours["tokens_per_s"], 3)
    return {**found, "bfloat16_of_float32": faster, "bfloat16_loss": fast["loss"]}


def _ids() -> list[list[int]]:
    """Token ids from the project's own texts: what they say is of no matter here."""
    from cluster import models
    from cluster.tokens import Encoder

    known = Encoder(str(models.resolve(SMOLLM2).path))
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.jsonl")))
    ids = known.tokenizer(text, add_special_tokens=False).input_ids
    rows = [ids[place * ROW_TOKENS : (place + 1) * ROW_TOKENS] for place in range(NUM_ROWS)]
    assert len(rows[-1]) == ROW_TOKENS
    return rows


def _pairs(folder: Path) -> str:
    """The rows as a prepared folder, without a dev part."""
    import numpy as np
    import pyarrow as pa

    from train.finetuning.prepare import SCHEMA, write_part

    folder.mkdir()
    rows = [{"input_ids": ids, "num_prompt": PROMPT_TOKENS, "key": 0, "dev": False} for ids in _ids()]
    write_part(folder / "part-00000.arrow", pa.Table.from_pylist(rows, schema=SCHEMA))
    np.save(folder / "train.npy", np.arange(NUM_ROWS))
    np.save(folder / "dev.npy", np.arange(0))
    return str(folder)


def _ray_train_child(bfloat16: bool = False) -> dict[str, float]:
    from dataclasses import asdict

    from cluster import models, runtime
    from cluster.config import RayConfig
    from cluster.training import TrainingConfig, train
    from train.finetuning.worker import finetune
    from train.finetuning.worker_args import Settings

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(
            base=str(models.resolve(SMOLLM2).path),
            pairs=_pairs(folder / "pairs"),
            out=str(folder),
            seed=SEED,
            method="lora",
            lora_rank=int(str(LORA["r"])),
            lora_alpha=int(str(LORA["lora_alpha"])),
            lora_dropout=0.0,
            learning_rate=1e-4,
            weight_decay=0.0,
            warmup_share=0.0,
            epochs=1,
            per_device_batch=BATCH,
            accumulation=1,
            checkpoint_steps=10_000,
            gradient_checkpointing=False,
            bfloat16=bfloat16,
            about={"model": "m", "mode": "black_box", "direction": "inverse", "base": SMOLLM2, "effective_batch": ""},
        )
        runtime.start(RayConfig(num_cpus=2))
        train(finetune, asdict(settings), TrainingConfig(), folder=folder, what="bench")
        facts = json.loads((folder / "training.json").read_text())
    return {"tokens_per_s": facts["tokens_per_s"], "loss": round(facts["losses"][0]["loss"], 3)}


def _bare_child() -> dict[str, float]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from cluster import models

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(SEED)
    ids = torch.tensor(_ids())
    labels = ids.clone()
    labels[:, :PROMPT_TOKENS] = -100
    base = AutoModelForCausalLM.from_pretrained(models.resolve(SMOLLM2).path, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(**LORA)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)
    losses, start = [], time.perf_counter()
    for place in range(0, NUM_ROWS, BATCH):
        batch = slice(place, place + BATCH)
        loss = model(input_ids=ids[batch], labels=labels[batch], use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - start
    return {"tokens_per_s": NUM_ROWS * ROW_TOKENS / seconds, "loss": round(losses[0], 3)}


# ---------------------------------------------------------------------------- memory


def _memory() -> dict[str, Any]:
    found = _in_child("step")
    return {"peak_gb": round(found["peak_bytes"] / 1e9, 2), "target_gb": 6, "loss": round(found["loss"], 3)}


def _step_child() -> dict[str, float]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from cluster import models
    from train.finetuning.loss import CompletionLoss
    from train.finetuning.rows import IGNORED

    torch.manual_seed(SEED)
    base = AutoModelForCausalLM.from_pretrained(models.resolve(GEMMA).path, dtype=torch.float32)
    loss = CompletionLoss(base)
    model = get_peft_model(base, LoraConfig(**LORA)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(100, 200_000, (4, 512))
    labels = ids.clone()
    labels[:, 0] = IGNORED
    total, number = loss.sum(model, {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)})
    (total / number).backward()
    optimizer.step()
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loss": float(total / number)}


def _in_child(*arguments: str) -> dict[str, Any]:
    return in_child("tests.bench.train", *arguments)


def _child(name: str) -> None:
    children = {
        "distill": _distill_child,
        "generate": _generate_child,
        "ray_train": _ray_train_child,
        "ray_train_bfloat16": partial(_ray_train_child, bfloat16=True),
        "bare": _bare_child,
        "step": _step_child,
    }
    print(json.dumps(children[name]()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
