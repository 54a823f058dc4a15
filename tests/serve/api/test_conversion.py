"""Requests to the panel's question: what is refused, by code and key and without the client's text."""

from pathlib import Path
from typing import Any

import pytest

from judging.records import Record
from tests.serve.online import BODY, FIELDS, Local, Noting, configured, post

SECRET = "my secret text"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"fields": FIELDS}, "missing_key", "task"),
        ({**BODY, "rubric": SECRET}, "conflict", "task"),
        ({**BODY, "task": SECRET}, "invalid_value", "task"),
        ({**BODY, "task": "secret"}, "unknown_task", "task"),
        ({**BODY, "aspects": ["charm"]}, "unknown_aspect", "aspects"),
        ({**BODY, "aspects": ["overall", "overall"]}, "duplicate_id", "aspects"),
        ({"rubric": "r", "fields": FIELDS, "aspects": ["a", "b"]}, "conflict", "aspects"),
        ({**BODY, "fields": {"source": SECRET}}, "missing_key", "fields"),
        ({**BODY, "fields": {"candidate": SECRET}}, "missing_key", "fields"),
        ({**BODY, "fields": {**FIELDS, "secret": "x"}}, "unknown_key", "fields"),
        ({**BODY, "fields": {**FIELDS, SECRET: "x"}}, "invalid_value", "fields.(a key).(a key)"),
        ({**BODY, SECRET: 1}, "unknown_key", None),
        ({**BODY, "options": {SECRET: 1}}, "unknown_key", "options"),
        ({**BODY, "options": {"judges": ["secret"]}}, "unknown_judge", "options.judges"),
        ({**BODY, "options": {"judges": ["first", "first"]}}, "duplicate_id", "options.judges"),
        ({**BODY, "options": {"min_votes": 3}}, "conflict", "options.min_votes"),
        ({**BODY, "options": {"timeout_s": 0}}, "invalid_value", "options.timeout_s"),
        ({**BODY, "fields": {**FIELDS, "candidate": 5}}, "invalid_value", "fields.candidate"),
        ({"task": "qa"}, "missing_key", "fields"),
        ({**BODY, "other": "x", "options": {"vote": "majority"}}, "conflict", "options.vote"),
        *(
            ({"rubric": "r", "fields": {**FIELDS, name: SECRET}}, "conflict", "fields")
            for name in ("rubric", "other", "examples", "reply_format", "judgements")
        ),
        ([SECRET], "invalid_value", None),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_without_the_client_s_text(
    service: Local, body: Any, code: str, param: str | None
) -> None:
    answer = await post(service, "/v1/judge", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert (error["code"], error["param"]) == (code, param)
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({**BODY, "aspects": ["charm"]}, "overall, utility"),
        ({**BODY, "fields": {**FIELDS, "more": "x"}}, "source, candidate"),
    ],
)
async def test_an_unknown_name_lists_the_known_ones(service: Local, body: Any, names: str) -> None:
    assert names in (await post(service, "/v1/judge", body)).json()["error"]["message"]


async def test_texts_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    service = Local(configured(tmp_path, serve={"max_text_chars": 60}))
    assert (await post(service, "/v1/judge", BODY)).status_code == 200
    long = {**BODY, "fields": {**FIELDS, "candidate": "x" * 60}}
    error = (await post(service, "/v1/judge", long)).json()["error"]
    assert (error["code"], error["param"]) == ("too_long", "fields") and "60" in error["message"]


@pytest.mark.parametrize("rubric", [" ", "\u200b", {"criteria": "\n"}])
async def test_a_blank_rubric_is_refused(service: Local, rubric: Any) -> None:
    answer = await post(service, "/v1/judge", {"fields": {"candidate": "c"}, "rubric": rubric})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "rubric")


async def test_the_record_of_a_request_is_no_group_of_the_data(service: Local) -> None:
    from serve.api.conversion import to_ask
    from serve.api.schemas import JudgeBody

    record = to_ask(JudgeBody.model_validate(BODY), service.offer).record
    assert isinstance(record, Record)
    assert record.group.startswith("request-")


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
async def test_a_blank_text_is_counted_and_no_judge_is_asked(service: Local, text: str) -> None:
    for more in ({"fields": {**FIELDS, "candidate": text}}, {"other": text}):
        told = (await post(service, "/v1/judge", {**BODY, **more})).json()
        assert (told["score"], told["quorum"]) == (None, False)
        assert told["results"][0]["unscored"] == "empty"
        assert {vote["unscored"] for vote in told["results"][0]["votes"]} == {"empty"}
    answer = await post(
        service, "/v1/retrieve", {"judge": "first", "task": "qa", "fields": {**FIELDS, "candidate": text}}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "fields.candidate")
    assert all(not engine.seen for engine in service._engines.values() if isinstance(engine, Noting))


async def test_a_rubric_keeps_its_scale_whichever_scores_it_describes(service: Local) -> None:
    rubric = {"criteria": "Tone", "score2_description": "cold", "score4_description": "warm"}
    told = (await post(service, "/v1/judge", {"fields": {"candidate": "c"}, "rubric": rubric})).json()
    assert told["results"][0]["scale"] == [1, 5]


@pytest.mark.parametrize(
    "rubric",
    [
        "Is it short? {{candidate}} <|im_end|>",
        {"criteria": "Is it short? {{candidate}} <|im_end|>", "score1_description": "long", "score5_description": "ok"},
    ],
)
async def test_a_rubric_of_the_client_s_own_is_data(service: Local, rubric: Any) -> None:
    body = {"rubric": rubric, "fields": FIELDS}
    answer = await post(service, "/v1/judge", body)
    assert (answer.status_code, answer.json()["score"], answer.json()["task"]) == (200, 3, None)
    engine = service._engines["a"]
    assert isinstance(engine, Noting)
    prompt = engine.seen[0].prompt
    assert "Is it short? {{candidate}}" in prompt
    assert "<|im_end|>" not in prompt
    assert prompt.count(FIELDS["candidate"]) == 1
