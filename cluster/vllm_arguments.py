"""A model's specification -> the arguments of its vLLM engine, in batch and online alike."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from cluster import runtime
from cluster.adapters import Adapter, lora_arguments
from cluster.model_specs import VllmSpec, most
from cluster.precision import dtype_here, on_gpus
from cluster.reasoning import engine_arguments

# Tokens and requests of one engine step: the defaults of `vllm.LLM` (on GPUs: those of the smallest). Ray's stage would
# get vLLM's lowest values, 2048 and 128, which are for an engine whose usage context is unknown.
BATCH_ON_CPU = {"max_num_batched_tokens": 4096, "max_num_seqs": 256}
BATCH_ON_GPU = {"max_num_batched_tokens": 8192, "max_num_seqs": 256}
# Logits in bfloat16 have steps of 0.125 from 16 on, so label probabilities have steps of a tenth, and expected scores
# tie. Not on CPUs where all replies are sampled: there the head is converted for every token.
FLOAT32_HEAD = {"head_dtype": "float32"}
# vLLM warms up with FlashInfer's sampler, which compiles with nvcc: images of Python wheels have none on their PATH,
# and the engine dies (vllm-project/vllm#49497). Requests with seeds, as all here, never use it.
WITHOUT_NVCC = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}


# Its length: the engine's arguments, which are listed once, with the reason of each.
def vllm_arguments(
    spec: VllmSpec, *, sampled: bool = False, is_served: bool = False, adapters: Collection[Adapter] = ()
) -> dict[str, Any]:
    """`engine_kwargs`, `placement_group_config` and `runtime_env` of a vLLM engine for this spec on this cluster.

    `sampled`: replies are sampled with a seed per request, instead of greedy decoding. `is_served`: for requests of
    both kinds, with labels and sampled. `adapters`: LoRA adapters that the engine answers for.
    """
    is_on_gpus = on_gpus(spec)
    engine: dict[str, Any] = {
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "tensor_parallel_size": spec.tensor_parallel_size,
        "pipeline_parallel_size": spec.pipeline_parallel_size,
        "enable_prefix_caching": True,
        "disable_log_stats": not spec.engine_metrics,
        **({"hf_overrides": FLOAT32_HEAD} if is_on_gpus or is_served or not sampled else {}),
        **(BATCH_ON_GPU if is_on_gpus else BATCH_ON_CPU),
        **lora_arguments(adapters, tokens_on_cpu=None if is_on_gpus else BATCH_ON_CPU["max_num_batched_tokens"]),
    }
    environment = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Ray creates a placement group with one such bundle per worker of the engine.
    bundle: dict[str, float] = {"CPU": spec.num_cpus, **spec.resources}
    if is_on_gpus:
        bundle["GPU"] = 1
        environment |= WITHOUT_NVCC
    else:
        # No compilation: it takes minutes. Blocks of 32 tokens, the smallest on CPUs: with 128, the default, half a
        # candidate is recomputed each time.
        engine |= {"enforce_eager": True, "block_size": 32}
        if spec.dtype == "auto":
            engine["dtype"] = dtype_here()
        engine["kv_cache_memory_bytes"] = int(spec.kv_cache_gib * 2**30)
        if sampled:
            # Chunked prefill of a seeded request crashes vLLM 0.29 on CPUs: it rewinds the request's generator, which
            # only CUDA supports. So each prompt is prefilled as a whole, in batches of up to this many tokens.
            engine["enable_chunked_prefill"] = False
            engine["max_num_batched_tokens"] = max(engine["max_num_batched_tokens"], spec.max_model_len)
        threads = max(1, (os.cpu_count() or 1) // most(spec.num_engines))
        environment |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads),
            **runtime.KEEP_FREED_MEMORY,
        }
        if spec.num_workers == 1:
            # Run the model in the engine's process: saves one import of vLLM (10 s) and one hop per step.
            environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        if spec.engine.get("enforce_eager", True):
            # The one function that vLLM compiles anyway costs the first request seconds and saves none.
            environment["TORCHDYNAMO_DISABLE"] = "1"
    return {
        "engine_kwargs": {**engine, **engine_arguments(spec), **spec.engine},
        "placement_group_config": {"bundle_per_worker": bundle},
        "runtime_env": {"env_vars": environment},
    }
