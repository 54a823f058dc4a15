"""Installed in Ray's workers by the benchmark: notes when each vLLM request begins and ends and what the cache gave.

Waits for the worker to import vLLM by itself: an import here would take seconds of every worker, beside the engine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from importlib.machinery import ModuleSpec
from typing import Any

STAGE = "ray.llm._internal.batch.stages.vllm_engine_stage"


def install() -> None:
    sys.meta_path.insert(0, _WhenImported())  # type: ignore[arg-type]


class _WhenImported:
    """Finds the engine's module as Python does, and has it noted once it is executed."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != STAGE:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        executed = spec.loader.exec_module

        def noted(module: Any) -> None:
            executed(module)
            _note_requests(module)

        spec.loader.exec_module = noted  # type: ignore[method-assign]
        return spec


def _note_requests(stage: Any) -> None:
    asked = stage.vLLMEngineWrapper._generate_async
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

    stage.vLLMEngineWrapper._generate_async = noted
