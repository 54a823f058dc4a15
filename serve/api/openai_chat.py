"""OpenAI's chat endpoint: every evaluator is a model, and the panel is a further one, `inverdict-panel`.

The panel judges a conversation: its last assistant message answers the user message before it. The reply's content is
the judgement as JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from judging.datasets import is_blank
from judging.errors import InputError
from serve.api.errors import BadRequest
from serve.api.schemas import MAX_RUBRIC_CHARS, JudgeBody, Options

PANEL_MODEL = "inverdict-panel"


class ChatMessage(BaseModel):
    """Unknown keys are ignored: clients send back the messages they received, `refusal` and the like included."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]

    @model_validator(mode="after")
    def _is_text(self) -> ChatMessage:
        if isinstance(self.content, list) and any(
            set(part) != {"type", "text"} or part["type"] != "text" or not isinstance(part["text"], str)
            for part in self.content
        ):
            raise InputError("`content` must be text.", code="unsupported", key="content")
        return self

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part["text"] for part in self.content)


class ChatBody(BaseModel):
    """`POST /v1/chat/completions`: the keys that are forwarded to the model; any other is an error.

    A chat template, a LoRA path or other keys of the engine would give a client access to more than the model.
    """

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: list[ChatMessage] = Field(min_length=1, max_length=256)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=32_768)
    max_completion_tokens: int | None = Field(None, ge=1, le=32_768)
    n: Literal[1] | None = None
    stop: str | list[str] | None = Field(None, max_length=1000)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: dict[str, bool] | None = None
    user: Annotated[str, StringConstraints(max_length=200)] | None = None

    def passed_on(self) -> dict[str, Any]:
        """The body for an evaluator: the keys that the client set, messages as plain text, without `user`."""
        kept = self.model_dump(exclude_none=True, exclude={"user", "messages"})
        return {**kept, "messages": [{"role": one.role, "content": one.text} for one in self.messages]}


def judged_conversation(body: ChatBody) -> JudgeBody:
    """The conversation's last assistant message as a text to judge. Raises BadRequest where there is none.

    The system messages are the rubric; without them the answer is judged by the task `qa`.
    """
    last = body.messages[-1]
    before = [one for one in body.messages[:-1] if one.role == "user"]
    if last.role != "assistant" or not before:
        message = f"{PANEL_MODEL} judges the last message: it must be the assistant's, after a user's message."
        raise BadRequest(message, code="invalid_value", key="messages")
    rubric = "\n".join(one.text for one in body.messages if one.role in ("system", "developer"))
    rubric = "" if is_blank(rubric) else rubric
    if len(rubric) > MAX_RUBRIC_CHARS:
        message = f"The rubric (the system messages) has more than {MAX_RUBRIC_CHARS:,} characters."
        raise BadRequest(message, code="too_long", key="messages")
    earlier = "\n\n".join(f"{one.role}: {one.text}" for one in body.messages[:-1] if one.role in ("user", "assistant"))
    source = before[-1].text if len(before) == 1 else earlier
    fields = {"source": source, "candidate": last.text}
    options = Options(seed=body.seed)
    return (
        JudgeBody(fields=fields, rubric=rubric, options=options)
        if rubric
        else JudgeBody(task="qa", fields=fields, options=options)
    )
