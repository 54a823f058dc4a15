"""OpenAI's endpoints in this process."""

import json
from typing import Any

import pytest

from tests.serve.api.conftest import Counted
from tests.serve.online import FIELDS, Local, client, post

CHAT = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]}


async def test_judgements_of_the_chat_endpoint_are_counted(service: Local, counted: Counted) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    async with client(service) as http:
        await http.post("/v1/chat/completions", json={"model": "inverdict-panel", "messages": messages})
    assert counted["inverdict_votes_total", "first"] == 1


async def test_a_rubric_over_the_limit_is_refused_and_never_cut(service: Local) -> None:
    messages = [("system", "x" * 20_001), ("user", "q"), ("assistant", "a")]
    body = {"model": "inverdict-panel", "messages": [{"role": role, "content": text} for role, text in messages]}
    answer = await post(service, "/v1/chat/completions", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("too_long", "messages") and "20,000" in error["message"]


async def test_the_openai_client_chats_with_an_evaluator_and_streams(service: Local) -> None:
    import openai

    async with client(service) as http:
        speaks = openai.AsyncOpenAI(
            base_url="http://127.0.0.1:8000/v1", api_key="none", http_client=http, max_retries=0
        )
        answer = await speaks.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        assert answer.choices[0].message.content.startswith("Scripted reply")
        assert answer.usage.total_tokens > 0
        parts = [part async for part in await speaks.chat.completions.create(**CHAT, stream=True)]  # type: ignore[call-overload]
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == answer.choices[0].message.content
        assert [model.id async for model in speaks.models.list()] == ["a", "b", "inverdict-panel"]
        with pytest.raises(openai.NotFoundError):
            await speaks.chat.completions.create(**{**CHAT, "model": "secret"})  # type: ignore[call-overload]


async def test_the_panel_is_a_model_that_judges_the_last_answer(service: Local) -> None:
    messages = [{"role": "user", "content": FIELDS["source"]}, {"role": "assistant", "content": FIELDS["candidate"]}]
    answer = await post(service, "/v1/chat/completions", {"model": "inverdict-panel", "messages": messages})
    told = json.loads(answer.json()["choices"][0]["message"]["content"])
    assert (told["score"], told["task"]) == (3, "qa")
    by_rubric = [{"role": "system", "content": "Is it short?"}, *messages]
    answer = await post(service, "/v1/chat/completions", {"model": "inverdict-panel", "messages": by_rubric})
    assert json.loads(answer.json()["choices"][0]["message"]["content"])["task"] is None
    answer = await post(service, "/v1/chat/completions", {"model": "inverdict-panel", "messages": messages[:1]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize(
    "more",
    [{"chat_template": "{{ evil }}"}, {"lora_path": "/x"}, {"n": 2}, {"max_tokens": 0}, {"temperature": 9},
     {"tools": []}, {"messages": []}, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///x"}]}]}],
)  # fmt: skip
async def test_a_chat_reaches_nothing_but_the_model(service: Local, more: dict[str, Any]) -> None:
    answer = await post(service, "/v1/chat/completions", {**CHAT, **more})
    assert answer.status_code == 400
    assert "evil" not in answer.text
