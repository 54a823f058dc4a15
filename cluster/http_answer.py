"""Parse an endpoint's response body into a `Reply`: any bytes are accepted, nothing raises.

Finish reasons are mapped to "stop", "length", "filtered" and "other". The labels' log-probabilities are those of the
token that is the whole reply, located by label_tokens.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from cluster.exchange import Reply
from cluster.label_tokens import CutOff, NoLabel, NoLogprobs, label_logprobs
from cluster.model_specs import SENT
from cluster.reasoning import apart

SHOWN_CHARS = 200  # of a response that cannot be parsed
MAX_DEPTH = 6
Ending = Literal["stop", "length", "filtered", "other"]

# Finish reasons of the endpoints, in lower case.
ENDINGS: Mapping[str, Ending] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    "model_context_window_exceeded": "length",
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "refusal", "spii"), "filtered"),
    **dict.fromkeys(("prohibited_content", "content_filtered", "sensitive", "image_safety"), "filtered"),
}
# OpenAI, vLLM, llama.cpp, TGI, Anthropic, Gemini, Vertex, Mistral, SGLang, Ollama, Cohere, Qwen.
TOO_LONG = re.compile(
    r"context[_ ](?:length|size|limit)(?![_ ]?['\"`]?\s*(?:is (?:not|un)|parameter))"
    r"|exceed[^.]{0,40}context|context window (?:of|exceeded)|exceeds? the[^.]{0,30}context window"
    r"|max(?:imum)?[_ ](?:model|prompt|input|sequence)[_ ](?:length|len)\b"
    r"|prompt is too long|too many (?:input )?tokens"
    r"|(?:input|prompt|message)s?\b[^.]{0,60}\btokens?\b[^.]{0,60}(?:exceed|too large|longer than|only supports)"
    r"|tokens in the (?:prompt|input)[^.]{0,20}too large"
    r"|token count[^.]{0,60}(?:exceed|only supports)"
    r"|range of input length|exceeded model token limit"
    r"|tokens`? ?\+ ?`?max_new_tokens`? must be"
    r"|inputs?`? must have less than \d+ tokens"
    r"|longer than the (?:maximum |model's )",
    re.IGNORECASE,
)
# Rate limits, which are not about the length of a prompt.
RATE = re.compile(r"\brate\b|per minute|per day|\bquota\b|overloaded|\brequests\b", re.IGNORECASE)
CODES_OF_LENGTH = re.compile(r"context_length|exceed_context|string_above_max", re.IGNORECASE)
SECRET = re.compile(
    r"\b(?:sk|pk|hf|gsk|xai|nvapi|r8|pplx|csk|tgp_v1|fw|dapi)[-_]?(?=[A-Za-z0-9_*-]*[0-9*])[A-Za-z0-9_*-]{12,}"
    r"|\bsk-[A-Za-z0-9_*-]{8,}|\b(?:AIza|AKIA|ya29\.|eyJ)[A-Za-z0-9_.-]{12,}"
    r"|(?<=Bearer )\S{8,}|(?<=Basic )\S{8,}|(?<=bearer )\S{8,}"
    r"|(?<=api[-_]key)[\"'=:\s]{1,4}[^\s\"',}]{8,}|(?<=://)[^\s/@]+:[^\s/@]+(?=@)"
)
REFUSES = re.compile(
    r"unsupported|not support|does not exist|unrecogni[sz]ed|unexpected|not permitted|unknown|invalid|extra inputs|"
    r"not allowed|deprecated|must be|too large|only the default|should be|cannot|can ?not|may only|unavailable|"
    r"not available|not enabled|greater than|exceeds|at most|not a valid",
    re.IGNORECASE,
)
MESSAGE_KEYS = (
    *("message", "msg", "detail", "details", "error", "errors", "error_message", "error_description", "reason"),
    *("title", "fault", "faultstring", "data"),
)

REASONING_KEYS = ("reasoning_content", "reasoning")


class Answer(NamedTuple):
    """`status`: the code of an error inside a response with status 200, such as 429; 0: none."""

    reply: Reply
    status: int = 0


def read_answer(content: bytes, labels: Sequence[str] = (), reply_prefix: str = "") -> Answer:
    """Parse the body of a response with status 200.

    Args:
        content: the body.
        labels: the request's labels; empty: a text is expected.
        reply_prefix: the request's prefix, which the reply may repeat.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return _unreadable("the endpoint's response is not JSON", content)
    try:
        return _read(body, content, tuple(labels), reply_prefix)
    except RecursionError:
        return _unreadable("the endpoint's response is nested too deeply", content)


