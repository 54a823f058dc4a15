"""Label probabilities of ten families: tiny random models of their architectures, in transformers on the CPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cluster.hidden_states import _Model
from cluster.model_specs import VllmSpec
from cluster.terminal import say
from cluster.tokens import Encoder
from tests.cluster.chat_families import FAMILIES, save

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
# Gemma's heads have a size of their own; the windows of its layers and of Mistral's are shorter than the prompt.
HEADS = {"head_dim": 16, "sliding_window": 16}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3": ("Llama", {}),
    "qwen-2.5": ("Qwen2", {}),
    "qwen-3": ("Qwen3", {"head_dim": 16}),
    "gemma-2": ("Gemma2", HEADS),
    "gemma-3": ("Gemma3Text", HEADS),
    "mistral": ("Mistral", {"sliding_window": 16}),
    "phi-3": ("Phi3", {}),
    "olmo": ("Olmo2", {}),
    "smollm-3": ("SmolLM3", {}),
    "deepseek-r1-distill": ("Qwen2", {}),
}
LABELS = ["1", "2", "3", "4", "5"]


def test_every_family_has_an_architecture() -> None:
    assert ARCHITECTURES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_are_read_where_the_reply_begins(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    import transformers

    kind, more = ARCHITECTURES[name]
    folder = save(FAMILIES[name], tmp_path)
    known = Encoder(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, vocab_size=len(known.tokenizer), **more)
    model = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config).eval()
    model.save_pretrained(folder)

    spec = VllmSpec(source=folder, num_gpus=0, dtype="float32", max_model_len=512)
    asked = {"prompt": ["Rate the text."], "reply_prefix": ["Score: "], "labels": [LABELS], "json_schema": [""]}
    found = _Model(folder, spec, (1, 2), 1)(asked)
    logprobs = found["label_logprobs"][0]
    mass = math.fsum(map(math.exp, logprobs))
    # A random model knows no labels: five of some 300 tokens, each about as probable as any other.
    assert all(math.isfinite(one) for one in logprobs)
    assert 0 < mass < 0.1
    with capsys.disabled():
        say(f"\nlabel mass of {name}, random weights: {mass:.4f}")

    # The same from the tokenizer's own prompt, with each label appended: the token behind the prompt is the label's.
    prefix = known.label_tokens("Score: ", LABELS).prefix
    ids = [known.prompt_ids("Rate the text.", f"Score: {label}", 512) for label in LABELS]
    prompt = known.prompt_ids("Rate the text.", prefix, 512)
    assert prompt is not None
    assert all(one is not None and one[:-1] == prompt for one in ids)
    with torch.inference_mode():
        after = torch.log_softmax(model(torch.tensor([prompt])).logits[0, -1].float(), dim=-1)
    assert logprobs == pytest.approx([float(after[one[-1]]) for one in ids if one is not None], abs=1e-4)
