"""Batch inference with Ray Data: a Dataset of requests -> the same rows with replies.

Input columns: `prompt` (str), `reply_prefix` (str), `labels` (list of str, may be empty), `json_schema` (str, "" for
none), and optionally `seed` (int, overrides the sampling's seed for the row) and `adapter` (str, that of the row's
model; "": its base). Output columns, in their place: `reply` (str), `finish_reason` ("stop", "length", "filtered",
"other" or ""), `label_logprobs` (list of float), `num_prompt_tokens`, `num_generated_tokens` (int), `error` ("",
"too_long", "timeout" or "error"), `detail`, `reasoning` (str, a reasoning model's thinking). All other columns are
kept. A row that fails never ends the job.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cluster import models, runtime
from cluster.adapters import adapter_of
from cluster.engine import Engine, FeaturesEngine, HandleEngine, HttpEngine, ScriptedEngine
from cluster.exchange import Reply, Request
from cluster.http_answer import is_too_long, masked
from cluster.model_specs import FeaturesSpec, HttpSpec, ModelSpec, ScriptedSpec, ServedSpec, VllmSpec
from cluster.precision import on_gpus
from cluster.reasoning import apart, sampling_parameters
from cluster.tokens import encoder
from cluster.vllm_arguments import vllm_arguments

if TYPE_CHECKING:
    from ray.data import Dataset

Batch = dict[str, Any]  # column -> list or array
REQUEST_COLUMNS = ("prompt", "reply_prefix", "labels", "json_schema")
SEED, ADAPTER = "seed", "adapter"
# vLLM's embedding pooler returns the last token's hidden state; by default normalised to length 1.
NOT_NORMALISED = {"use_activation": False}
DRY_BATCH = 64  # rows; Ray Data requires a batch size for actors that request GPUs
ROWS_ON_GPU, ROWS_ON_CPU = 64, 16


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; `seed` None leaves it to the engine. Requests with labels are never sampled.

    `hidden_state`: nothing is generated; the output has the column `hidden_state` (list of float), see `Reply`.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    hidden_state: bool = False


def generate(dataset: Dataset, spec: ModelSpec, sampling: Sampling, adapters: Collection[VllmSpec] = ()) -> Dataset:
    """Add the model's replies to `dataset`, lazily: nothing runs before the result is read.

    Args:
        dataset: the input columns above.
        spec: the model; of LoRA adapters, any of them or their base.
        sampling: applies to all rows without labels.
        adapters: those that the rows name in the column `adapter`; without them all rows go to `spec`.
    """
    if isinstance(spec, VllmSpec):
        return _with_vllm(dataset, spec, sampling, adapters)
    num_gpus = spec.num_gpus if isinstance(spec, ScriptedSpec) else 0
    if isinstance(spec, FeaturesSpec) or (
        isinstance(spec, ScriptedSpec) and spec.num_engines == 1 and not (num_gpus or spec.delay_s)
    ):
        # Nothing to load and nothing to wait for: tasks, which Ray runs in idle workers, instead of a new process.
        return dataset.map_batches(_at_once, fn_args=(spec, sampling), batch_size=None)
    return dataset.map_batches(
        _EngineActor,
        fn_constructor_args=(spec, sampling),
        batch_size=DRY_BATCH if num_gpus else None,
        concurrency=spec.num_engines,
        # A running panel leaves few CPUs of a small machine free, and this actor only waits.
        num_cpus=0 if isinstance(spec, ServedSpec) else 0.5,
        num_gpus=num_gpus,
    )


class _EngineActor:
    """Runs the engines of cluster/engine.py over batches, with the requests of a batch concurrent."""

    def __init__(self, spec: HttpSpec | ScriptedSpec | ServedSpec, sampling: Sampling) -> None:
        self._engine = _engine(spec)
        self._sampling = sampling
        self._loop = asyncio.new_event_loop()

    def __call__(self, batch: Batch) -> Batch:
        kept, requests = _requests(batch, self._sampling)
        replies = self._loop.run_until_complete(self._answers(requests))
        return {**kept, **_reply_columns(replies, self._sampling)}

    async def _answers(self, requests: list[Request]) -> list[Reply]:
        return list(await asyncio.gather(*(_safe(self._engine, request) for request in requests)))


def _at_once(batch: Batch, spec: ScriptedSpec | FeaturesSpec, sampling: Sampling) -> Batch:
    kept, requests = _requests(batch, sampling)
    engine = FeaturesEngine(spec) if isinstance(spec, FeaturesSpec) else ScriptedEngine(spec)
    return {**kept, **_reply_columns([engine.answer(request) for request in requests], sampling)}


def _requests(batch: Batch, sampling: Sampling) -> tuple[Batch, list[Request]]:
    """The batch's other columns, and its requests."""
    kept = {name: column for name, column in batch.items() if name != ADAPTER}
    columns = [list(kept.pop(name)) for name in REQUEST_COLUMNS]
    seeds = list(kept.pop(SEED, [sampling.seed] * len(columns[0])))
    drawn = {name: value for name, value in vars(sampling).items() if name != SEED}
    requests = [
        Request(prompt, prefix, tuple(labels), schema, **drawn, seed=seed if seed is None else int(seed))
        for prompt, prefix, labels, schema, seed in zip(*columns, seeds, strict=True)
    ]
    return kept, requests


