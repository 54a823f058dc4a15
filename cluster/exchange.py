"""One question to a model and its reply, as every engine takes and gives them. Knows no engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ErrorKind = Literal["too_long", "timeout", "error"]
# How a reply ended: by itself, at max_tokens, by a filter, otherwise; "" where there is none.
FinishReason = Literal["stop", "length", "filtered", "other", ""]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    `reply_prefix`: how the reply begins; the model goes on from there. `labels`: strings whose log-probabilities as
    the next thing after the prefix are wanted; with labels nothing is generated. `json_schema`: a JSON schema (text)
    that the reply must follow.
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


@dataclass(frozen=True, slots=True)
class Reply:
    """`label_logprobs`: natural logarithms in the order of the request's labels; NaN where the engine does not tell, or
    where the reply is no label; empty where it tells none at all. `detail`: what the engine or the endpoint says of an
    error, of an ending, or of a reply that is no label.

    `num_cached_tokens`: those of the prompt that came from the prefix cache, where the engine tells.
    """

    text: str = ""
    finish_reason: FinishReason = ""
    label_logprobs: tuple[float, ...] = ()
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    error: ErrorKind | None = None
    detail: str = ""
