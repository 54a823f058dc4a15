"""The `openai` client: models, a chat judge with a JSON schema and log-probabilities, streaming, graders."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import pytest

from tests.peers.conftest import MODEL, PANEL, note
from tests.peers.judges import CRITERION, Endpoint, Graded, Row, each


@pytest.fixture
def client(url: str) -> Any:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key="none", max_retries=0)


class Verdict(pydantic.BaseModel):
    score: Literal[1, 2, 3, 4, 5]


def asked(row: Row) -> list[dict[str, str]]:
    question = f"{CRITERION} Rate from 1 to 5.\nQuestion: {row['source']}\nAnswer: {row['candidate']}"
    return [{"role": "system", "content": "You are a judge."}, {"role": "user", "content": question}]


def test_the_models_are_listed(client: Any) -> None:
    assert [one.id for one in client.models.list()] == [MODEL, PANEL]
    assert client.models.retrieve(PANEL).id == PANEL


def test_a_chat_judge_with_parsed_replies(client: Any, judge: Endpoint, rows: list[dict[str, Any]]) -> None:
    def score(row: Row) -> float:
        answer = client.chat.completions.parse(
            model=judge.model, messages=asked(row), response_format=Verdict, temperature=0, max_tokens=32
        )
        return float(answer.choices[0].message.parsed.score)

    found = each(rows, score)
    note("openai", "chat.completions.parse", found)
    assert all(one.score in (1, 2, 3, 4, 5) for one in found), found


def test_log_probabilities_and_streams(client: Any, judge: Endpoint, rows: list[dict[str, Any]]) -> None:
    keys = {"model": judge.model, "messages": asked(rows[0]), "temperature": 0, "max_tokens": 8}
    answer = client.chat.completions.create(**keys, logprobs=True, top_logprobs=20)
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 20
    parts = client.chat.completions.create(**keys, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == answer.choices[0].message.content


def test_graders(client: Any, judge: Endpoint, rows: list[dict[str, Any]]) -> None:
    messages = [{"role": "user", "content": f"{CRITERION} {{{{item.source}}}} {{{{sample.output_text}}}}"}]
    score = {"type": "score_model", "name": "s", "model": judge.model, "input": messages, "range": [1, 5]}
    check = {
        "type": "string_check", "name": "c", "operation": "like",
        "input": "{{sample.output_text}}", "reference": "{{item.word}}",
    }  # fmt: skip
    graders = client.fine_tuning.alpha.graders
    assert graders.validate(grader=score).grader.range == [1, 5]
    assert graders.run(grader=check, model_sample="a word", item={"word": "word"}).reward == 1

    def run(row: Row) -> Graded:
        told = graders.run(grader=score, model_sample=row["candidate"], item={"source": row["source"]})
        return Graded(told.reward, "" if told.reward is not None else "model_grader_parse_error")

    found = [run(row) for row in rows]
    note("openai", "fine_tuning.alpha.graders, score_model", found)
    assert all(1 <= one.score <= 5 for one in found if one.score is not None)


@pytest.mark.parametrize(
    "grader",
    [
        {"type": "text_similarity", "name": "t", "evaluation_metric": "bleu", "input": "a", "reference": "b"},
        {"type": "python", "name": "p", "source": "def grade(sample, item): return 1"},
    ],
    ids=lambda grader: grader["type"],
)
def test_graders_that_we_do_not_run(client: Any, grader: dict[str, str]) -> None:
    from openai import BadRequestError

    with pytest.raises(BadRequestError):
        client.fine_tuning.alpha.graders.run(grader=grader, model_sample="a")


@pytest.mark.parametrize("route", ["responses", "evals", "moderations", "embeddings"])
def test_routes_that_we_do_not_have(client: Any, route: str) -> None:
    from openai import NotFoundError

    with pytest.raises(NotFoundError):
        client.post(f"/{route}", body={"model": MODEL, "input": "a"}, cast_to=object)


def test_keys_that_we_refuse(client: Any, judge: Endpoint, rows: list[dict[str, Any]]) -> None:
    from openai import BadRequestError

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    for more, code in (
        ({"n": 2}, "invalid_value"),
        ({"tools": [tool]}, "unknown_key"),
        ({"store": True}, "unknown_key"),
        ({"metadata": {}}, "unknown_key"),
    ):
        with pytest.raises(BadRequestError) as found:
            client.chat.completions.create(model=judge.model, messages=asked(rows[0]), **more)
        assert found.value.code == code