def _read(body: Any, content: bytes, labels: tuple[str, ...], reply_prefix: str) -> Answer:
    if not isinstance(body, dict):
        return _unreadable("the endpoint's response is not a chat completion", content)
    choices = body.get("choices")
    if (error := _error_in(body)) and (not choices or _says(error)):
        return _failed(error, body, content)
    if not isinstance(choices, list) or not choices:
        return _unreadable("the endpoint's response has no choices", content)
    choice = choices[0]
    if not isinstance(choice, dict):
        return _unreadable("the endpoint's response has no message with text", content)
    if _says(choice.get("error")):
        return _failed(choice["error"], body, content)
    message = choice["message"] if isinstance(choice.get("message"), dict) else None
    ending, words = _ending(choice.get("finish_reason"), message or {})
    text = text_of(message.get("content")) if message is not None else ""
    # A reply that was truncated, filtered or spent on reasoning may have no text; a finished one must have it.
    has_none = message is None or text is None or ("content" not in message and not _reasoning(message))
    if has_none and (ending in ("stop", "other") or (message is not None and text is None and ending != "length")):
        return _unreadable("the endpoint's response has no message with text", content)
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    reply = Reply(
        storable(text or ""),
        ending,
        num_prompt_tokens=_count(usage.get("prompt_tokens")),
        num_generated_tokens=_count(usage.get("completion_tokens")),
        detail=words,
        reasoning=storable(_thinking(message or {})),
    )
    if not labels:
        return Answer(apart(reply))
    return Answer(_with_labels(reply, choice.get("logprobs"), message or {}, labels, reply_prefix))


def _error_in(body: Mapping[str, Any]) -> Any:
    """The error object of a body with status 200; in vLLM's older format it is the whole body."""
    return body if body.get("object") == "error" else body.get("error")


def _says(error: Any) -> bool:
    """Whether an error is not empty: some endpoints add an empty one to a valid response."""
    return bool(error) and (not isinstance(error, dict) or any(_messages(error, 0)) or bool(error.get("code")))


def _reasoning(message: Mapping[str, Any]) -> bool:
    return any(message.get(key) for key in REASONING_KEYS)


def _thinking(message: Mapping[str, Any]) -> str:
    """The model's reasoning, where the endpoint returns it separately from the text."""
    return next((one for key in REASONING_KEYS if isinstance(one := message.get(key), str)), "")


def _with_labels(
    reply: Reply, logprobs: Any, message: Mapping[str, Any], labels: tuple[str, ...], reply_prefix: str
) -> Reply:
    """The reply with the labels' log-probabilities: empty if none are returned, NaN if its text is not a label."""
    if reply.finish_reason in ("filtered", "other"):
        return replace(reply, label_logprobs=(float("nan"),) * len(labels))
    try:
        found = label_logprobs(
            reply.text,
            logprobs,
            labels,
            reply_prefix=reply_prefix,
            is_cut=reply.finish_reason == "length",
            has_reasoning=_reasoning(message),
        )
    except NoLogprobs as error:
        return replace(reply, finish_reason="stop", detail=str(error))
    except NoLabel as error:
        ending: Ending = "length" if isinstance(error, CutOff) else "stop"
        nothing = (float("nan"),) * len(labels)
        return replace(reply, finish_reason=ending, label_logprobs=nothing, detail=masked(str(error)))
    # With labels max_tokens truncates the reply on purpose, soon after the label.
    return replace(reply, finish_reason="stop", label_logprobs=found, detail="")


def text_of(content: Any) -> str | None:
    """A message's content as text: of a list the text parts, without reasoning; None: no text."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [text for part in content if (text := _part_text(part)) is not None]
    return "".join(texts) if texts else None


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "output_text"):
        return None
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else None


def _ending(finish_reason: Any, message: Mapping[str, Any]) -> tuple[Ending, str]:
    """The finish reason, and the endpoint's wording if it is not "stop"."""
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        return "filtered", masked(f"refusal: {refusal}")
    known = ENDINGS.get(finish_reason.lower(), "other") if isinstance(finish_reason, str) else "other"
    return known, "" if known == "stop" else masked(f"finish_reason {json.dumps(finish_reason)}")


