"""The run's YAML file -> one frozen, checked configuration. One of the three doors where input is validated.

What every job shares stands here (run directory, seed, Ray, models); each job's own section is a pydantic class beside
that job, handed in by the command line, so that this module knows no job.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WrapValidator,
    create_model,
    field_validator,
    model_validator,
)

from cluster.configfile import read, with_overrides
from cluster.errors import UserError
from cluster.publish import address_problem

# What a request to an endpoint holds beside model and messages.
SENT = ("temperature", "top_p", "max_tokens", "seed", "logprobs", "top_logprobs", "response_format")
NOT_SET = ("model", "messages", "stream", "n")
# pydantic's kinds of a problem that have a code of ours; every other is an `invalid_value`.
CODES = {"extra_forbidden": "unknown_key", "missing": "missing_key", "union_tag_invalid": "unknown_backend"}
PICKLED_FORMATS = ("pt", "npcache")  # vLLM's names


class Strict(BaseModel):
    """Base of every configuration section: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _engines(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        found = check(value)
    except ValidationError as error:
        raise ValueError(f"{value!r} is neither a number of engines from 1 on nor [least, most]") from error
    if not isinstance(found, int) and found[0] > found[1]:
        raise ValueError(f"the most ({found[1]}) are fewer than the least ({found[0]})")
    return found


Number = Annotated[int, Field(ge=1)]
# Batch engines: so many, or [least, most].
Engines = Annotated[Number | tuple[Number, Number], WrapValidator(_engines)]


def most(engines: int | tuple[int, int]) -> int:
    """Of a number or a range of engines, how many may run at once."""
    return engines if isinstance(engines, int) else engines[1]


class VllmSpec(Strict):
    """A model that vLLM runs inside this cluster."""

    backend: Literal["vllm"] = "vllm"
    source: str = Field(
        description="embedded:NAME, a local model folder, a hub id such as Qwen/Qwen2.5-7B-Instruct, or run:PATH, a "
        "folder that an earlier job of this run makes"
    )
    revision: str | None = Field(None, description="hub revision (commit, tag or branch)")
    prompt_style: Literal["auto", "chat", "completion"] = Field(
        "auto", description="auto: chat where the tokenizer has a chat template, plain completion otherwise"
    )
    max_model_len: int = Field(2048, ge=64, description="context in tokens; a longer prompt is unscored `too_long`")
    num_gpus: int | None = Field(
        None, ge=0, description="GPUs of an engine, one a worker; none: so where the cluster has GPUs, else 0"
    )
    num_cpus: float = Field(1, gt=0, description="CPUs that Ray sets aside for each worker of an engine")
    accelerator_type: str | None = Field(None, description="Ray's name of the GPU type, such as A100")
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="further resources of the node, by name, such as `batch: 0.001` to run where ray_cluster.yaml's "
        "batch nodes are",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="workers that share every layer of the model")
    pipeline_parallel_size: int = Field(1, ge=1, description="stages of layers, each with its own such workers")
    num_engines: Engines = Field(
        1, description="engine actors that share the records of a batch run; [least, most]: as many as the work needs"
    )
    batch_size: int = Field(64, ge=1, description="rows handed to an engine at once")
    kv_cache_gib: float = Field(2, gt=0, description="KV cache of an engine on the CPU")
    engine: dict[str, Any] = Field(
        default_factory=dict, description="further vLLM engine arguments, as vLLM names them"
    )

    @field_validator("engine")
    @classmethod
    def _runs_no_code_of_a_model(cls, engine: dict[str, Any]) -> dict[str, Any]:
        if engine.get("trust_remote_code"):
            raise ValueError("trust_remote_code would run code that came with the model: take a model without")
        if engine.get("load_format") in PICKLED_FORMATS:
            raise ValueError(f"load_format {engine['load_format']} loads pickles, which may run any code: convert them")
        return engine

    @property
    def num_workers(self) -> int:
        """Workers of one engine: a GPU each where it runs on GPUs, and a bundle of its placement group."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @model_validator(mode="after")
    def _one_gpu_a_worker(self) -> VllmSpec:
        if self.num_gpus not in (None, 0, self.num_workers):
            raise ValueError(
                f"num_gpus: an engine of tensor_parallel_size {self.tensor_parallel_size} and pipeline_parallel_size "
                f"{self.pipeline_parallel_size} takes {self.num_workers}, not {self.num_gpus}: change these, or leave "
                "num_gpus out"
            )
        for key in ("tensor_parallel_size", "pipeline_parallel_size"):
            if key in self.engine:
                raise ValueError(f"engine.{key}: Ray must know it too: give it beside `engine`, as {key}")
        return self


class HttpSpec(Strict):
    """A model behind an OpenAI-compatible endpoint."""

    backend: Literal["http"]
    base_url: str = Field(description="for instance http://127.0.0.1:8000/v1", pattern=r"^https?://\S+$")
    model: str = Field(description="the model's name at that endpoint")
    api_key_env: str | None = Field(None, description="environment variable that holds the key")
    api_key_file: Path | None = Field(None, description="file that holds the key")
    timeout_s: float = Field(60, gt=0, description="of one attempt")
    max_retries: int = Field(4, ge=0, description="after 429, 5xx and timeouts, with exponential backoff")
    max_in_flight: int = Field(16, ge=1, description="requests under way at once")
    json_schema: bool = Field(True, description="ask for constrained JSON; off for endpoints without response_format")
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="parameters that the endpoint calls otherwise: {max_tokens: max_completion_tokens}",
    )
    drop: tuple[str, ...] = Field(
        (), description="parameters that the endpoint refuses: [temperature, top_p, seed, max_tokens, ...]"
    )
    request: dict[str, Any] = Field(
        default_factory=dict,
        description="further parameters of every request, such as reasoning_effort, or other values than ours; the "
        "keys under extra_body stand beside them, as with OpenAI's client",
    )
    num_engines: Engines = 1

    @field_validator("request")
    @classmethod
    def _asks_as_we_read(cls, request: dict[str, Any]) -> dict[str, Any]:
        more = request.get("extra_body", {})
        if not isinstance(more, dict):
            raise ValueError("extra_body: it holds keys and values")
        if taken := [name for name in (*request, *more) if name in NOT_SET]:
            raise ValueError(f"{taken[0]} is not to be set here: the prompt, one whole reply and `model` are ours")
        return request

    @model_validator(mode="after")
    def _names_what_is_sent(self) -> HttpSpec:
        for key, names in (("drop", self.drop), ("rename", self.rename)):
            if unknown := [name for name in names if name not in SENT]:
                raise ValueError(f"{key}: {unknown[0]!r} is none of the parameters that are sent: {', '.join(SENT)}")
        if odd := [name for name in self.rename.values() if not name or name in (*NOT_SET, *SENT)]:
            raise ValueError(f"rename: {odd[0]!r} is no name that a parameter can have instead")
        if both := [name for name in self.rename if name in self.drop]:
            raise ValueError(f"drop and rename: {both[0]} is in both; keep one of the two")
        return self


class ScriptRule(Strict):
    """What the scripted engine answers to a prompt that contains `contains`."""

    contains: str
    reply: str | None = None
    label_logprobs: dict[str, float] | None = None
    finish_reason: Literal["stop", "length", "filtered", "other"] = "stop"
    error: Literal["error", "timeout"] | None = None


class ScriptedSpec(Strict):
    """A deterministic engine without a model, for tests, load tests and dry runs; never a source of results."""

    backend: Literal["scripted"]
    rules: tuple[ScriptRule, ...] = Field((), description="the first rule that fits decides; none: a score by hash")
    delay_s: float = Field(0, ge=0, description="waited before each answer")
    garbage_share: float = Field(0, ge=0, le=1, description="share of prompts answered with no score in the reply")
    max_prompt_chars: int = Field(200_000, ge=1, description="a longer prompt is unscored `too_long`")
    num_gpus: int = Field(0, ge=0, description="GPUs set aside for an engine, so that a dry run scales as a real one")
    num_engines: Engines = 1


class ServedSpec(Strict):
    """An evaluator that runs already on this Ray cluster's Serve, started by `inverdict serve`."""

    backend: Literal["served"]
    deployment: str = Field(description="its name there: evaluator-MODEL")
    app: str = Field("inverdict", description="the Serve application that it belongs to")
    num_engines: Engines = Field(1, description="actors that hand requests on")