async def _safe(engine: Engine, request: Request) -> Reply:
    """The engine's reply; an exception, which an engine must not raise, fails this row only."""
    try:
        return await engine.generate(request)
    except Exception as error:
        return Reply(error="error", detail=masked(f"{type(error).__name__}: {error}"))


def _engine(spec: HttpSpec | ScriptedSpec | ServedSpec) -> Engine:
    if isinstance(spec, ServedSpec):
        return HandleEngine.of(spec)
    return HttpEngine(spec) if isinstance(spec, HttpSpec) else ScriptedEngine(spec)


def _reply_columns(replies: list[Reply], sampling: Sampling) -> Batch:
    return {
        **({"hidden_state": [list(reply.hidden_state) for reply in replies]} if sampling.hidden_state else {}),
        "reply": [reply.text for reply in replies],
        "finish_reason": [reply.finish_reason for reply in replies],
        "label_logprobs": [list(reply.label_logprobs) for reply in replies],
        "num_prompt_tokens": [reply.num_prompt_tokens for reply in replies],
        "num_generated_tokens": [reply.num_generated_tokens for reply in replies],
        "error": [reply.error or "" for reply in replies],
        "detail": [reply.detail for reply in replies],
        "reasoning": [reply.reasoning for reply in replies],
    }


def _with_vllm(dataset: Dataset, spec: VllmSpec, sampling: Sampling, adapters: Collection[VllmSpec]) -> Dataset:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from cluster.engine_stage import load_on_node

    model = models.resolve(spec.source, revision=spec.revision, weights=runtime.is_one_machine())
    used = {one.adapter or "": one for one in adapters} or ({"": spec} if spec.adapter else {})
    loaded = {name: adapter_of(one) for name, one in used.items()}
    # Ray's stage reads the folder of a row's adapter, or the base's for none, in the column `model`.
    folders = {"": str(model.path), **{name: str(one.path) for name, one in loaded.items()}} if loaded else {}
    config = vLLMEngineProcessorConfig(
        model_source=str(model.path),
        batch_size=rows_at_once(spec),
        concurrency=(spec.num_engines, spec.num_engines) if isinstance(spec.num_engines, int) else spec.num_engines,
        accelerator_type=spec.accelerator_type,
        should_continue_on_error=True,
        log_engine_metrics=spec.engine_metrics,
        # Prompts are passed as token ids: one tokenisation serves the length check, the labels and the engine.
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        task_type="embed" if sampling.hidden_state else "generate",
        **vllm_arguments(spec, sampled=sampling.temperature > 0, adapters=loaded.values()),
    )
    thinking = sampling_parameters(spec, sampling.max_tokens)
    tokenised = dataset.map_batches(_tokenise, fn_args=(model.reference, spec, sampling), batch_size=None)
    with runtime.quiet_logging():
        made = partial(_to_engine, sampling=sampling, thinking=thinking, folders=folders)
        processor = build_processor(config, preprocess=made, postprocess=None)
    load_on_node(processor, model.reference, str(model.path), loaded.values())
    answered = processor(tokenised)
    return answered.map_batches(_from_engine, fn_args=(sampling, thinking), batch_size=None)


def rows_at_once(spec: VllmSpec) -> int:
    """Rows of a batch. On CPUs few, as a batch takes seconds and is saved, or lost by a kill, as a whole.

    Ray keeps 8 batches in an engine: 128 rows on CPUs, more than one of its steps computes.
    """
    return spec.batch_size or (ROWS_ON_GPU if on_gpus(spec) else ROWS_ON_CPU)


