"""The panel as judge: peers that let a user write the conversation get its score; a peer's own prompt is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.peers import judges
from tests.peers.conftest import note
from tests.peers.judges import Endpoint, Graded, Row, each

REFUSAL = "judges the last message"
Message = dict[str, str]


def conversation(row: Row) -> list[Message]:
    """What `inverdict-panel` judges: a question and its answer; a system message would be the rubric."""
    return [{"role": "user", "content": row["source"]}, {"role": "assistant", "content": row["candidate"]}]


def is_a_panel_s(found: list[Graded], rows: list[dict[str, Any]]) -> bool:
    """A score on the task's scale for each row, and not the same for all."""
    scores = [one.score for one in found if one.score is not None]
    return len(scores) == len(rows) and all(1 <= score <= 5 for score in scores) and len(set(scores)) > 1


def test_the_openai_client(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=panel.url, api_key="none", max_retries=0)

    def score(row: Row) -> float:
        answer = client.chat.completions.create(model=panel.model, messages=conversation(row))
        told = json.loads(answer.choices[0].message.content)
        assert [vote["judge"] for vote in told["results"][0]["votes"]] == ["rubric", "shown"]
        assert answer.usage.prompt_tokens == told["usage"]["prompt_tokens"] > 0
        return float(told["score"])

    found = each(rows, score)
    note("openai", "panel, chat completion", found)
    assert is_a_panel_s(found, rows), found


def test_openevals_with_a_prompt_that_is_a_conversation(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    from openai import OpenAI
    from openevals.llm import create_llm_as_judge

    def prompt(*, inputs: str, outputs: str, **_: Any) -> list[Message]:
        return conversation({"source": inputs, "candidate": outputs})

    client = OpenAI(base_url=panel.url, api_key="none", max_retries=0)
    judge = create_llm_as_judge(prompt=prompt, judge=client, model=panel.model, use_reasoning=False)
    found = each(rows, lambda row: judge(inputs=row["source"], outputs=row["candidate"])["score"])
    note("openevals", "panel, create_llm_as_judge with a callable", found)
    assert is_a_panel_s(found, rows), found


def test_inspect_with_a_scorer_of_the_user_s(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser
    from inspect_ai.scorer import Score, mean, scorer

    model = judges.inspect_model(panel)

    @scorer(metrics=[mean()])
    def by_the_panel() -> Any:
        async def score(state: Any, target: Any) -> Score:
            asked = [
                ChatMessageUser(content=state.input_text),
                ChatMessageAssistant(content=state.output.completion),
            ]
            told = json.loads((await model.generate(asked)).completion)
            return Score(value=told["score"])

        return score

    found = [Graded(float(one.value)) for one in judges.inspected(rows, by_the_panel())]
    note("inspect-ai", "panel, a scorer with get_model", found)
    assert is_a_panel_s(found, rows), found


def test_deepeval_with_a_metric_of_the_user_s(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    from deepeval.metrics import BaseMetric
    from openai import OpenAI

    client = OpenAI(base_url=panel.url, api_key="none", max_retries=0)

    class ByThePanel(BaseMetric):  # type: ignore[misc]
        threshold = 3

        def measure(self, test_case: Any, *_: Any, **__: Any) -> float:
            messages = conversation({"source": test_case.input, "candidate": test_case.actual_output})
            answer = client.chat.completions.create(model=panel.model, messages=messages)
            self.score = float(json.loads(answer.choices[0].message.content)["score"])
            self.success = self.score >= self.threshold
            return self.score

        async def a_measure(self, test_case: Any, *_: Any, **__: Any) -> float:
            return self.measure(test_case)

        def is_successful(self) -> bool:
            return bool(self.success)

    found = judges.deepevaluated(ByThePanel(), panel, rows)
    note("deepeval", "panel, a metric that is a BaseMetric", found)
    assert is_a_panel_s(found, rows), found


def test_mlflow_with_a_scorer_of_the_user_s(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    from mlflow.genai.scorers import scorer
    from openai import OpenAI

    client = OpenAI(base_url=panel.url, api_key="none", max_retries=0)

    @scorer
    def by_the_panel(inputs: dict[str, str], outputs: str) -> float:
        messages = conversation({"source": inputs["question"], "candidate": outputs})
        answer = client.chat.completions.create(model=panel.model, messages=messages)
        return float(json.loads(answer.choices[0].message.content)["score"])

    found = each(rows, lambda row: by_the_panel(inputs={"question": row["source"]}, outputs=row["candidate"]))
    note("mlflow", "panel, @scorer", found)
    assert is_a_panel_s(found, rows), found


@pytest.mark.parametrize(
    ("package", "driver"), [("deepeval", "deepeval_local"), ("openevals", "openevals"), ("mlflow", "mlflow")]
)
def test_a_peer_s_own_prompt_is_no_conversation(
    panel: Endpoint, rows: list[dict[str, Any]], package: str, driver: str
) -> None:
    found = getattr(judges, driver)(panel, rows[:1])
    note(package, "panel, the peer's own prompt", found)
    assert found[0].score is None
    assert REFUSAL in found[0].unscored


def test_inspect_s_own_prompt_is_no_conversation(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(AssertionError, match=REFUSAL):
        judges.inspect_ai(panel, rows[:1])


def test_prometheus_own_prompt_is_no_conversation(panel: Endpoint, rows: list[dict[str, Any]]) -> None:
    import litellm

    with pytest.raises(litellm.BadRequestError, match=REFUSAL):
        judges.prometheus_eval(panel, rows[:1])
