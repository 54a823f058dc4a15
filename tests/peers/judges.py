"""Each peer's own judge as a function: rows in, one `Graded` a row out, through our chat endpoint.

The settings are those of the peer's documentation for a server of one's own. No peer is patched.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

CRITERION = "The answer is correct, complete, and fits what it replies to."
LEVELS = ("wrong", "mostly wrong", "partly right", "mostly right", "right")
MAX_TOKENS = 256
Row = Mapping[str, Any]  # source, candidate


class Endpoint(NamedTuple):
    url: str  # such as http://127.0.0.1:8000/v1
    model: str
    num_parallel: int = 4
    criterion: str = CRITERION  # what a good text is


class Graded(NamedTuple):
    """A score on the peer's own scale, or None and the peer's own words."""

    score: float | None
    unscored: str = ""


# ---------------------------------------------------------------------------- DeepEval


def deepeval_local(endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """G-Eval with `LocalModel`: 0 to 1, the number in a JSON reply that nothing constrains."""
    from deepeval.models import LocalModel

    keys = {"max_tokens": MAX_TOKENS}
    return _g_eval(LocalModel(endpoint.model, "none", endpoint.url, generation_kwargs=keys), endpoint, rows)


def deepeval_openai(endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """G-Eval with `OpenAIModel`: 0 to 1, the number in a JSON reply that a schema of the user's constrains."""
    from deepeval.models import OpenAIModel

    schema = {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": 300},
            "score": {"type": "integer", "enum": list(range(11))},
        },
        "required": ["reason", "score"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "score", "schema": schema}}
    keys = {"max_tokens": MAX_TOKENS, "response_format": form}
    return _g_eval(OpenAIModel(endpoint.model, "none", endpoint.url, generation_kwargs=keys), endpoint, rows)


