"""The request to a model and its reply, the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ErrorKind = Literal["too_long", "timeout", "error"]
# Why generation stopped: end of the reply, max_tokens, a content filter, other; "" if there is no reply.
FinishReason = Literal["stop", "length", "filtered", "other", ""]


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to a model.

    `reply_prefix`: the beginning of the reply, which the model continues. `labels`: strings whose log-probabilities as
    the continuation of the prefix are requested; with labels nothing is generated. `json_schema`: a JSON schema (as
    text) that constrains the reply. `hidden_state`: the last token's hidden state is requested instead of a reply; the
    labels then only tell how the prefix is spelled. `model`: of an engine with LoRA
    adapters, the name under `models` of the one that is asked; its base's name or "": the base.
    """

    prompt: str
    reply_prefix: str = ""
    labels: tuple[str, ...] = ()
    json_schema: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    hidden_state: bool = False
    model: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply, or the error in its place.

    `label_logprobs`: natural logarithms in the order of the request's labels; NaN for a label that the engine does not
    return, or if the reply is not a label; empty if the engine returns no log-probabilities. `detail`: the engine's or
    endpoint's message about an error, a finish reason, or a reply that is not a label. `num_cached_tokens`: prompt
    tokens from the prefix cache, if the engine reports them. `hidden_state`: of the last prompt token after the model's
    last layer and final norm, where it was requested. `reasoning`: the thinking of a reasoning model, which is no part
    of the text.
    """

    text: str = ""
    finish_reason: FinishReason = ""
    label_logprobs: tuple[float, ...] = ()
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    error: ErrorKind | None = None
    detail: str = ""
    hidden_state: tuple[float, ...] = ()
    reasoning: str = ""