def _tokenise(batch: Batch, folder: str, spec: VllmSpec, sampling: Sampling) -> Batch:
    """Adds `prompt_ids`, `label_ids`, `opened` (a thought, see `ChatTemplate`) and `error` (too_long)."""
    known = encoder(folder, spec)
    prompts: list[list[int]] = []
    label_ids: list[list[int]] = []
    errors: list[str] = []
    for prompt, prefix, labels in zip(batch["prompt"], batch["reply_prefix"], batch["labels"], strict=True):
        spelled = known.label_tokens(prefix, tuple(labels)) if len(labels) and not sampling.hidden_state else None
        if sampling.hidden_state:
            ids = known.prompt_ids(prompt, known.spelled_prefix(prefix, tuple(labels)), spec.max_model_len - 1)
        else:
            room = spec.max_model_len - (1 if spelled else spec.reply_tokens(sampling.max_tokens))
            ids = known.prompt_ids(prompt, spelled.prefix if spelled else prefix, room)
        # Ray's vLLM stage cannot skip a row, so a row that is too long is sent as a single token.
        prompts.append(ids or [known.tokenizer.eos_token_id or 0])
        label_ids.append(list(spelled.ids) if spelled else [])
        errors.append("" if ids else "too_long")
    return {
        **batch,
        "prompt_ids": prompts,
        "label_ids": label_ids,
        "opened": [known.chat.opened if known.chat else ""] * len(prompts),
        "error": errors,
    }


def _to_engine(
    row: dict[str, Any],
    sampling: Sampling,
    thinking: Mapping[str, Any] = MappingProxyType({}),
    folders: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The columns that Ray's vLLM stage reads.

    `thinking`: `sampling_parameters` of the model. `folders`: by the values of the column `adapter`.

    A row that is too long has the same keys as the others: if a key is missing in one row of a block, Ray converts its
    integers to floats, and the engine rejects them all.
    """
    prompt = {"tokenized_prompt": [int(token) for token in row["prompt_ids"]], "prompt": ""}
    prompt |= {"model": folders[row.get(ADAPTER, "")]} if folders else {}
    if sampling.hidden_state:
        return {**prompt, "pooling_params": NOT_NORMALISED}
    label_ids = [int(label) for label in row["label_ids"]]
    params: dict[str, Any] = {
        name: value for name, value in vars(sampling).items() if value is not None and name != "hidden_state"
    }
    if label_ids:
        params = {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": label_ids}
    else:
        params |= thinking
        if SEED in row:
            params[SEED] = int(row[SEED])
        if row["json_schema"]:
            params["structured_outputs"] = {"json": row["json_schema"]}
    if row["error"]:
        params["max_tokens"] = 1
    return {**prompt, "sampling_params": params}


ENGINE_COLUMNS = (
    *(*REQUEST_COLUMNS, SEED, ADAPTER, "model"),
    *("prompt_ids", "label_ids", "opened", "prompt_token_ids", "num_input_tokens", "generated_tokens", "logprobs"),
    *("prompt_logprobs", "generated_text", "embeddings", "metrics", "request_id", "batch_uuid", "time_taken_llm"),
    *("params", "__inference_error__", "tokenized_prompt", "sampling_params", "pooling_params"),
)


def _from_engine(batch: Batch, sampling: Sampling, thinking: Mapping[str, Any] = MappingProxyType({})) -> Batch:
    """Convert the engine's columns to the output columns of this step, and drop the rest of them."""
    size = len(batch["error"])
    rows = [{name: column[place] for name, column in batch.items()} for place in range(size)]
    kept = {name: column for name, column in batch.items() if name not in ENGINE_COLUMNS}
    return {**kept, **_reply_columns([_vllm_reply(row, sampling, thinking) for row in rows], sampling)}


def _vllm_reply(row: dict[str, Any], sampling: Sampling, thinking: Mapping[str, Any]) -> Reply:
    if row["error"]:
        return Reply(error=row["error"], detail="the prompt is longer than the model's context")
    if row["__inference_error__"]:
        words = str(row["__inference_error__"])
        return Reply(error="too_long" if is_too_long(words) else "error", detail=words[:500])
    if sampling.hidden_state:
        return Reply(hidden_state=tuple(map(float, row["embeddings"])), num_prompt_tokens=int(row["num_input_tokens"]))
    num_generated = int(row["num_generated_tokens"])
    labels = [int(label) for label in row["label_ids"]]
    most = thinking.get("max_tokens", sampling.max_tokens)
    reply = Reply(
        text="" if labels else row["generated_text"],
        finish_reason="length" if not labels and num_generated >= most else "stop",
        label_logprobs=label_logprobs(row["logprobs"], labels),
        num_prompt_tokens=int(row["num_input_tokens"]),
        num_generated_tokens=num_generated,
    )
    return reply if labels else apart(reply, row["opened"])


def label_logprobs(logprobs: Any, labels: list[int]) -> tuple[float, ...]:
    """Natural logarithms of the first generated token's probability of each label; NaN if not returned."""
    if not labels:
        return ()
    first = {int(token): entry for token, entry in dict(logprobs[0]).items() if entry is not None}
    return tuple(float(first[label]["logprob"]) if label in first else math.nan for label in labels)