def _backend(value: Any) -> str:
    return str(value.get("backend", "vllm")) if isinstance(value, Mapping) else str(getattr(value, "backend", "vllm"))


ModelSpec = Annotated[
    Annotated[VllmSpec, Tag("vllm")]
    | Annotated[HttpSpec, Tag("http")]
    | Annotated[ScriptedSpec, Tag("scripted")]
    | Annotated[ServedSpec, Tag("served")],
    Discriminator(_backend),
]


class RayConfig(Strict):
    """Where the work runs."""

    address: str | None = Field(
        None,
        description="an existing cluster, such as `auto`; none: that of RAY_ADDRESS (as in a submitted job), or a "
        "private one here",
    )
    num_cpus: int | None = Field(None, ge=2, description="CPUs of a private cluster; none: this machine's, at least 2")
    object_store_gib: float = Field(1.0, gt=0.08, description="shared memory of a private cluster")


def _store_address(address: str) -> str:
    if problem := address_problem(address):
        raise ValueError(problem)
    return address


def _named(folder: Any) -> Any:
    if folder == "":
        raise ValueError("it names no folder")
    return folder


class RunConfig(Strict):
    """What every job of a run shares."""

    run: Annotated[Path, BeforeValidator(_named)] = Field(description="run directory; every job writes below it")
    seed: int = Field(0, ge=0)
    ray: RayConfig = RayConfig()
    models: dict[str, ModelSpec] = Field(default_factory=dict)
    publish: Annotated[str, AfterValidator(_store_address)] | None = Field(
        None,
        description="s3://, gs:// or file:// address to which each finished job of the run is copied; keys "
        "come from the environment or the machine's role",
    )

    @model_validator(mode="before")
    @classmethod
    def _inside_the_run(cls, raw: Any) -> Any:
        """`run:PATH` as a path below the run directory, so that everything behind this door sees plain folders."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("models"), Mapping):
            return raw
        root = Path(str(raw.get("run", "."))).absolute()
        specs = {
            name: {**spec, "source": str(root / spec["source"].removeprefix("run:"))}
            if isinstance(spec, Mapping) and str(spec.get("source", "")).startswith("run:")
            else spec
            for name, spec in raw["models"].items()
        }
        return {**raw, "models": specs}


C = TypeVar("C", bound=BaseModel)


def load(path: Path, overrides: Sequence[str], sections: Mapping[str, type[BaseModel]]) -> RunConfig:
    """The configuration in `path` with `a.b=value` overrides, checked against `sections` (a job's name: its class).

    A section that the file leaves out is None. Raises UserError that names the file and the key.
    """
    return build(with_overrides(read(path), overrides), sections, origin=str(path))


def section(run: RunConfig, name: str, kind: type[C]) -> C:
    """The section of that name. Raises UserError where the configuration has none."""
    found = getattr(run, name, None)
    if found is None:
        raise UserError(f"the configuration has no `{name}` section")
    assert isinstance(found, kind)
    return found


def section_or_default(run: RunConfig, name: str, kind: type[C]) -> C:
    """The section of that name, or what it is where the configuration leaves it out."""
    return kind() if getattr(run, name, None) is None else section(run, name, kind)


def build(raw: Mapping[str, Any], sections: Mapping[str, type[BaseModel]], *, origin: str) -> RunConfig:
    whole = run_schema(sections)
    try:
        return whole.model_validate(raw)
    except ValidationError as error:
        raise _refusal(error, whole, origin) from error


def run_schema(sections: Mapping[str, type[BaseModel]]) -> type[RunConfig]:
    fields: dict[str, Any] = {name: (section | None, None) for name, section in sections.items()}
    return create_model("RunConfig", __base__=RunConfig, **fields)


def _refusal(error: ValidationError, whole: type[BaseModel], origin: str) -> UserError:
    """The first problem, with the key's path, and the nearest known key for an unknown one."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    # pydantic names the member of the union behind the model's name; people know the key only.
    if path[:1] == ["models"] and len(path) > 2:
        del path[2]
    key, code = ".".join(path), CODES.get(first["type"], "invalid_value")
    if code == "unknown_key":
        near = difflib.get_close_matches(path[-1], _known_keys(whole, path[:-1]), 1)
        text = f"Unknown key `{key}`." + (f" Did you mean `{near[0]}`?" if near else "")
    elif code == "missing_key":
        text = f"`{key}` is missing."
    elif code == "unknown_backend":
        key = f"{key}.backend"
        text = f"`{key}` must be one of {first['ctx']['expected_tags']}, not {first['ctx']['tag']!r}."
    else:
        # A validator may raise a UserError with a code of its own; pydantic keeps it as the cause.
        code = getattr(first.get("ctx", {}).get("error"), "code", code)
        message = first["msg"].removeprefix("Value error, ")
        text = f"`{key}`: {message[0].lower()}{message[1:]}" if path else message
    more = f" ({error.error_count() - 1} more problems after this one)" if error.error_count() > 1 else ""
    return UserError(f"{origin}: {text}{more}", code=code, key=key)


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Keys of the section at `path`, those of the sections below it included."""
    if not path:
        return list(model.model_fields)
    keys: list[str] = []

    def collect(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys.extend(kind.model_fields)
            for inner in kind.model_fields.values():
                collect(inner.annotation)
        for argument in getattr(kind, "__args__", ()):
            collect(argument)

    if path[0] in model.model_fields:
        collect(model.model_fields[path[0]].annotation)
    return keys
