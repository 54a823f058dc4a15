"""The models of a configuration: one class for each backend (vllm, http, scripted, served)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)

from cluster.errors import UserError
from cluster.strict import Strict

# Parameters of a request to an endpoint besides model and messages.
SENT = ("temperature", "top_p", "max_tokens", "seed", "logprobs", "top_logprobs", "response_format")
NOT_SET = ("model", "messages", "stream", "n")
ADAPTED = ("base", "adapter")  # keys of a LoRA adapter
PICKLED_FORMATS = ("pt", "npcache")  # vLLM's names


def _engines(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        found = check(value)
    except ValidationError as error:
        raise ValueError(f"must be a number of engines >= 1 or a range [min, max], not {value!r}") from error
    if not isinstance(found, int) and found[0] > found[1]:
        raise ValueError(f"the maximum ({found[1]}) is below the minimum ({found[0]})")
    return found


Number = Annotated[int, Field(ge=1)]
# Batch engines: a fixed number, or a range [min, max].
Engines = Annotated[Number | tuple[Number, Number], WrapValidator(_engines)]


def most(engines: int | tuple[int, int]) -> int:
    """The maximum number of engines that may run at once."""
    return engines if isinstance(engines, int) else engines[1]


def _source_or_adapter(schema: dict[str, Any]) -> None:
    """In the configuration file an adapter has its base's `source`."""
    schema["required"] = [name for name in schema["required"] if name != "source"]
    schema["anyOf"] = [{"required": ["source"]}, {"required": list(ADAPTED)}]


