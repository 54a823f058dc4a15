"""A reasoning model's reply -> its answer, with the thinking apart. Knows the marks of the model families, no scores.

The thinking is the beginning of a reply. Where the prompt opens it, only its end is marked, and so it may be in the
reply of an endpoint. Marks elsewhere in a reply are text: an answer may be about them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from cluster.exchange import Reply
from cluster.model_specs import VllmSpec

# <think>, <seed:think>, [THINK], Cohere's, Kimi's, and harmony's with and without its special tokens.
OPENING = re.compile(
    r"<(?:\w{1,20}:)?think>|\[THINK\]|<\|START_THINKING\|>|\u25c1think\u25b7|<\|channel\|>analysis<\|message\|>"
    r"|\Aanalysis(?=[A-Z])"
)
ENDING = re.compile(
    r"</(?:\w{1,20}:)?think>|\[/THINK\]|<\|END_THINKING\|>|\u25c1/think\u25b7|<\|channel\|>final<\|message\|>"
    r"|assistantfinal"
)
# The end of a thought without a beginning: alone at the end of its line, which it is not where it is written about.
ENDING_ALONE = re.compile(rf"(?:{ENDING.pattern})[ \t]*(?:\n|\Z)")
CUT_OFF = "the reply ended within the model's thinking"
# vLLM's parser for <think> and </think>: structured output begins, and the budget ends, by these marks.
PARSER = "deepseek_r1"


def apart(reply: Reply, opened: str = "") -> Reply:
    """The reply with its thinking in `reasoning`. One that ends within its thinking has no text and was truncated.

    Args:
        reply: whose `text` is all that the model generated.
        opened: the mark of a thought that the prompt opened.
    """
    text = f"{opened}{reply.text}".lstrip()
    begun = OPENING.match(text)
    ended = ENDING.search(text, begun.end()) if begun else ENDING_ALONE.search(text)
    if begun and not ended:
        ending = reply.finish_reason if reply.finish_reason == "filtered" else "length"
        detail = reply.detail or CUT_OFF
        return replace(reply, text="", reasoning=text[begun.end() :].strip(), finish_reason=ending, detail=detail)
    if not ended or (not begun and OPENING.search(text, 0, ended.start())):
        return reply
    thinking = text[begun.end() if begun else 0 : ended.start()].strip()
    return replace(reply, text=text[ended.end() :].lstrip(), reasoning=thinking)


def engine_arguments(spec: VllmSpec) -> dict[str, Any]:
    """vLLM's engine arguments for a model that thinks before it answers; empty for any other."""
    return {"reasoning_parser": PARSER} if spec.thinks else {}


def sampling_parameters(spec: VllmSpec, max_tokens: int) -> dict[str, Any]:
    """vLLM's sampling parameters of a request to a model that thinks before it answers; empty for any other.

    Args:
        spec: the model.
        max_tokens: maximum length of the answer.
    """
    if not spec.thinks:
        return {}
    # Some families' marks are special tokens, which vLLM otherwise leaves out of the text.
    return {
        "max_tokens": spec.reply_tokens(max_tokens),
        "thinking_token_budget": spec.thinking_token_budget,
        "skip_special_tokens": False,
    }
