"""vLLM with a model that thinks within a budget: a tiny one with random weights, which never stops by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.generate import Sampling, generate
from cluster.model_specs import VllmSpec
from cluster.reasoning import CUT_OFF
from cluster.tokens import encoder
from tests.cluster.chat_families import FAMILIES, save

pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
BUDGET = 20
SCHEMA = {"type": "integer", "enum": [1, 2]}  # an object would be filled with whitespace by random weights


def model(name: str, folder: Path) -> VllmSpec:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    place = save(FAMILIES[name], folder)
    known = encoder(place, VllmSpec(source=place))
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(known.tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=known.tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(place)
    return VllmSpec(
        source=place,
        num_gpus=0,
        dtype="float32",
        max_model_len=1024,
        kv_cache_gib=0.2,
        thinking_token_budget=BUDGET,
    )


def replies(spec: VllmSpec, max_tokens: int) -> list[dict[str, Any]]:
    import ray.data

    row = {"prompt": "Rate the text.", "reply_prefix": "", "labels": [], "json_schema": json.dumps(SCHEMA)}
    rows = [{**row, "seed": seed} for seed in range(6)]
    sampling = Sampling(max_tokens=max_tokens, temperature=1.0)
    return list(generate(ray.data.from_items(rows), spec, sampling).take_all())


@pytest.mark.parametrize("name", ["deepseek-r1-distill", "qwen-3"])
def test_the_thinking_ends_with_its_budget_and_the_answer_follows_the_schema(name: str, tmp_path: Path) -> None:
    spec = model(name, tmp_path)
    found = replies(spec, 5)
    # Random weights end a reply anywhere: within its thinking, then there is no answer.
    answered = [row for row in found if row["reply"]]
    assert len(answered) >= 3
    for row in found:
        assert row["error"] == ""
        assert (row["finish_reason"], row["detail"]) == (("stop", "") if row["reply"] else ("length", CUT_OFF))
        assert row["reply"] in ("", "1", "2")
        # The thinking, its end, the digit, and the end of the turn.
        assert row["num_generated_tokens"] <= BUDGET + 3
    assert len({row["reasoning"] for row in answered}) > 1
