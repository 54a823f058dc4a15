"""Models with random weights and the shape of a real one: what is measured depends on the shape, not on the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Qwen2.5 1.5B, and one that a CPU computes in a second.
SHAPES: dict[str, dict[str, Any]] = {
    "1.5b": {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
ENCODERS: dict[str, dict[str, int]] = {
    "1.5b": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
END, PAD = "<|end|>", "<|pad|>"


def language_model(folder: Path, shape: str) -> str:
    """A Qwen2 model whose tokens are the bytes; the path of its folder."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    tokenizer = _bytes()
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2Config(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=4096, **ids)
    has_gpu = torch.cuda.is_available()
    with torch.device("cuda" if has_gpu else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if has_gpu else torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def sentence_encoder(folder: Path, shape: str) -> str:
    """A sentence-transformers model of BERT's architecture with mean pooling; the path of its folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = _bytes()
    place = folder / "bert"
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **ENCODERS[shape])
    BertModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    inner = Transformer(str(place))
    pooling = Pooling(ENCODERS[shape]["hidden_size"])
    SentenceTransformer(modules=[inner, pooling], device="cpu").save(str(folder / "encoder"))
    return str(folder / "encoder")


def _bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token=END, pad_token=PAD, model_max_length=4096)
