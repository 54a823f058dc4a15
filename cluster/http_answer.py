"""The bytes of an endpoint's answer -> a `Reply`. Any JSON may come, and anything else: nothing here raises.

A reply ends by itself ("stop"), at the limit ("length"), by a filter ("filtered") or otherwise ("other"). Labels'
log-probabilities are those of the token that is the whole answer, found in label_tokens.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from cluster.exchange import Reply
from cluster.label_tokens import CutOff, NoLabel, NoLogprobs, label_logprobs

SHOWN_CHARS = 200  # of an answer that cannot be read
MAX_DEPTH = 6
Ending = Literal["stop", "length", "filtered", "other"]

# How endpoints say that a reply is finished, in lower case.
ENDINGS: Mapping[str, Ending] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    "model_context_window_exceeded": "length",
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "refusal", "spii"), "filtered"),
    **dict.fromkeys(("prohibited_content", "content_filtered", "sensitive", "image_safety"), "filtered"),
}
# OpenAI, vLLM, llama.cpp, TGI, Anthropic, Gemini, Mistral, SGLang, Ollama.
TOO_LONG = re.compile(
    r"context[_ ](?:length|size|window|limit)"
    r"|max(?:imum)?[_ ](?:model|prompt|input|sequence)[_ ](?:length|len)\b"
    r"|prompt is too long"
    r"|\b(?:input|prompt)s?\b[^.]{0,60}\b(?:too long|longer than|exceeds? the (?:maximum|limit|model))"
    r"|input token count[^.]{0,60}exceeds"
    r"|tokens`? ?\+ ?`?max_new_tokens`? must be"
    r"|inputs?`? must have less than \d+ tokens",
    re.IGNORECASE,
)
SECRET = re.compile(
    r"\b(?:sk|pk|hf|gsk|xai)[-_](?=[A-Za-z0-9_*-]*[0-9*])[A-Za-z0-9_*-]{8,}|(?<=Bearer )\S{8,}|\bAIza[A-Za-z0-9_-]{20,}"
)
MESSAGE_KEYS = ("message", "msg", "detail", "details", "error", "errors", "error_message", "reason", "title")


class Answer(NamedTuple):
    """`status`: what an error inside a 200 says of itself, such as 429; 0: nothing."""

    reply: Reply
    status: int = 0


def read_answer(content: bytes, labels: Sequence[str] = (), reply_prefix: str = "") -> Answer:
    """A body with status 200, whatever it is."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return _unreadable("the endpoint's answer is no JSON", content)
    try:
        return _read(body, content, tuple(labels), reply_prefix)
    except RecursionError:
        return _unreadable("the endpoint's answer is nested too deeply", content)


def _read(body: Any, content: bytes, labels: tuple[str, ...], reply_prefix: str) -> Answer:
    if not isinstance(body, dict):
        return _unreadable("the endpoint's answer is no chat completion", content)
    if body.get("error"):
        return _failed(body["error"], content)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return _unreadable("the endpoint answered without choices", content)
    choice = choices[0]
    if isinstance(choice, dict) and choice.get("error"):
        return _failed(choice["error"], content)
    message = choice.get("message") if isinstance(choice, dict) else None
    text = text_of(message["content"]) if isinstance(message, dict) and "content" in message else None
    if not isinstance(message, dict) or text is None:
        return _unreadable("the endpoint's answer holds no message with a text", content)
    ending, words = _ending(choice.get("finish_reason"), message)
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    reply = Reply(
        storable(text),
        ending,
        num_prompt_tokens=_count(usage.get("prompt_tokens")),
        num_generated_tokens=_count(usage.get("completion_tokens")),
        detail=words,
    )
    return Answer(_with_labels(reply, choice.get("logprobs"), message, labels, reply_prefix) if labels else reply)


