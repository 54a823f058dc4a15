"""Prompt tokens/s of a vLLM engine on this CPU by dtype, against a bare forward pass: `python -m tests.bench.dtype`.

The prompts are those of a judge on the first texts of examples/constructed.jsonl. Every engine computes all of their
tokens (no prefix cache), as the forward pass of transformers does, which takes one prompt at a time in bfloat16. Each
side runs in a process of its own, in turns, because the machine's speed drifts; engine start excluded. Arguments:
the model, then `NAME={engine arguments as JSON}` for variants of the bfloat16 engine.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.bench.measure import ROOT, in_child

MODEL = "embedded:qwen2.5-coder-0.5b-instruct"
NUM_TEXTS, NUM_ROUNDS = 60, 3
ENVIRONMENT = "environment"  # key of a variant beside its engine arguments: environment variables


def main(arguments: Sequence[str]) -> int:
    model, *more = arguments or (MODEL,)
    variants = {name: json.loads(value) for name, _, value in (one.partition("=") for one in more)}
    sides: dict[str, dict[str, Any]] = {
        "bare": {},
        "float32": {"dtype": "float32"},
        "bfloat16": {"dtype": "bfloat16"},
        **{name: {"dtype": "bfloat16", **changed} for name, changed in variants.items()},
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(NUM_ROUNDS):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            one = _in_child(name, model, dict(sides[name]))
            found[name].append(one["tokens_per_s"])
            print(f"round {number + 1}, {name}: {one['tokens_per_s']:.0f} tokens/s", flush=True)
    middle = {name: statistics.median(values) for name, values in found.items()}
    ratios = {name: round(value / middle["bare"], 3) for name, value in middle.items()}
    print(json.dumps({"tokens_per_s": found, "median": middle, "of_bare": ratios}))
    return 0


def _in_child(name: str, model: str, changed: dict[str, Any]) -> dict[str, Any]:
    before = dict(os.environ)
    os.environ |= changed.pop(ENVIRONMENT, {})  # at its start a process reads what concerns its libraries
    try:
        return in_child("tests.bench.dtype", name, model, json.dumps(changed))
    finally:
        os.environ.clear()
        os.environ |= before


def prompts(model: str) -> list[list[int]]:
    """The token ids of a judge's prompts."""
    from cluster import models
    from cluster.tokens import Encoder
    from evaluation.judges.judge_config import JudgeConfig, build_judge
    from judging.datasets import read_records
    from judging.records import Record

    known = Encoder(str(models.resolve(model).path))
    records = [one for one in read_records([ROOT / "examples" / "constructed.jsonl"]) if isinstance(one, Record)]
    wanted = {(one.task, "overall"): None for one in records}
    judge = build_judge("judge", JudgeConfig(model="m"), wanted, {}, known.special_tokens())
    asked = [judge.request(record, "overall") for record in records[:NUM_TEXTS]]
    prefix = known.label_tokens("Score: ", ("1", "2", "3", "4", "5")).prefix
    return [ids for one in asked if (ids := known.prompt_ids(one["prompt"], prefix, 4096))]


def _engine_child(model: str, changed: dict[str, Any]) -> dict[str, float]:
    from cluster import models
    from cluster.model_specs import VllmSpec
    from cluster.vllm_arguments import vllm_arguments

    spec = VllmSpec(source=model, num_gpus=0, max_model_len=4096)
    arguments = vllm_arguments(spec)
    os.environ |= arguments["runtime_env"]["env_vars"]
    if not changed.get("enforce_eager", True):
        os.environ.pop("TORCHDYNAMO_DISABLE", None)
    from vllm import LLM, SamplingParams, TokensPrompt

    engine = {**arguments["engine_kwargs"], "enable_prefix_caching": False, **changed}
    llm = LLM(str(models.resolve(model).path), **engine)
    known = [TokensPrompt(prompt_token_ids=ids) for ids in prompts(model)]
    params = SamplingParams(max_tokens=1, temperature=0.0)
    llm.generate(known[:2], params, use_tqdm=False)
    start = time.perf_counter()
    llm.generate(known, params, use_tqdm=False)
    return {"tokens_per_s": sum(len(one["prompt_token_ids"]) for one in known) / (time.perf_counter() - start)}


def _bare_child(model: str) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    from cluster import models

    torch.set_num_threads(os.cpu_count() or 1)
    loaded: Any = AutoModelForCausalLM.from_pretrained(models.resolve(model).path, dtype=torch.bfloat16).eval()
    known = prompts(model)
    with torch.inference_mode():
        for ids in known[:2]:
            loaded(torch.tensor([ids]), logits_to_keep=1, use_cache=False)
        start = time.perf_counter()
        for ids in known:
            loaded(torch.tensor([ids]), logits_to_keep=1, use_cache=False)
        return {"tokens_per_s": sum(map(len, known)) / (time.perf_counter() - start)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        side, model, changed = sys.argv[2:5]
        result = _bare_child(model) if side == "bare" else _engine_child(model, json.loads(changed))
        print(json.dumps(result))
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
