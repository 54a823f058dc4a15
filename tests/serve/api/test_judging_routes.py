"""The panel's own endpoints in this process: judgements, batches, examples, lists."""

import asyncio
import json
import math
from pathlib import Path

import pytest

from judging.request_templates import PAIR_SCALE
from judging.tasks import load_task
from judging.template import rubric_template
from tests.retrieval.making import jsonl, pool_of
from tests.serve.online import BODY, FIELDS, Local, Noting, client, configured, post


async def test_a_judgement_says_all_that_it_stands_on(service: Local) -> None:
    answer = await post(service, "/v1/judge", BODY)
    told = answer.json()
    assert answer.status_code == 200
    assert told["id"].startswith("judgement-")
    assert (told["score"], told["mode"], told["quorum"], told["degraded"]) == (3, "absolute", True, False)
    assert told["verdict"] == load_task("qa").aspects["overall"].labels[3]
    (result,) = told["results"]
    assert (result["aspect"], result["scale"]) == ("overall", [1, 5])
    first, second = result["votes"]
    assert (first["judge"], first["score"], first["label_mass"], first["reason"]) == (
        "first",
        3,
        pytest.approx(1),
        None,
    )
    assert (second["judge"], second["score"], second["label_mass"], second["reason"]) == ("second", 3, None, "fair")
    assert first["usage"] == {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "cached_tokens": 0}
    assert told["usage"] == {"prompt_tokens": 17, "completion_tokens": 4, "total_tokens": 21, "cached_tokens": 0}
    assert result["agreement"] == {"num_votes": 2, "range": 0, "standard_deviation": 0}
    assert set(told["versions"]) == {"code", "packages", "models", "retriever", "templates"}


async def test_thinking_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    rule = {"contains": "", "reply": "<think>\nScore: 1, or\n</think>\nScore: 4"}
    models = {"a": {"backend": "scripted", "rules": [rule]}}
    judges = {"judges": {"j": {"model": "a", "score_mode": "parsed"}}}
    thinking = Local(configured(tmp_path, models=models, evaluate=judges))
    for options, shown in (({}, None), ({"reasoning": False}, None), ({"reasoning": True}, "Score: 1, or")):
        told = (await post(thinking, "/v1/judge", {**BODY, "options": options})).json()
        (vote,) = told["results"][0]["votes"]
        assert (vote["score"], vote["reasoning"]) == (4, shown)


async def test_the_prompt_is_the_batch_path_s_own(service: Local) -> None:
    await post(service, "/v1/judge", BODY)
    engine = service._engines["a"]
    assert isinstance(engine, Noting)
    template = rubric_template(load_task("qa"), "overall")
    assert engine.seen[0].prompt == template.render(FIELDS, mode="expected").text
    assert engine.seen[0].labels == ("1", "2", "3", "4", "5")


async def test_several_aspects_are_several_results(service: Local) -> None:
    told = (await post(service, "/v1/judge", {**BODY, "aspects": ["utility", "overall"]})).json()
    assert [result["aspect"] for result in told["results"]] == ["utility", "overall"]
    assert (told["score"], told["verdict"]) == (None, None)


async def test_two_texts_are_compared_in_both_orders(service: Local) -> None:
    body = {**BODY, "other": "It is blue.", "options": {"judges": ["first"]}}
    told = (await post(service, "/v1/judge", body)).json()
    # The middle of two labels is the second in both orders: position bias, so a tie.
    assert (told["mode"], told["score"], told["verdict"]) == ("pairwise", 0.5, "tie")
    assert told["results"][0]["votes"][0]["is_consistent"] is False
    engine = service._engines["a"]
    assert isinstance(engine, Noting)
    given, turned = (request.prompt for request in engine.seen)
    assert given.index("It is blue.") > given.index("Air scatters")
    assert turned.index("It is blue.") < turned.index("Air scatters")
    assert engine.seen[0].labels == PAIR_SCALE.labels()


