"""One engine with two LoRA adapters against an engine for each merged model: `python -m tests.bench.adapters`.

Every judge reads the same texts once; the adapters have random weights, so that their scores mean nothing.
Start: from the import of vLLM to the first replies; engines of merged models start one after the other, as in batch.
Memory: peak of the process; of engines that run side by side, as online, it is summed. Arguments: model and rank.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.measure import PeakMemory, in_child

MODEL, RANK = "embedded:smollm2-135m-instruct", 16
NAMES = ("one", "two")
NUM_TEXTS = 20
LABELS = ("1", "2", "3", "4", "5")


def main(arguments: Sequence[str]) -> int:
    model, rank = (*arguments, *(MODEL, str(RANK))[len(arguments) :])
    with tempfile.TemporaryDirectory() as folder:
        in_child("tests.bench.adapters", "make", model, folder, rank)
        one = in_child("tests.bench.adapters", "adapters", model, folder)
        merged = [in_child("tests.bench.adapters", "merged", f"{folder}/{name}/merged", folder) for name in NAMES]
        size = {kind: _bytes(Path(folder) / NAMES[0] / kind) for kind in ("adapter", "merged")}
    both = {
        "engines": len(merged),
        "start_s": sum(each["start_s"] for each in merged),
        "memory_mib": sum(each["memory_mib"] for each in merged),
        # Each engine reads its own judge's rows.
        "rows_per_s": sum(each["rows"] for each in merged) / sum(each["seconds"] for each in merged),
    }
    shared = {"engines": 1, **{key: one[key] for key in ("start_s", "memory_mib")}}
    shared["rows_per_s"] = one["rows"] / one["seconds"]
    print(f"{model}, rank {rank}, {len(NAMES)} judges of {one['rows'] // len(NAMES)} rows")
    for title, found in (("one engine with adapters", shared), ("merged models", both)):
        told = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        print(f"{title:<26} {told}")
    print(json.dumps({"adapters": shared, "merged": both, "bytes_on_disk": size}))
    return 0


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _make_child(model: str, folder: str, rank: str) -> dict[str, Any]:
    from cluster import models
    from tests.adapting import tuned

    for seed, name in enumerate(NAMES):
        tuned(str(models.resolve(model).path), Path(folder) / name, seed, rank=int(rank))
    return {}


def _engine_child(model: str, folder: str, names: Sequence[str]) -> dict[str, float]:
    """`names`: of the adapters; none: the model is a merged one."""
    from cluster import models
    from cluster.adapters import adapter_of
    from cluster.model_specs import VllmSpec
    from cluster.tokens import Encoder
    from cluster.vllm_arguments import vllm_arguments
    from tests.bench.dtype import prompts

    plain = VllmSpec(source=model, num_gpus=0, max_model_len=4096, dtype="float32", kv_cache_gib=1)
    own = [plain.model_copy(update={"base": "m", "adapter": f"{folder}/{name}/adapter"}) for name in names]
    arguments = vllm_arguments(plain, adapters=[adapter_of(spec) for spec in own])
    os.environ |= arguments["runtime_env"]["env_vars"]
    place = str(models.resolve(model).path)
    texts, labels = prompts(model)[:NUM_TEXTS], Encoder(place).label_tokens("Score: ", LABELS)
    with PeakMemory() as memory:
        begin = time.perf_counter()
        from vllm import LLM, SamplingParams, TokensPrompt
        from vllm.lora.request import LoRARequest

        llm = LLM(place, **arguments["engine_kwargs"])
        loaded = zip(names, own, strict=True)
        loras = [LoRARequest(name, number, spec.adapter or "") for number, (name, spec) in enumerate(loaded, start=1)]
        asked: list[Any] = loras or [None]
        params = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(labels.ids))
        known = [TokensPrompt(prompt_token_ids=ids) for ids in texts]
        for lora in asked:
            llm.generate(known[:1], params, use_tqdm=False, lora_request=lora)
        started = time.perf_counter()
        llm.reset_prefix_cache()
        by_row = [lora for lora in asked for _ in known]
        llm.generate(known * len(asked), params, use_tqdm=False, lora_request=by_row)
        seconds = time.perf_counter() - started
    rows = len(known) * len(asked)
    return {"start_s": started - begin, "memory_mib": memory.peak_mib, "rows": rows, "seconds": seconds}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        side, *rest = sys.argv[2:]
        result = _make_child(*rest) if side == "make" else _engine_child(*rest, NAMES if side == "adapters" else ())
        print(json.dumps(result))
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