class VllmSpec(Strict):
    """A model that vLLM runs on this cluster."""

    model_config = ConfigDict(json_schema_extra=_source_or_adapter)

    backend: Literal["vllm"] = "vllm"
    source: str = Field(
        description="required except of an adapter: embedded:NAME, a local model folder, a hub id such as "
        "Qwen/Qwen2.5-7B-Instruct, an s3://, gs:// or file:// address of a model folder, or run:PATH, a folder in the "
        "run directory that an earlier job writes"
    )
    revision: str | None = Field(None, description="hub revision (commit, tag or branch)")
    base: str | None = Field(
        None, description="of a LoRA adapter: the name under `models` of its base model, whose settings it shares"
    )
    adapter: str | None = Field(
        None,
        description="a LoRA adapter of `base`, in place of `source`: a local folder that peft has saved, or run:PATH",
    )
    prompt_style: Literal["auto", "chat", "completion"] = Field(
        "auto", description="auto: chat if the tokenizer has a chat template, plain completion otherwise"
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="variables of the tokenizer's chat template, such as `date_string`; see docs/models.md",
    )
    thinking_token_budget: int = Field(
        0,
        ge=0,
        description="tokens that a reasoning model may think before each answer, besides max_tokens; 0: it answers "
        "without thinking",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="auto: the model's own on GPUs; on CPUs bfloat16 where the processor computes it (AVX512-BF16, "
        "AMX), else float32",
    )
    max_model_len: int = Field(
        2048, ge=64, description="context length in tokens; a longer prompt is not scored (`too_long`)"
    )
    num_gpus: int | None = Field(
        None, ge=0, description="GPUs per engine, one per worker; none: one per worker if the cluster has GPUs, else 0"
    )
    num_cpus: float = Field(1, gt=0, description="CPUs that Ray reserves for each worker of an engine")
    accelerator_type: str | None = Field(None, description="GPU type as Ray names it, such as A100")
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="custom Ray resources to request, such as `batch: 0.001` to run on the batch nodes of "
        "ray_cluster.yaml",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="workers that each layer is split across")
    pipeline_parallel_size: int = Field(
        1, ge=1, description="pipeline stages that the layers are split into, each with its own workers"
    )
    num_engines: Engines = Field(
        1, description="engine actors that share the records of a batch run; [min, max]: scaled with the work"
    )
    batch_size: int | None = Field(
        None, ge=1, description="rows passed to an engine at once, and saved at once; none: 64 on GPUs, 16 on CPUs"
    )
    kv_cache_gib: float = Field(2, gt=0, description="KV cache of an engine on CPU, in GiB")
    engine_metrics: bool = Field(
        False,
        description="export vLLM's metrics (KV cache use, prefix cache hits, waiting requests) through Ray",
    )
    engine: dict[str, Any] = Field(
        default_factory=dict, description="additional vLLM engine arguments, under vLLM's names"
    )

    @field_validator("engine")
    @classmethod
    def _runs_no_code_of_a_model(cls, engine: dict[str, Any]) -> dict[str, Any]:
        if engine.get("trust_remote_code"):
            raise UserError("trust_remote_code runs a model's own code. Choose a model without.", code="unsupported")
        if engine.get("load_format") in PICKLED_FORMATS:
            problem = f"load_format {engine['load_format']} loads pickles, which can execute arbitrary code."
            raise UserError(f"{problem} Convert the weights to safetensors.", code="unsupported")
        return engine

    @field_validator("chat_template_kwargs")
    @classmethod
    def _can_be_written(cls, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(variables, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError("the values must be strings, numbers, booleans, lists or mappings") from error
        return variables

    def reply_tokens(self, max_tokens: int) -> int:
        """Maximum length of a reply in tokens: with the thinking and its two marks, where the model thinks.

        Args:
            max_tokens: maximum length of the answer.
        """
        return max_tokens + (self.thinking_token_budget + 2 if self.thinking_token_budget else 0)

    @model_validator(mode="after")
    def _thinks_in_a_chat(self) -> VllmSpec:
        for key in ("chat_template_kwargs", "thinking_token_budget"):
            if self.prompt_style == "completion" and getattr(self, key):
                raise UserError(
                    f"{key} is for chat templates, but prompt_style is completion. Remove one of the two.",
                    code="conflict",
                )
        if self.thinks and self.thinking_token_budget + 2 >= self.max_model_len:
            raise UserError(
                f"thinking_token_budget of {self.thinking_token_budget} leaves no room in max_model_len of "
                f"{self.max_model_len}. Raise max_model_len, or lower the budget.",
                code="conflict",
            )
        if self.chat_template_kwargs.get("enable_thinking", self.thinks) != self.thinks:
            raise UserError(
                "enable_thinking (chat_template_kwargs) follows thinking_token_budget: 0 switches the thinking off. "
                "Remove enable_thinking.",
                code="conflict",
            )
        return self

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.thinking_token_budget > 0

    @property
    def num_workers(self) -> int:
        """Workers of one engine, each with a GPU (if it runs on GPUs) and a bundle of the placement group."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @model_validator(mode="after")
    def _one_gpu_a_worker(self) -> VllmSpec:
        if self.num_gpus not in (None, 0, self.num_workers):
            raise UserError(
                f"num_gpus must be {self.num_workers} (tensor_parallel_size x pipeline_parallel_size), not "
                f"{self.num_gpus}. Change these, or omit num_gpus.",
                code="conflict",
            )
        for key in ("tensor_parallel_size", "pipeline_parallel_size", "dtype"):
            if key in self.engine:
                raise UserError(f"engine.{key} is not allowed: set {key} next to `engine`.", code="conflict")
        return self


class HttpSpec(Strict):
    """A model behind an OpenAI-compatible endpoint."""

    backend: Literal["http"]
    base_url: str = Field(description="the endpoint's URL, such as http://127.0.0.1:8000/v1", pattern=r"^https?://\S+$")
    model: str = Field(description="the model's name at the endpoint")
    api_key_env: str | None = Field(None, description="environment variable with the API key")
    api_key_file: Path | None = Field(None, description="file with the API key")
    timeout_s: float = Field(60, gt=0, description="timeout of one attempt, in seconds")
    max_retries: int = Field(4, ge=0, description="retries after 429, 5xx and timeouts, with exponential backoff")
    max_in_flight: int = Field(16, ge=1, description="maximum number of concurrent requests")
    json_schema: bool = Field(True, description="request constrained JSON; false for endpoints without response_format")
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="parameters that have another name at the endpoint: {max_tokens: max_completion_tokens}",
    )
    drop: tuple[str, ...] = Field(
        (), description="parameters that the endpoint rejects: [temperature, top_p, seed, max_tokens, ...]"
    )
    request: dict[str, Any] = Field(
        default_factory=dict,
        description="additional or overridden parameters of every request, such as reasoning_effort; keys under "
        "extra_body are merged in, as in OpenAI's client",
    )
    num_engines: Engines = 1

    @field_validator("request")
    @classmethod
    def _asks_as_we_read(cls, request: dict[str, Any]) -> dict[str, Any]:
        more = request.get("extra_body", {})
        if not isinstance(more, dict):
            raise ValueError("extra_body must be a mapping of parameters")
        if taken := [name for name in (*request, *more) if name in NOT_SET]:
            raise UserError(f"{taken[0]} cannot be overridden; Inverdict sets {', '.join(NOT_SET)}.", code="conflict")
        return request

    @model_validator(mode="after")
    def _names_what_is_sent(self) -> HttpSpec:
        for key, names in (("drop", self.drop), ("rename", self.rename)):
            if unknown := [name for name in names if name not in SENT]:
                raise ValueError(f"{key}: unknown parameter {unknown[0]!r}; must be one of {', '.join(SENT)}")
        if odd := [name for name in self.rename.values() if not name or name in (*NOT_SET, *SENT)]:
            raise ValueError(f"rename: {odd[0]!r} cannot be the new name of a parameter")
        if both := [name for name in self.rename if name in self.drop]:
            raise UserError(f"{both[0]} is in both drop and rename. Remove one of the two.", code="conflict")
        return self


class ScriptRule(Strict):
    """The scripted engine's reply to a prompt that contains `contains`."""

    contains: str
    reply: str | None = None
    label_logprobs: dict[str, float] | None = None
    finish_reason: Literal["stop", "length", "filtered", "other"] = "stop"
    error: Literal["error", "timeout"] | None = None


class ScriptedSpec(Strict):
    """A deterministic engine without a model, for tests, load tests and dry runs; not for results."""

    backend: Literal["scripted"]
    rules: tuple[ScriptRule, ...] = Field((), description="the first match applies; none: a score by the prompt's hash")
    delay_s: float = Field(0, ge=0, description="delay before each reply, in seconds")
    garbage_share: float = Field(0, ge=0, le=1, description="share of prompts whose reply has no score")
    max_prompt_chars: int = Field(200_000, ge=1, description="a longer prompt is not scored (`too_long`)")
    num_gpus: int = Field(0, ge=0, description="GPUs reserved per engine, so that a dry run scales like a real one")
    num_engines: Engines = 1


class ServedSpec(Strict):
    """A model already deployed on this cluster's Ray Serve by `inverdict serve`."""

    backend: Literal["served"]
    deployment: str = Field(description="name of the deployment: evaluator-MODEL")
    app: str = Field("inverdict", description="name of the Serve application")
    adapter: str | None = Field(None, description="name under `models` of a LoRA adapter that the deployment serves")
    num_engines: Engines = Field(1, description="actors that forward requests")


class FeaturesSpec(Strict):
    """No model: a feature of the text itself, as a member of a panel and a baseline. Formulas: docs/panel.md."""

    backend: Literal["features"]
    feature: Literal["length", "overlap", "novelty", "repetition"] = Field(
        description="length: of the candidate in words; overlap, novelty: with respect to the source; repetition: "
        "absence of repeated phrases"
    )


def engine_name(name: str, spec: ModelSpec) -> str:
    """The name under `models` whose engine answers for a model: of a LoRA adapter its base, else its own.

    Args:
        name: under `models`.
        spec: its specification.
    """
    return spec.base if isinstance(spec, VllmSpec) and spec.base else name


def on_their_bases(specs: Mapping[str, Any]) -> dict[str, Any]:
    """The specifications as written, with the settings of its base added to each LoRA adapter.

    Raises UserError if an adapter has no base, or a setting of its own.
    """
    return {name: _on_its_base(name, spec, specs) for name, spec in specs.items()}


def _on_its_base(name: str, spec: Any, specs: Mapping[str, Any]) -> Any:
    told = {key: spec[key] for key in ADAPTED if spec.get(key) is not None} if isinstance(spec, Mapping) else {}
    if not told:
        return spec
    if missing := [key for key in ADAPTED if key not in told]:
        raise UserError(
            "A LoRA adapter has both `base`, a name under `models`, and `adapter`, a folder.",
            code="missing_key",
            key=f"models.{name}.{missing[0]}",
        )
    base = specs.get(str(told["base"]))
    if not isinstance(base, Mapping) or _backend(base) != "vllm" or base.get("adapter") is not None:
        raise UserError(
            f"{told['base']!r} must be a model under `models` with `backend: vllm` and without an adapter of its own.",
            code="unknown_model",
            key=f"models.{name}.base",
        )
    # A configuration that is written with its defaults has the settings of the base in both.
    for key in VllmSpec.model_fields.keys() & spec.keys() - {*ADAPTED, "backend"}:
        if spec[key] != base.get(key):
            raise UserError(
                f"A LoRA adapter runs on the engine of its base. Set models.{told['base']}.{key} instead.",
                code="conflict",
                key=f"models.{name}.{key}",
            )
    return {**base, **spec}


def _backend(value: Any) -> str:
    return str(value.get("backend", "vllm")) if isinstance(value, Mapping) else str(getattr(value, "backend", "vllm"))


ModelSpec = Annotated[
    Annotated[VllmSpec, Tag("vllm")]
    | Annotated[HttpSpec, Tag("http")]
    | Annotated[ScriptedSpec, Tag("scripted")]
    | Annotated[ServedSpec, Tag("served")]
    | Annotated[FeaturesSpec, Tag("features")],
    Discriminator(_backend),
]
