"""The pure parts of the batch step: requests as the engines read them, replies as everybody reads them."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from cluster.generate import Sampling, _EngineActor, _from_engine, _to_engine, rows_at_once
from cluster.model_specs import ScriptedSpec, VllmSpec
from cluster.precision import dtype_here
from cluster.reasoning import sampling_parameters
from cluster.vllm_arguments import vllm_arguments

ROW = {"prompt_ids": [5, 6], "label_ids": [], "json_schema": "", "error": ""}
SAMPLING = Sampling(max_tokens=50, temperature=0.7, top_k=20, seed=3)


@pytest.mark.parametrize(
    "asked", [{}, {"label_ids": [11, 12]}, {"json_schema": '{"type": "object"}'}, {"seed": 7}, {"seed": np.int64(7)}]
)
def test_a_row_that_is_too_long_has_the_keys_and_types_of_its_neighbours(asked: dict[str, Any]) -> None:
    fits = _to_engine({**ROW, **asked}, SAMPLING)["sampling_params"]
    too_long = _to_engine({**ROW, **asked, "error": "too_long"}, SAMPLING)["sampling_params"]
    # Ray makes one Arrow column of them: a key that is missing in one row makes floats of the others' whole numbers.
    assert {name: type(value) for name, value in too_long.items()} == {
        name: type(value) for name, value in fits.items()
    }
    assert too_long["max_tokens"] == 1


def test_labels_are_never_sampled() -> None:
    params = _to_engine({**ROW, "label_ids": [11, 12]}, SAMPLING)["sampling_params"]
    assert params == {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": [11, 12]}


def test_a_reply_is_sampled_as_configured() -> None:
    params = _to_engine({**ROW, "json_schema": "{}"}, SAMPLING)["sampling_params"]
    assert params == {
        "max_tokens": 50,
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 20,
        "seed": 3,
        "structured_outputs": {"json": "{}"},
    }
    assert "seed" not in _to_engine(ROW, Sampling())["sampling_params"]


def test_a_rows_own_seed_goes_before_the_one_for_all() -> None:
    params = _to_engine({**ROW, "seed": np.int64(7)}, SAMPLING)["sampling_params"]
    assert params == {"max_tokens": 50, "temperature": 0.7, "top_p": 1.0, "top_k": 20, "seed": 7}
    # vLLM takes Python's whole numbers, not numpy's.
    assert type(params["seed"]) is int
    assert _to_engine({**ROW, "seed": 0}, Sampling(temperature=1))["sampling_params"]["seed"] == 0
    assert "seed" not in _to_engine({**ROW, "label_ids": [11], "seed": 7}, SAMPLING)["sampling_params"]


THINKING = sampling_parameters(VllmSpec(source="x", thinking_token_budget=30), 4)


def test_a_model_that_thinks_has_a_budget_besides_the_answers() -> None:
    # 30 tokens of thinking, its two marks, and the answer's 50.
    more = {"max_tokens": 82, "thinking_token_budget": 30, "skip_special_tokens": False}
    made = sampling_parameters(VllmSpec(source="x", thinking_token_budget=30), 50)
    params = _to_engine({**ROW, "json_schema": "{}"}, SAMPLING, made)["sampling_params"]
    assert params == {**_to_engine({**ROW, "json_schema": "{}"}, SAMPLING)["sampling_params"], **more}
    assert _to_engine({**ROW, "error": "too_long"}, SAMPLING, made)["sampling_params"]["max_tokens"] == 1
    assert sampling_parameters(VllmSpec(source="x"), 50) == {}


def test_an_engine_of_a_model_that_thinks_knows_where_the_thinking_ends() -> None:
    thinks = VllmSpec(source="x", num_gpus=1, thinking_token_budget=30)
    assert vllm_arguments(thinks)["engine_kwargs"]["reasoning_parser"] == "deepseek_r1"
    own = thinks.model_copy(update={"engine": {"reasoning_parser": "seed_oss"}})
    assert vllm_arguments(own)["engine_kwargs"]["reasoning_parser"] == "seed_oss"
    assert "reasoning_parser" not in vllm_arguments(VllmSpec(source="x", num_gpus=1))["engine_kwargs"]


def test_the_thinking_is_no_part_of_the_reply() -> None:
    text = "The text is fine.\nScore: 2\n</think>\n\nScore: 4"
    # The prompt opened the thought.
    row = answered(generated_text=text, num_generated_tokens=20, opened="<think>", thinking=THINKING)
    assert (row["reply"], row["reasoning"]) == ("Score: 4", "The text is fine.\nScore: 2")
    # 4 tokens of the answer, 30 of the thinking and the two marks.
    assert row["finish_reason"] == "stop"
    assert answered(num_generated_tokens=36, thinking=THINKING)["finish_reason"] == "length"


def test_a_reply_that_ends_within_the_thinking_is_cut_off() -> None:
    row = answered(generated_text="Fine.\nScore: 2", num_generated_tokens=9, opened="<think>", thinking=THINKING)
    assert (row["reply"], row["finish_reason"], row["reasoning"]) == ("", "length", "Fine.\nScore: 2")


def answered(thinking: Mapping[str, Any] = MappingProxyType({}), **row: Any) -> dict[str, Any]:
    """One row through `_from_engine`."""
    whole = {
        "id": "a",
        "label_ids": [],
        "opened": "",
        "error": "",
        "__inference_error__": "",
        "generated_text": "",
        "num_generated_tokens": 1,
        "num_input_tokens": 9,
        "logprobs": None,
        "metrics": {},
        **row,
    }
    batch = _from_engine({name: [value] for name, value in whole.items()}, Sampling(max_tokens=4), thinking)
    return {name: column[0] for name, column in batch.items()}


def test_the_engines_own_columns_end_here() -> None:
    row = answered(generated_text="Score: 4", num_generated_tokens=3, seed=7, prompt="p")
    assert row == {
        "id": "a",
        "reply": "Score: 4",
        "finish_reason": "stop",
        "label_logprobs": [],
        "num_prompt_tokens": 9,
        "num_generated_tokens": 3,
        "error": "",
        "detail": "",
        "reasoning": "",
    }


def test_a_reply_of_max_tokens_was_cut_off() -> None:
    assert answered(num_generated_tokens=4)["finish_reason"] == "length"


def test_label_log_probabilities_keep_the_order_of_the_labels() -> None:
    logprobs = [{12: {"logprob": -1.0}, 11: {"logprob": -2.0}, 99: {"logprob": -0.1}, 13: None}]
    row = answered(label_ids=[11, 12, 13], logprobs=logprobs, generated_text="x")
    assert row["label_logprobs"][:2] == [-2.0, -1.0]
    assert math.isnan(row["label_logprobs"][2])
    assert (row["reply"], row["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"error": "too_long"}, "too_long"),
        ({"__inference_error__": "The prompt is longer than the maximum model length of 64"}, "too_long"),
        ({"__inference_error__": "CUDA error: an illegal memory access"}, "error"),
    ],
)
def test_a_row_that_failed_says_why_and_has_no_reply(row: dict[str, Any], error: str) -> None:
    found = answered(**row, generated_text="half", num_generated_tokens=None, num_input_tokens=None)
    assert (found["error"], found["reply"], found["label_logprobs"]) == (error, "", [])
    assert found["detail"]


def test_arguments_of_an_engine_without_a_gpu() -> None:
    made = vllm_arguments(
        VllmSpec(source="x", num_gpus=0, kv_cache_gib=0.5, dtype="float32", engine={"block_size": 64})
    )
    assert made["engine_kwargs"]["kv_cache_memory_bytes"] == 2**29
    assert made["engine_kwargs"]["dtype"] == "float32"
    # What the configuration says of the engine goes over ours.
    assert made["engine_kwargs"]["block_size"] == 64
    assert made["placement_group_config"] == {"bundle_per_worker": {"CPU": 1}}
    # Where nothing is compiled on purpose, nothing is compiled by the way.
    assert made["runtime_env"]["env_vars"]["TORCHDYNAMO_DISABLE"] == "1"
    compiled = vllm_arguments(VllmSpec(source="x", num_gpus=0, engine={"enforce_eager": False}))
    assert "TORCHDYNAMO_DISABLE" not in compiled["runtime_env"]["env_vars"]


def test_without_a_dtype_an_engine_on_cpus_has_that_of_the_processor() -> None:
    assert vllm_arguments(VllmSpec(source="x", num_gpus=0))["engine_kwargs"]["dtype"] == dtype_here()


@pytest.mark.parametrize(("num_gpus", "rows"), [(0, 16), (1, 64)])
def test_rows_that_are_saved_at_once(num_gpus: int, rows: int) -> None:
    assert rows_at_once(VllmSpec(source="x", num_gpus=num_gpus)) == rows
    assert rows_at_once(VllmSpec(source="x", num_gpus=num_gpus, batch_size=5)) == 5


@pytest.mark.parametrize(("num_gpus", "num_tokens"), [(0, 4096), (1, 8192)])
def test_a_batch_engine_takes_steps_as_large_as_plain_vllm(num_gpus: int, num_tokens: int) -> None:
    made = vllm_arguments(VllmSpec(source="x", num_gpus=num_gpus))["engine_kwargs"]
    assert (made["max_num_batched_tokens"], made["max_num_seqs"]) == (num_tokens, 256)


@pytest.mark.parametrize(("max_model_len", "num_tokens"), [(2048, 4096), (8192, 8192)])
def test_a_sampling_engine_without_a_gpu_computes_prompts_whole(max_model_len: int, num_tokens: int) -> None:
    spec = VllmSpec(source="x", num_gpus=0, max_model_len=max_model_len)
    sampled, greedy = vllm_arguments(spec, sampled=True), vllm_arguments(spec)
    # A seeded request that is computed in pieces ends vLLM's CPU engine, so the longest prompt must fit at once.
    more = {"enable_chunked_prefill": False, "max_num_batched_tokens": num_tokens}
    rest = {name: value for name, value in greedy["engine_kwargs"].items() if name != "hf_overrides"}
    assert sampled["engine_kwargs"] == {**rest, **more}
    assert "enable_chunked_prefill" not in greedy["engine_kwargs"]
    own = vllm_arguments(spec.model_copy(update={"engine": {"max_num_batched_tokens": 9000}}), sampled=True)
    assert own["engine_kwargs"]["max_num_batched_tokens"] == 9000


def test_a_sampling_engine_on_a_gpu_is_no_other() -> None:
    spec = VllmSpec(source="x", num_gpus=1)
    assert vllm_arguments(spec, sampled=True) == vllm_arguments(spec)


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_labels_are_read_from_a_float32_head(num_gpus: int) -> None:
    spec = VllmSpec(source="x", num_gpus=num_gpus)
    head = {"head_dtype": "float32"}
    assert vllm_arguments(spec)["engine_kwargs"]["hf_overrides"] == head
    assert vllm_arguments(spec, sampled=True, is_served=True)["engine_kwargs"]["hf_overrides"] == head
    assert ("hf_overrides" in vllm_arguments(spec, sampled=True)["engine_kwargs"]) == (num_gpus > 0)


def test_arguments_of_an_engine_on_gpus() -> None:
    made = vllm_arguments(VllmSpec(source="x", num_gpus=4, tensor_parallel_size=2, pipeline_parallel_size=2))
    # Ray makes 2 x 2 of these bundles: four GPUs in all.
    assert made["placement_group_config"] == {"bundle_per_worker": {"CPU": 1, "GPU": 1}}
    assert made["engine_kwargs"]["tensor_parallel_size"] == 2
    assert made["engine_kwargs"]["pipeline_parallel_size"] == 2
    assert made["engine_kwargs"]["dtype"] == "auto"
    assert "kv_cache_memory_bytes" not in made["engine_kwargs"]
    # FlashInfer's sampler needs nvcc, which no image of wheels has on its PATH.
    assert made["runtime_env"]["env_vars"]["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    on_cpu = vllm_arguments(VllmSpec(source="x", num_gpus=0))["runtime_env"]["env_vars"]
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in on_cpu


@pytest.mark.parametrize("delay_s", [0, 0.01])
def test_an_engine_over_a_batch_keeps_rows_and_further_columns(delay_s: float) -> None:
    actor = _EngineActor(ScriptedSpec(backend="scripted", delay_s=delay_s, max_prompt_chars=5), Sampling())
    batch = {
        "id": ["a", "b", "c"],
        "prompt": ["one", "too long", "three"],
        "reply_prefix": ["Score: "] * 3,
        "labels": [["1", "2"]] * 3,
        "json_schema": [""] * 3,
    }
    found = actor(batch)
    assert found["id"] == ["a", "b", "c"]
    assert found["error"] == ["", "too_long", ""]
    assert [len(values) for values in found["label_logprobs"]] == [2, 0, 2]
    assert len({len(column) for column in found.values()}) == 1


def drawn(sampling: Sampling, **columns: Any) -> dict[str, Any]:
    """Three times the same prompt through an engine over a batch."""
    actor = _EngineActor(ScriptedSpec(backend="scripted"), sampling)
    batch = {"prompt": ["p"] * 3, "reply_prefix": [""] * 3, "labels": [[]] * 3, "json_schema": [""] * 3}
    return actor({**batch, **columns})


def test_rows_of_a_batch_are_drawn_with_their_own_seeds() -> None:
    found = drawn(Sampling(temperature=0.7, seed=1), seed=np.array([1, 2, 1]))
    assert found["reply"][0] == found["reply"][2] != found["reply"][1]
    # A column of the request, so none of the reply.
    assert "seed" not in found
    # Seed 1 for the row and seed 1 for all are the same draw.
    assert drawn(Sampling(temperature=0.7, seed=1))["reply"] == [found["reply"][0]] * 3
    assert drawn(Sampling(temperature=0.7, seed=2))["reply"] == [found["reply"][1]] * 3


def test_without_sampling_a_seed_changes_nothing() -> None:
    assert drawn(Sampling(), seed=[1, 2, 3])["reply"] == drawn(Sampling(seed=9))["reply"]


def test_an_engine_takes_further_resources_of_its_node() -> None:
    made = vllm_arguments(VllmSpec(source="x", num_gpus=1, num_cpus=2, resources={"batch": 0.001}))
    assert made["placement_group_config"] == {"bundle_per_worker": {"CPU": 2, "GPU": 1, "batch": 0.001}}