def _with_labels(
    reply: Reply, logprobs: Any, message: Mapping[str, Any], labels: tuple[str, ...], reply_prefix: str
) -> Reply:
    """The reply with the labels' log-probabilities: none where none are told, NaN where its text is no label."""
    if reply.finish_reason in ("filtered", "other"):
        return replace(reply, label_logprobs=(float("nan"),) * len(labels))
    has_reasoning = any(message.get(key) for key in ("reasoning_content", "reasoning"))
    try:
        found = label_logprobs(
            reply.text,
            logprobs,
            labels,
            reply_prefix=reply_prefix,
            is_cut=reply.finish_reason == "length",
            has_reasoning=has_reasoning,
        )
    except NoLogprobs as error:
        return replace(reply, finish_reason="stop", detail=str(error))
    except NoLabel as error:
        ending: Ending = "length" if isinstance(error, CutOff) else "stop"
        nothing = (float("nan"),) * len(labels)
        return replace(reply, finish_reason=ending, label_logprobs=nothing, detail=masked(str(error)))
    # With labels the reply is cut on purpose, soon after the label.
    return replace(reply, finish_reason="stop", label_logprobs=found, detail="")


def text_of(content: Any) -> str | None:
    """A message's content as its text: of a list the parts that are text, not the thinking ones; None: neither."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
    texts = [part.get("text") for part in parts]
    return "".join(one for one in texts if isinstance(one, str)) if parts else None


def _ending(finish_reason: Any, message: Mapping[str, Any]) -> tuple[Ending, str]:
    """How the reply ended, and the endpoint's words where it did not end by itself."""
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        return "filtered", masked(f"refusal: {refusal}")
    known = ENDINGS.get(finish_reason.lower(), "other") if isinstance(finish_reason, str) else "other"
    return known, "" if known == "stop" else masked(f"finish_reason {json.dumps(finish_reason)}")


def _failed(error: Any, content: bytes) -> Answer:
    """An error object in a 200."""
    words = "; ".join(_messages(error, 0)) or _start_of(content)
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int | str) and str(code).isdecimal() and len(str(code)) == 3 else 0
    kind: Literal["too_long", "error"] = "too_long" if is_too_long(words) else "error"
    said = f"{status}: {words}" if status else words
    return Answer(Reply(error=kind, detail=masked(said, 2 * SHOWN_CHARS)), 0 if kind == "too_long" else status)


def _unreadable(what: str, content: bytes) -> Answer:
    return Answer(Reply(error="error", detail=masked(f"{what}: {_start_of(content)}", 2 * SHOWN_CHARS)))


def _start_of(content: bytes) -> str:
    return content[: 4 * SHOWN_CHARS].decode("utf-8", "replace")[:SHOWN_CHARS]


def error_words(content: bytes) -> str:
    """What an error's body says: OpenAI's form, FastAPI's, a plain message, nested ones, or the beginning as it is."""
    try:
        words = "; ".join(_messages(json.loads(content), 0))
    except (ValueError, RecursionError):
        words = ""
    return words or _start_of(content).strip() or "no words"


def _messages(value: Any, depth: int) -> Iterator[str]:
    """The messages in an error, outermost first; of FastAPI's list each with its place."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        yield from [value.strip()] if value.strip() else []
    elif isinstance(value, list):
        for one in value[:4]:
            yield from _messages(one, depth + 1)
    elif isinstance(value, dict):
        place = value.get("loc")
        where = f"{'.'.join(map(str, place))}: " if isinstance(place, list) else ""
        found = (one for key in MESSAGE_KEYS if key in value for one in _messages(value[key], depth + 1))
        seen: list[str] = []
        for one in found:
            if one not in seen:
                seen.append(one)
                yield f"{where}{one}"
        code = value.get("code", value.get("type"))
        if isinstance(code, str) and "context_length" in code:
            yield code
        metadata = value.get("metadata")
        if isinstance(metadata, dict):
            yield from _messages(metadata.get("raw"), depth + 1)


def is_too_long(words: str) -> bool:
    """Whether an error says that the prompt is too long for the model."""
    return bool(TOO_LONG.search(words))


def masked(text: str, limit: int = SHOWN_CHARS) -> str:
    """`text` that can be stored and shown: without keys, one line, at most `limit` characters."""
    return storable(SECRET.sub("***", " ".join(text[: 4 * limit].split())))[:limit]


def storable(text: str) -> str:
    """Half a surrogate pair is legal in JSON and cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else 0