async def test_below_the_quorum_for_a_while_is_503_with_reasons(tmp_path: Path) -> None:
    service = Local(configured(tmp_path), {"a": Noting("timeout"), "b": Noting("error")})
    answer = await post(service, "/v1/judge", BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("no_quorum", "unavailable_error")
    assert error["reasons"] == {"first/overall": "timeout", "second/overall": "error"}
    assert "path" not in answer.text


async def test_what_no_judge_can_score_is_null_not_an_error(tmp_path: Path) -> None:
    service = Local(configured(tmp_path), {"a": Noting("too_long"), "b": Noting("too_long")})
    answer = await post(service, "/v1/judge", BODY)
    told = answer.json()
    assert (answer.status_code, told["score"], told["quorum"]) == (200, None, False)
    assert told["results"][0]["unscored"] == "no_quorum"
    assert told["results"][0]["votes"][0]["error"] == "the prompt does not fit the model's context"


async def test_one_judge_short_is_degraded(tmp_path: Path) -> None:
    service = Local(configured(tmp_path), {"a": Noting(), "b": Noting("error")})
    told = (await post(service, "/v1/judge", BODY)).json()
    assert (told["score"], told["quorum"], told["degraded"]) == (3, True, True)


async def test_a_batch_keeps_its_order_and_each_item_its_own_error(service: Local) -> None:
    items = [BODY, {**BODY, "task": "none"}, {"secret": 1}, {**BODY, "aspects": ["utility"]}]
    told = (await post(service, "/v1/judge/batch", {"items": items})).json()
    assert [one["index"] for one in told["data"]] == [0, 1, 2, 3]
    assert [one["status"] for one in told["data"]] == [200, 400, 400, 200]
    assert told["num_failed"] == 2
    assert told["data"][3]["judgement"]["results"][0]["aspect"] == "utility"
    assert told["data"][1]["error"]["param"] == "task"
    assert "secret" not in json.dumps(told)


async def test_a_batch_has_a_bound(tmp_path: Path) -> None:
    service = Local(configured(tmp_path, serve={"max_items": 2}))
    answer = await post(service, "/v1/judge/batch", {"items": [BODY] * 3})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "items")
    assert (await post(service, "/v1/judge/batch", {"items": []})).status_code == 400


