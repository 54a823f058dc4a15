"""A language model small enough to train in a test: random weights, the tokenizer of tests/cluster/test_tokens.py."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.cluster.test_tokens import make

SIZE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 1024,
}


def tiny_model(folder: Path, *, kind: str = "llama", chat: bool = True, tied: bool = True) -> str:
    """A model folder with tokenizer; the path. `kind`: a model type of transformers; `tied`: one embedding and head."""
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, digits_apart=False, chat=chat)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 1}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), tie_word_embeddings=tied, **SIZE, **ids)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)