def _failed(error: Any, body: Mapping[str, Any], content: bytes) -> Answer:
    """An error object in a response with status 200."""
    words = "; ".join(_messages(error, 0)) or _start_of(content)
    places = [error, body] if isinstance(error, dict) else [body]
    codes = [place.get(key) for place in places for key in ("code", "status", "status_code")]
    numbers = [int(code) for code in codes if isinstance(code, int | str) and re.fullmatch(r"[45]\d\d", str(code))]
    status = numbers[0] if numbers else 429 if re.search(r"rate.?limit|too many requests", words, re.I) else 0
    kind: Literal["too_long", "error"] = "too_long" if is_too_long(words, status) else "error"
    said = f"{status}: {words}" if numbers else words
    return Answer(Reply(error=kind, detail=masked(said, 2 * SHOWN_CHARS)), 0 if kind == "too_long" else status)


def _unreadable(what: str, content: bytes) -> Answer:
    return Answer(Reply(error="error", detail=masked(f"{what}: {_start_of(content)}", 2 * SHOWN_CHARS)))


def _start_of(content: bytes) -> str:
    return content[: 4 * SHOWN_CHARS].decode("utf-8", "replace")[:SHOWN_CHARS]


def error_words(content: bytes) -> str:
    """The message in an error's body: OpenAI's or FastAPI's format, plain text, nested ones, or the raw beginning."""
    try:
        words = "; ".join(_messages(json.loads(content), 0))
    except (ValueError, RecursionError):
        words = ""
    return words or _start_of(content).strip() or "no message"


def _messages(value: Any, depth: int) -> Iterator[str]:
    """The messages in an error, outermost first; those of FastAPI's list with their location."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        yield from [value.strip()] if value.strip() else []
    elif isinstance(value, list):
        for one in value[:4]:
            yield from _messages(one, depth + 1)
    elif isinstance(value, dict):
        yield from dict.fromkeys(_of_object({str(key).lower(): one for key, one in value.items()}, depth))


def _of_object(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    place = value.get("loc", value.get("param"))
    where = ".".join(map(str, place)) if isinstance(place, list) else place if isinstance(place, str) else ""
    found = [one for key in MESSAGE_KEYS if key in value for one in _messages(value[key], depth + 1)]
    if not found and depth:  # {"temperature": ["must be 1"]}
        found = [f"{key}: {one}" for key in list(value)[:4] for one in _messages(value[key], depth + 1)]
        found = [] if {"code", "type"} & value.keys() else found
    for one in found:
        yield f"{where}: {one}" if where and where not in one else one
    for code in (value.get("code"), value.get("type")):
        if isinstance(code, str) and CODES_OF_LENGTH.search(code):
            yield code
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        yield from _messages(metadata.get("raw"), depth + 1)


def is_too_long(words: str, status: int = 400) -> bool:
    """Whether an error means that the prompt exceeds the model's context, and not a rate limit."""
    if status in (401, 403, 404, 429, 503) or (RATE.search(words) and not CODES_OF_LENGTH.search(words)):
        return False
    return bool(TOO_LONG.search(words) or CODES_OF_LENGTH.search(words))


def key_to_set(words: str, body: Mapping[str, Any], rename: Mapping[str, str]) -> str:
    """A hint which configuration key to set if an endpoint rejects a parameter by name; "" if none.

    Args:
        words: the endpoint's error message.
        body: the parameters of the request.
        rename: the model's `rename`.
    """
    places = {name: re.search(rf"\b{re.escape(name)}\b", words, re.IGNORECASE) for name in body}
    named = sorted((found.start(), name) for name, found in places.items() if found)
    if not named or not REFUSES.search(words):
        return ""
    name = named[0][1]
    ours = {theirs: ours for ours, theirs in rename.items()}.get(name, name)
    if "max_completion_tokens" in words and "max_tokens" in body:
        key = "rename: {max_tokens: max_completion_tokens}"
    elif name == "response_format":
        key = "json_schema: false"
    elif name in ("logprobs", "top_logprobs"):
        key = (
            f"request: {{{name}: VALUE}}` or, if the endpoint has no log-probabilities, the judge's `score_mode: parsed"
        )
    elif ours not in SENT:
        key = f"request` without {name}, or with another value: `request: {{{name}: VALUE}}"
    else:
        key = f"drop: [{ours}]` or `request: {{{name}: VALUE}}"
    return f" (set `{key}` for this model)"


def masked(text: str, limit: int = SHOWN_CHARS) -> str:
    """`text` safe to store and print: secrets masked, one line, at most `limit` characters."""
    return storable(SECRET.sub("***", " ".join(text[: 4 * limit].split())))[:limit]


def storable(text: str) -> str:
    """`text` without lone surrogates, which are legal in JSON but cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else 0
