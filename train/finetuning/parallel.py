"""Several workers of one training: DDP or FSDP in transformers' own arguments, and the whole model out of its shards.

DDP keeps a copy of the model on every worker. FSDP (version 2) shards weights, gradients and optimiser state over them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainingArguments

from train.finetuning.worker_args import Settings


def parallel_arguments(settings: Settings, model: Any) -> dict[str, Any]:
    """The arguments of `TrainingArguments` that say how the workers share the model."""
    if settings.parallel == "ddp":
        # Every weight has a part in every loss, and looking for others marks some of them ready twice.
        return {"ddp_find_unused_parameters": False}
    # Sharded: each worker writes its own part of a checkpoint, and no machine has to hold the whole of it.
    config = {
        "version": 2,
        "reshard_after_forward": True,
        "state_dict_type": "SHARDED_STATE_DICT",
        "transformer_layer_cls_to_wrap": sorted(model._no_split_modules),
    }
    return {"fsdp": True, "fsdp_config": config}


def allow_fsdp_on_cpus(arguments: TrainingArguments) -> None:
    """accelerate offers FSDP to GPUs alone, by the type of the group; torch's FSDP runs on CPUs (gloo) as well.

    Args:
        arguments: of the training; they make the group known to accelerate.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    if arguments.fsdp and arguments.device.type == "cpu":
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def keep_precision(trainer: Any) -> None:
    """Compute in bfloat16 and add gradients up in float32; accelerate's own policy also rounds losses to bfloat16."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and trainer.args.bf16:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def whole_model(settings: Settings, model: Any, load: Callable[[], Any], *, is_first: bool) -> Any:
    """The trained model without shards, on rank 0; called by every worker. Under DDP it is `model` itself.

    Args:
        settings: of the training.
        model: as it was trained.
        load: makes the model as it was before training, on the CPU.
        is_first: whether this is rank 0; the others get None.
    """
    if settings.parallel == "ddp":
        return model if is_first else None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    trained_alone = settings.method == "lora"
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_alone)
    state = get_model_state_dict(model, options=options)
    if not is_first:
        return None
    whole = load()
    found = whole.load_state_dict(state, strict=False, assign=True)
    wanted = {name for name, weight in whole.named_parameters() if weight.requires_grad or not trained_alone}
    assert not found.unexpected_keys and wanted <= set(state), "a weight is missing in the trained state"
    (whole.get_base_model() if trained_alone else whole).tie_weights()
    return whole
