"""Ray Data's vLLM engine, which gets the model's folder on the node that it runs on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

from cluster.adapters import Adapter, check_here
from cluster.models import local_folder


class NodeEngine(vLLMEngineStageUDF):  # type: ignore[misc]
    """`model`: the reference of a model, see `local_folder`. `base`: the `model` of rows without an adapter.

    `adapters`: those that rows name, checked here before the engine starts: it would fail every row of a missing one.
    """

    def __init__(self, *, model: str, base: str, adapters: Collection[Adapter], **settings: Any) -> None:
        folder = local_folder(model)
        for adapter in adapters:
            check_here(adapter, Path(folder))
        super().__init__(model=folder, **settings)
        self.llm.model = base  # any other name is an adapter's


def load_on_node(processor: Any, reference: str, base: str, adapters: Collection[Adapter]) -> None:
    """Let the engines of a processor get the model themselves, wherever they start.

    Args:
        processor: of `ray.data.llm.build_processor`, before it is applied.
        reference: of the model.
        base: the model's folder on the driver, as the rows name it.
        adapters: those that the rows name.
    """
    name = "vLLMEngineStage"
    stage = processor.get_stage_by_name(name)
    settings = {**stage.fn_constructor_kwargs, "model": reference, "base": base, "adapters": list(adapters)}
    # A copy: an assignment would derive the resources again, from settings that the first time has consumed.
    processor.stages[name] = stage.model_copy(update={"fn": NodeEngine, "fn_constructor_kwargs": settings})
