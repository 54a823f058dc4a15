"""OpenAI's graders run by the evaluators: string_check, label_model, score_model, multi; never python.

A grader's texts may hold `{{sample.output_text}}` and `{{item.key}}`. They are filled in one pass, so a value is never
read as a template. Shapes: OpenAI's API reference, "Graders".
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from cluster.exchange import Reply, Request
from judging import strictjson
from judging.errors import InputError
from judging.parse import UNFINISHED, behind_thinking
from judging.template import neutralise
from serve.api.errors import BadRequest
from serve.api.grader_formula import calculate
from serve.api.schemas import Body

# Anything between double braces: a slot that cannot be filled is an error, never left as it is.
SLOT = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
INDEX = re.compile(r"(.*)\[(\d{1,6})\]", re.DOTALL)
KEY = re.compile(r"\s*[^\s\[\]{}|'\"][^\[\]{}|'\"]*(?:\[\d{1,6}\])*\s*")
MAX_SLOT_CHARS = 200
LongText = Annotated[str, StringConstraints(max_length=200_000)]
GraderName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# OpenAI's errors of a run that a request here can never have: it is refused, or no code runs.
NEVER = (
    "sample_parse_error",
    "formula_parse_error",
    "invalid_variable_error",
    "model_grader_refusal_error",
    "python_grader_runtime_error",
    "python_grader_server_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
)
Asker = Callable[[str, Request], Awaitable[Reply]]  # the model's name, the request


def _with_slots_that_can_be_filled(text: str) -> str:
    for slot in SLOT.finditer(text):
        if problem := _slot_problem(slot.group(1)):
            raise InputError(problem, code="invalid_template")
    return text


def _slot_problem(inside: str) -> str | None:
    """Why a slot cannot be filled by any sample and item; or None."""
    source, dot, path = inside.strip().partition(".")
    if source == "sample" and path != "output_text":
        return "Unknown slot: the only part of the sample is {{sample.output_text}}."
    if source not in ("sample", "item") or not dot or not path or len(inside) > MAX_SLOT_CHARS:
        return "Unknown slot: a slot must be {{sample.output_text}} or {{item.KEY}}."
    if source == "item" and not all(KEY.fullmatch(key) for key in path.split(".")):
        return "Invalid slot: the supported forms are {{item.KEY}}, {{item.KEY.KEY}} and {{item.KEY[0]}}."
    return None


Template = Annotated[LongText, AfterValidator(_with_slots_that_can_be_filled)]


def _text(content: Any) -> Any:
    """The text of OpenAI's content parts: one, or a list of them and of strings; anything else stays as it is."""
    if isinstance(content, list):
        parts = [_text(part) for part in content]
        return "".join(parts) if parts and all(isinstance(part, str) for part in parts) else content
    is_text = isinstance(content, dict) and set(content) == {"type", "text"}
    return content["text"] if is_text and content["type"] in ("input_text", "output_text") else content


class Message(Body):
    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Template, BeforeValidator(_text)]


class Sampling(Body):
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    max_completions_tokens: int | None = Field(None, ge=1, le=4096)


class StringCheck(Body):
    """1 where the comparison of the two texts holds, else 0."""

    type: Literal["string_check"]
    name: GraderName = "string_check"
    operation: Literal["eq", "ne", "like", "ilike"]
    input: Template
    reference: Template


class LabelModel(Body):
    """1 where the model returns a passing label, else 0."""

    type: Literal["label_model"]
    name: GraderName = "label_model"
    model: GraderName
    input: list[Message] = Field(min_length=1, max_length=32)
    labels: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(min_length=2, max_length=32)
    passing_labels: list[str] = Field(min_length=1, max_length=32)

    @model_validator(mode="after")
    def _labels_fit(self) -> LabelModel:
        if not set(self.passing_labels) <= set(self.labels):
            message = "Every passing label must be one of `labels`."
            raise InputError(message, code="invalid_value", key="passing_labels")
        return self


class ScoreModel(Body):
    """The model's score, a number within `range`."""

    type: Literal["score_model"]
    name: GraderName = "score_model"
    model: GraderName
    input: list[Message] = Field(min_length=1, max_length=32)
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: Sampling = Sampling()

    @model_validator(mode="after")
    def _range_fits(self) -> ScoreModel:
        if not self.range[0] < self.range[1] or not all(map(math.isfinite, self.range)):
            raise InputError("`range` must be [lower, higher], both finite.", code="invalid_value", key="range")
        return self


Single = Annotated[StringCheck | LabelModel | ScoreModel, Field(discriminator="type")]


