"""Installed in Ray's workers by the benchmark: notes when each vLLM request begins and ends and what the cache gave."""

import json
import os
import time


def install() -> None:
    from ray.llm._internal.batch.stages import vllm_engine_stage

    asked = vllm_engine_stage.vLLMEngineWrapper._generate_async
    path = os.environ["INVERDICT_BENCH_PROBE"]

    async def noted(self, request):  # type: ignore[no-untyped-def]
        begun = time.time()
        output = await asked(self, request)
        row = {
            "begun": begun,
            "ended": time.time(),
            "prompt_tokens": len(output.prompt_token_ids),
            "cached_tokens": output.num_cached_tokens or 0,
            "generated_tokens": len(output.outputs[0].token_ids),
        }
        with open(path, "a") as file:  # noqa: PTH123
            file.write(json.dumps(row) + "\n")
        return output

    vllm_engine_stage.vLLMEngineWrapper._generate_async = noted