async def test_the_same_key_is_not_judged_twice(service: Local) -> None:
    engine = service._engines["a"]
    assert isinstance(engine, Noting)
    async with client(service) as http:
        work = [
            http.post("/v1/judge/batch", json={"items": [BODY]}, headers={"idempotency-key": "k"}) for _ in range(3)
        ]
        first, second, third = await asyncio.gather(*work)
        assert first.json() == second.json() == third.json()
        assert len(engine.seen) == 1
        other = await http.post("/v1/judge/batch", json={"items": [BODY] * 2}, headers={"idempotency-key": "k"})
        assert (other.status_code, other.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_examples_are_retrieved_and_shown(tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", pool_of(12).values())
    judges = {"shown": {"model": "a", "icl": {"arm": "bm25", "k": 2}}, "plain": {"model": "b"}}
    data = {"records": [pool], "pool": [pool]}
    service = Local(configured(tmp_path, data=data, evaluate={"judges": judges}), {"a": Noting(), "b": Noting()})
    fields = {"source": "What is known about bread?", "candidate": "It is baked."}
    asked = {"task": "qa", "fields": fields}
    told = (await post(service, "/v1/judge", asked)).json()
    shown, plain = told["results"][0]["votes"]
    assert len(shown["examples"]) == 2
    assert plain["examples"] == []
    engine = service._engines["a"]
    assert isinstance(engine, Noting)
    assert pool_of(12)[shown["examples"][-1]].candidate in engine.seen[0].prompt
    found = (await post(service, "/v1/retrieve", {"judge": "shown", **asked})).json()
    assert [one["id"] for one in found["data"]] == shown["examples"]
    off = (await post(service, "/v1/judge", {**asked, "options": {"examples": False}})).json()
    assert off["results"][0]["votes"][0]["examples"] == []
    assert "Example 1" not in engine.seen[-1].prompt


async def test_a_text_of_the_pool_is_never_its_own_example(tmp_path: Path) -> None:
    pool = pool_of(12)
    path = jsonl(tmp_path / "pool.jsonl", pool.values())
    judges = {"shown": {"model": "a", "icl": {"arm": "bm25", "k": 11}}}
    found = configured(tmp_path, data={"records": [path], "pool": [path]}, evaluate={"judges": judges})
    fields = {"source": pool["r3"].source, "candidate": pool["r3"].candidate}
    told = (await post(Local(found, {"a": Noting()}), "/v1/judge", {"task": "qa", "fields": fields})).json()
    shown = told["results"][0]["votes"][0]["examples"]
    assert shown
    # r2 answers the same question as r3.
    assert not {"r2", "r3"} & set(shown)


async def test_judges_and_models_are_listed(service: Local) -> None:
    async with client(service) as http:
        judges = (await http.get("/v1/judges")).json()
        assert [one["id"] for one in judges["data"]] == ["first", "second"]
        assert judges["data"][0]["templates"][0].keys() >= {"task", "aspect", "scale", "fingerprint", "fields"}
        assert judges["tasks"]["qa"] == ["overall", "utility"]
        models = (await http.get("/v1/models")).json()
        assert [one["id"] for one in models["data"]] == ["a", "b", "inverdict-panel"]
        assert (await http.get("/v1/models/a")).json()["id"] == "a"
        error = (await http.get("/v1/models/secret")).json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("not_found_error", "unknown_model", "model")


@pytest.fixture
def measuring(tmp_path: Path) -> Local:
    """A model's judge and a text feature."""
    models = {"a": {"backend": "scripted"}, "words": {"backend": "features", "feature": "length"}}
    judges = {"first": {"model": "a"}, "words": {"model": "words"}}
    return Local(configured(tmp_path, models=models, evaluate={"judges": judges}), {"a": Noting()})


async def test_a_text_feature_votes_by_its_measure(measuring: Local) -> None:
    told = (await post(measuring, "/v1/judge", BODY)).json()
    _, vote = told["results"][0]["votes"]
    score = 1 + 4 * math.log(6) / math.log(1001)  # five words
    assert vote["score"] == pytest.approx(score)
    assert (vote["reason"], vote["usage"]["total_tokens"]) == ("text feature length: 0.259", 0)
    assert told["score"] == pytest.approx((3 + score) / 2)


async def test_a_text_feature_compares_nothing_and_follows_no_rubric(measuring: Local) -> None:
    pair = {**BODY, "other": "It is blue."}
    free = {"rubric": "Is it polite?", "fields": {"candidate": "Thanks!"}}
    for body in (pair, free):
        told = (await post(measuring, "/v1/judge", body)).json()
        assert [vote["judge"] for vote in told["results"][0]["votes"]] == ["first"]
        refusal = await post(measuring, "/v1/judge", {**body, "options": {"judges": ["words"]}})
        error = refusal.json()["error"]
        assert (refusal.status_code, error["code"], error["param"]) == (400, "unsupported", "options.judges")


async def test_a_text_feature_is_listed_as_one_and_is_no_model(measuring: Local) -> None:
    async with client(measuring) as http:
        first, words = (await http.get("/v1/judges")).json()["data"]
        models = [one["id"] for one in (await http.get("/v1/models")).json()["data"]]
    assert (first["feature"], first["prompt"]) == (None, "rubric")
    assert (words["feature"], words["prompt"], words["templates"][0]["origin"]) == ("length", None, "feature")
    assert models == ["a", "inverdict-panel"]
