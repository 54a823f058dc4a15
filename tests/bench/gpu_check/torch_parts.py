"""Parts of the GPU check that need torch, transformers and peft alone: hidden states, fine-tuning, towers.

Each takes a folder to work in and the shape of its model, and returns its figures and whether they are as they must be.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.bench.gpu_check.random_model import language_model, sentence_encoder
from tests.bench.measure import ROOT

LABELS = ("1", "2", "3", "4", "5")
NUM_PROMPTS = {"1.5b": 128, "tiny": 12}
NUM_PAIRS = {"1.5b": 256, "tiny": 32}
ROW_TOKENS, PROMPT_TOKENS = 512, 384
MIN_COSINE, MAX_DIFFERENCE = 0.99, 0.02
SEED = 0


def states(folder: Path, shape: str) -> dict[str, Any]:
    """Hidden states and label probabilities of `fit-judge` against transformers in float32, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    from cluster.hidden_states import _Model
    from cluster.model_specs import VllmSpec
    from cluster.tokens import encoder

    has_gpu = torch.cuda.is_available()
    source = language_model(folder / "model", shape)
    spec = VllmSpec(source=source, max_model_len=4096, dtype="bfloat16" if has_gpu else "float32")
    layers = json.loads((folder / "model" / "config.json").read_text())["num_hidden_layers"]
    reader = _Model(source, spec, (layers // 2, layers), os.cpu_count() or 1, has_gpu)
    prompts = _texts(NUM_PROMPTS[shape])
    size = len(prompts)
    batch = {"prompt": prompts, "reply_prefix": ["Score: "] * size, "labels": [LABELS] * size}
    reader({name: column[:4] for name, column in batch.items()} | {"json_schema": [""] * 4})
    began = time.perf_counter()
    found = reader({**batch, "json_schema": [""] * size})
    seconds = time.perf_counter() - began
    known = encoder(source, "auto")
    labels = known.label_tokens("Score: ", LABELS)
    whole = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    whole = whole.to("cuda" if has_gpu else "cpu")
    cosine, difference = 1.0, 0.0
    for place, prompt in enumerate(prompts[:16]):
        ids = torch.tensor([known.prompt_ids(prompt, labels.prefix, 4096)], device=whole.device)
        with torch.inference_mode():
            told = whole(input_ids=ids, output_hidden_states=True)
            of_half = whole.model.norm(told.hidden_states[layers // 2][0, -1])
        for state, theirs in zip(found["hidden_states"][place], (of_half, told.hidden_states[-1][0, -1]), strict=True):
            given = torch.tensor(state, device=whole.device)
            cosine = min(cosine, float(torch.nn.functional.cosine_similarity(given, theirs.float(), dim=0)))
        expected = told.logits[0, -1, list(labels.ids)].float().softmax(-1).cpu()
        ours = torch.tensor(found["label_logprobs"][place]).softmax(-1)  # each label's share of their probability
        difference = max(difference, float((ours - expected).abs().max()))
    tokens = sum(found["num_prompt_tokens"])
    return {
        "prompts": size,
        "tokens_per_s": round(tokens / seconds),
        "smallest_cosine": round(cosine, 5),
        "largest_difference_of_a_label_probability": difference,
        "ok": cosine >= MIN_COSINE and difference <= MAX_DIFFERENCE,
    }


# Its length: the settings of the loop, which are listed once.
def finetuning(folder: Path, shape: str) -> dict[str, Any]:
    """The loop of `sft` with LoRA: its first loss against transformers' own, tokens a second, MFU, memory."""
    from dataclasses import asdict

    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from tests.bench.gpu_check.single_worker import install

    source = language_model(folder / "model", shape)
    install()
    from train.finetuning.sft import PAIR_SCHEMA
    from train.finetuning.worker import finetune
    from train.finetuning.worker_args import Settings

    text = "".join(_texts(400)).encode()
    rows = [
        {"input_ids": [byte % 256 for byte in text[start : start + ROW_TOKENS]], "num_prompt": PROMPT_TOKENS}
        for start in range(0, NUM_PAIRS[shape] * 64, 64)
    ]
    (folder / "pairs").mkdir()
    for name, some in (("train", rows), ("dev", rows[:4])):
        pq.write_table(pa.Table.from_pylist(some, schema=PAIR_SCHEMA), folder / "pairs" / f"{name}.parquet")
    settings = Settings(
        base=source,
        train=str(folder / "pairs" / "train.parquet"),
        dev=str(folder / "pairs" / "dev.parquet"),
        out=str(folder),
        seed=SEED,
        method="lora",
        lora_rank=16,
        lora_alpha=32,
        lora_dropout=0.0,
        learning_rate=1e-3,
        weight_decay=0.0,
        warmup_share=0.0,
        epochs=1,
        per_device_batch=8 if shape != "tiny" else 4,
        accumulation=1,
        checkpoint_steps=10_000,
        gradient_checkpointing=False,
        num_threads=os.cpu_count() or 1,
        steps=str(folder / "steps.json"),
        about={"model": "m", "mode": "black_box", "direction": "inverse", "base": "random", "effective_batch": "8"},
    )
    before = _loss(source, rows[:4])
    finetune(asdict(settings))
    told = json.loads((folder / "training.json").read_text())
    on_gpu = torch.cuda.is_available()
    return {
        "pairs": len(rows),
        "tokens_per_s": round(told["tokens_per_s"]),
        "mfu": told.get("mfu"),
        "peak_gib": round(told["peak_memory_bytes"] / 2**30, 2),
        "dev_loss": [round(told["loss_before"], 4), round(told["loss_after"], 4)],
        "of_transformers": round(before, 4),
        "ok": abs(told["loss_before"] - before) <= (0.05 if on_gpu else 1e-3) and told["loss_after"] < before,
    }


def _loss(source: str, rows: list[dict[str, Any]]) -> float:
    """Nats a completion token, as transformers computes them in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    ids = torch.tensor([row["input_ids"] for row in rows], device=model.device)
    labels = ids.clone()
    labels[:, :PROMPT_TOKENS] = -100
    with torch.inference_mode():
        return float(model(input_ids=ids, labels=labels).loss)


# Its length: the data and the settings of the loop, which are listed once.
def towers(folder: Path, shape: str) -> dict[str, Any]:
    """The loop of `fit` on a rule that only training can find: NDCG@4 on held-out queries before and after."""
    from dataclasses import asdict

    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.bench.gpu_check.single_worker import install

    source = sentence_encoder(folder / "model", shape)
    install()
    from retrieval.fit_worker import fitting
    from retrieval.fit_worker_args import Settings

    # An example helps if its animal belongs to the colour of the query: no text looks like what helps it.
    colours, animals = ("red", "green", "blue", "grey"), ("lion", "wolf", "bear", "duck")
    colour, animal = [place % 4 for place in range(240)], [place * 7 // 4 % 4 for place in range(240)]
    texts = [
        {"text": f"{colours[colour[place]]} {animals[animal[place]]}", "group": f"g{place // 4}"}
        for place in range(240)
    ]
    queries = [
        {
            "task": "qa",
            "query": place,
            "examples": (examples := [(place + step) % 240 for step in range(5, 13)]),
            "utilities": [float(animal[example] == colour[place]) for example in examples],
        }
        for place in range(240)
    ]
    pairs = folder / "pairs"
    pairs.mkdir()
    for name, rows in (("texts", texts), ("train", queries[:180]), ("dev", queries[180:])):
        pq.write_table(pa.Table.from_pylist(rows), pairs / f"{name}.parquet")
    settings = Settings(
        start=source,
        source="random",
        pairs=str(pairs),
        out=str(folder / "towers"),
        seed=SEED,
        shared=False,
        max_length=64,
        scale=20.0,
        weight="true_rank",
        lambda_rank=0.5,
        learning_rate=1e-4 if shape != "tiny" else 1e-3,
        weight_decay=0.0,
        epochs=3,
        patience=3,
        batch_queries=16,
        task_power=0.5,
        num_threads=os.cpu_count() or 1,
        steps=str(folder / "steps.json"),
    )
    (folder / "towers").mkdir()
    fitting(asdict(settings))
    told = json.loads((folder / "towers" / "fit.json").read_text())
    return {
        "queries_per_s": round(180 * told["num_epochs"] / told["seconds"]),
        "ndcg@4": [round(told["ndcg"]["before"], 3), round(told["ndcg"]["after"], 3)],
        "losses": [round(loss, 3) for loss in told["losses"]],
        "ok": told["ndcg"]["after"] > told["ndcg"]["before"],
    }


def _texts(number: int) -> list[str]:
    rows = [json.loads(line) for line in (ROOT / "examples" / "constructed.jsonl").read_text("utf-8").splitlines()]
    return [f"Rate this text from 1 to 5. ({place})\n{rows[place % len(rows)]['candidate']}" for place in range(number)]