def _g_eval(model: Any, endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    from deepeval.metrics import GEval
    from deepeval.test_case import SingleTurnParams

    metric = GEval(
        name="quality",
        evaluation_params=[SingleTurnParams.INPUT, SingleTurnParams.ACTUAL_OUTPUT],
        evaluation_steps=[endpoint.criterion],  # given, so that no request is spent on writing them
        model=model,
    )
    return deepevaluated(metric, endpoint, rows)


def deepevaluated(metric: Any, endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """The scores that a DeepEval metric gives."""
    from deepeval import evaluate
    from deepeval.evaluate.configs import AsyncConfig, CacheConfig, DisplayConfig, ErrorConfig
    from deepeval.test_case import LLMTestCase

    cases = [
        LLMTestCase(name=str(place), input=row["source"], actual_output=row["candidate"])
        for place, row in enumerate(rows)
    ]
    found = evaluate(
        cases,
        [metric],
        async_config=AsyncConfig(max_concurrent=endpoint.num_parallel),
        display_config=DisplayConfig(show_indicator=False, print_results=False, inspect_after_run=False),
        cache_config=CacheConfig(write_cache=False),
        error_config=ErrorConfig(ignore_errors=True),
    )
    told = {one.name: one.metrics_data[0] for one in found.test_results if one.metrics_data}
    return [Graded(told[name].score, told[name].error or "") for name in (case.name for case in cases)]


# ---------------------------------------------------------------------------- Inspect AI


def inspect_ai(endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """`model_graded_qa` with partial credit: 0 incorrect, .5 partly correct, 1 correct."""
    from inspect_ai.scorer import model_graded_qa

    values = {"C": 1.0, "P": 0.5, "I": 0.0}
    scorer = model_graded_qa(partial_credit=True, model=inspect_model(endpoint))
    scores = inspected(rows, scorer, endpoint.criterion)
    return [Graded(values.get(str(one.value)), "" if one.value in values else str(one.reason)) for one in scores]


def inspect_model(endpoint: Endpoint) -> Any:
    """The endpoint as a model of Inspect."""
    from inspect_ai.model import GenerateConfig, get_model

    config = GenerateConfig(max_tokens=MAX_TOKENS, temperature=0.0, max_connections=endpoint.num_parallel)
    name = f"openai-api/inverdict/{endpoint.model}"
    return get_model(name, base_url=endpoint.url, api_key="none", config=config)


def inspected(rows: Sequence[Row], scorer: Any, target: str = CRITERION) -> list[Any]:
    """The scores that an Inspect scorer gives; the model under test repeats the candidates."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import solver

    @solver
    def candidate() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            state.output = ModelOutput.from_content("candidate", state.metadata["candidate"])
            return state

        return solve

    samples = [Sample(input=row["source"], target=target, metadata={"candidate": row["candidate"]}) for row in rows]
    task = Task(dataset=samples, solver=candidate(), scorer=scorer)
    with tempfile.TemporaryDirectory() as folder:
        (log,) = eval(task, model="mockllm/model", log_dir=folder, display="none")
        assert log.status == "success", log.error
        return [next(iter(sample.scores.values())) for sample in log.samples]


# ---------------------------------------------------------------------------- prometheus-eval


def prometheus_eval(endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """Absolute grading without a reference, 1 to 5; a reply without a score is asked for ten times more."""
    from prometheus_eval import ABSOLUTE_PROMPT_WO_REF, PrometheusEval
    from prometheus_eval.litellm import LiteLLM
    from prometheus_eval.prompts import SCORE_RUBRIC_TEMPLATE

    levels = {f"score{number}_description": f"It is {level}." for number, level in enumerate(LEVELS, 1)}
    judge = PrometheusEval(
        model=LiteLLM(f"openai/{endpoint.model}", api_base=endpoint.url), absolute_grade_template=ABSOLUTE_PROMPT_WO_REF
    )
    replies, scores = judge.absolute_grade(
        instructions=[row["source"] for row in rows],
        responses=[row["candidate"] for row in rows],
        rubric=SCORE_RUBRIC_TEMPLATE.format(criteria=endpoint.criterion, **levels),
        reference_answers=[None] * len(rows),
        params={"max_tokens": MAX_TOKENS // 2, "temperature": 1.0, "top_p": 0.9},
    )
    return [Graded(score, "" if score else reply) for reply, score in zip(replies, scores, strict=True)]


# ---------------------------------------------------------------------------- OpenEvals


def openevals(endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """An LLM as judge with the choices 1 to 5 and its reasoning, structured output."""
    from langchain_openai import ChatOpenAI
    from openevals.llm import create_llm_as_judge

    keys = {"temperature": 0, "max_tokens": MAX_TOKENS}
    judge = create_llm_as_judge(
        prompt=f"{endpoint.criterion} Reason in one short sentence.\n"
        "<question>{inputs}</question>\n<answer>{outputs}</answer>",
        judge=ChatOpenAI(model=endpoint.model, base_url=endpoint.url, api_key="none", **keys),
        choices=[1.0, 2.0, 3.0, 4.0, 5.0],
    )
    return each(rows, lambda row: judge(inputs=row["source"], outputs=row["candidate"])["score"], endpoint.num_parallel)


# ---------------------------------------------------------------------------- MLflow


def mlflow(endpoint: Endpoint, rows: Sequence[Row]) -> list[Graded]:
    """A judge of `make_judge`, 1 to 5, structured output, the score before its rationale."""
    from mlflow.genai.judges import make_judge

    judge = make_judge(
        name="quality",
        instructions=f"{endpoint.criterion} "
        "Rate from 1 to 5 the answer {{ outputs }} to the question {{ inputs }}. "
        "Give the rationale in one short sentence.",
        model=f"openai:/{endpoint.model}",
        base_url=f"{endpoint.url}/chat/completions",
        feedback_value_type=Literal[1, 2, 3, 4, 5],
        inference_params={"temperature": 0, "max_tokens": MAX_TOKENS},
    )

    def graded(row: Row) -> Any:
        return judge(inputs={"question": row["source"]}, outputs={"answer": row["candidate"]}).value

    return each(rows, graded, endpoint.num_parallel)


def each(rows: Sequence[Row], score: Callable[[Row], Any], num_parallel: int = 1) -> list[Graded]:
    """The score of each row, or the exception that took its place."""

    def graded(row: Row) -> Graded:
        try:
            value = float(score(row))
        except Exception as error:  # a peer's own, of many kinds
            told = " ".join(str(error).split())[:80]
            return Graded(None, f"{type(error).__name__}: {told}")
        return Graded(value) if math.isfinite(value) else Graded(None, str(value))

    with ThreadPoolExecutor(num_parallel) as pool:
        return list(pool.map(graded, rows))