class Multi(Body):
    """Several graders, and a formula over their scores, by name."""

    type: Literal["multi"]
    name: GraderName = "multi"
    graders: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,60}$")], Single] = Field(
        min_length=1, max_length=16
    )
    calculate_output: Annotated[str, StringConstraints(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _formula_fits(self) -> Multi:
        calculate(self.calculate_output, dict.fromkeys(self.graders, 1.0), check_only=True)
        return self


Grader = Annotated[StringCheck | LabelModel | ScoreModel | Multi, Field(discriminator="type")]


class ValidateBody(Body):
    """`POST /v1/graders/validate`."""

    grader: Grader


class RunBody(Body):
    """`POST /v1/graders/run`: `model_sample` is the text to grade, `item` holds the values of the grader's slots."""

    grader: Grader
    model_sample: LongText
    item: dict[str, Any] = Field(default_factory=dict)


async def run(body: RunBody, ask: Asker) -> dict[str, Any]:
    """The response of `/v1/graders/run`. Without a score `reward` is null, and the metadata hold the error."""
    usage: dict[str, dict[str, int]] = {}
    began = time.monotonic()
    grader = body.grader
    if isinstance(grader, Multi):
        found = {name: await _single(one, body, ask, usage) for name, one in grader.graders.items()}
        errors = {name: error for name, (_, error) in found.items() if error}
        scores = {name: score for name, (score, _) in found.items() if score is not None}
        reward = calculate(grader.calculate_output, scores) if not errors else None
        rewards = {name: score for name, (score, _) in found.items()}
    else:
        reward, error = await _single(grader, body, ask, usage)
        errors, rewards = ({grader.name: error} if error else {}), {}
    return {
        "reward": reward,
        "sub_rewards": rewards,
        "model_grader_token_usage_per_model": usage,
        "metadata": {
            "name": grader.name,
            "type": grader.type,
            "errors": {
                **dict.fromkeys(NEVER, False),
                "other_error": bool(errors),
                "model_grader_parse_error": "unparsed" in errors.values(),
                "model_grader_server_error": "error" in errors.values(),
            },
            "unscored": errors,
            "scores": rewards if isinstance(grader, Multi) else {grader.name: reward},
            "execution_time": time.monotonic() - began,
            "token_usage": sum(used["total_tokens"] for used in usage.values()),
            "sampled_model_name": None,
        },
    }


async def _single(
    grader: StringCheck | LabelModel | ScoreModel, body: RunBody, ask: Asker, usage: dict[str, dict[str, int]]
) -> tuple[float | None, str | None]:
    """The score, or None and the reason."""
    if isinstance(grader, StringCheck):
        return _compare(grader.operation, fill(grader.input, body), fill(grader.reference, body)), None
    texts = [f"{one.role}: {fill(one.content, body, neutralise)}" for one in grader.input]
    is_label = isinstance(grader, LabelModel)
    wanted: dict[str, Any] = (
        {"type": "string", "enum": list(grader.labels)}
        if isinstance(grader, LabelModel)
        else {"type": "number", "minimum": grader.range[0], "maximum": grader.range[1]}
    )
    key = "label" if is_label else "score"
    schema = {
        "type": "object",
        "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 300}, key: wanted},
        "required": ["reason", key],
        "additionalProperties": False,
    }
    how = f'Reply with one JSON object and nothing else: {{"reason": "<one sentence>", "{key}": <the {key}>}}'
    sampling = grader.sampling_params if isinstance(grader, ScoreModel) else Sampling()
    request = Request(
        "\n\n".join([*texts, how]),
        json_schema=json.dumps(schema),
        max_tokens=sampling.max_completions_tokens or 256,
        temperature=sampling.temperature or 0.0,
        top_p=sampling.top_p or 1.0,
        seed=sampling.seed,
    )
    reply = await ask(grader.model, request)
    seen = usage.setdefault(grader.model, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    for name, number in (("prompt", reply.num_prompt_tokens), ("completion", reply.num_generated_tokens)):
        seen[f"{name}_tokens"] += number
        seen["total_tokens"] += number
    if reply.error or reply.finish_reason in UNFINISHED:
        return None, reply.error or UNFINISHED[reply.finish_reason]
    return _score(grader, reply.text, key)


def _score(grader: LabelModel | ScoreModel, text: str, key: str) -> tuple[float | None, str | None]:
    try:
        value = strictjson.loads(behind_thinking(text) or "")[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "unparsed"
    if isinstance(grader, LabelModel):
        return (float(value in grader.passing_labels), None) if value in grader.labels else (None, "unparsed")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, "unparsed"
    low, high = grader.range
    return (float(value), None) if low <= value <= high else (None, "off_scale")


def _compare(operation: str, text: str, reference: str) -> float:
    found = {
        "eq": lambda: text == reference,
        "ne": lambda: text != reference,
        "like": lambda: reference in text,
        "ilike": lambda: reference.casefold() in text.casefold(),
    }[operation]()
    return float(found)


def fill(text: str, body: RunBody, safe: Callable[[str], str] = str) -> str:
    """Fill the slots of a text with the sample and the item's values, in one pass.

    Args:
        text: a grader's text.
        body: the request with sample and item.
        safe: applied to each value first; for a model's prompt it neutralises chat tokens.

    Raises:
        BadRequest: the item lacks a key.
    """

    def value(slot: re.Match[str]) -> str:
        if problem := _slot_problem(slot.group(1)):
            raise BadRequest(problem, code="invalid_template", key="grader")
        source, _, path = slot.group(1).strip().partition(".")
        if source == "sample":
            return safe(body.model_sample)
        found: Any = body.item.get(path)  # a key may hold a dot
        for key in path.split(".") if path not in body.item else ():
            found = _part(body.item if found is None else found, key.strip())
        return safe(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False))

    return SLOT.sub(value, text)


def _part(found: Any, key: str) -> Any:
    """The part of an item's value under `key`: a key, or one followed by list indices, as in `refs[0]`."""
    if isinstance(found, Mapping) and key in found:
        return found[key]
    if place := INDEX.fullmatch(key):
        several = _part(found, place.group(1))
        if isinstance(several, list) and int(place.group(2)) < len(several):
            return several[int(place.group(2))]
    raise BadRequest("A slot of the grader names a key that is missing in `item`.", code="missing_key", key="item")
