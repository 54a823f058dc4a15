"""LoRA adapters by hand, without peft: random factors for some layers of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

BASE = {"model.layers.0.self_attn.q_proj": (6, 4), "model.layers.0.mlp.down_proj": (4, 8)}  # outputs x inputs


def base_at(folder: Path, layers: dict[str, tuple[int, int]] = BASE) -> str:
    """A model folder that is complete by name; the path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    weights = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in layers.items()}
    save_file(weights, folder / "model.safetensors")
    return str(folder)


def adapter_at(folder: Path, layers: dict[str, tuple[int, int]] = BASE, *, rank: int = 2, **config: Any) -> str:
    """An adapter of these layers (outputs, inputs), as peft writes it; the path. `config` overrides its keys."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "use_dora": False, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    draw = np.random.default_rng(rank)
    weights: dict[str, np.ndarray] = {}
    for name, (outputs, inputs) in layers.items():
        weights[f"base_model.model.{name}.lora_A.weight"] = draw.normal(size=(rank, inputs)).astype(np.float32)
        weights[f"base_model.model.{name}.lora_B.weight"] = draw.normal(size=(outputs, rank)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    return str(folder)


def tuned(base: str, folder: Path, seed: int, *, rank: int = 8, std: float = 0.02) -> None:
    """An adapter on all linear layers with random factors, as if it were trained: `folder`/adapter, and merged into its
    base as a model of its own: `folder`/merged.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=std)  # at its start it is 0, and the adapter changes nothing
    model.save_pretrained(folder / "adapter")
    model.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "merged")
