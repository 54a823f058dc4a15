"""The panel on a real local Serve with the embedded models on vLLM: the batch path's scores, and chat."""

import time
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.engine_run import HUGE, NUM_QA, EngineRun
from tests.serve.serving import Served, serving

pytestmark = pytest.mark.engine
FAST = {"judges": ["expected", "shown"]}  # one token each


@pytest.fixture(scope="module")
def served(engine_run: EngineRun) -> Iterator[Served]:
    """The server of the configuration that `evaluate` has judged with."""
    with serving(engine_run.config, engine_run.port, patience_s=400) as found:
        yield found


def test_batch_and_online_give_the_same_scores(served: Served, engine_run: EngineRun) -> None:
    batch = pq.read_table(engine_run.folder / "run" / "evaluate" / "scores.parquet").to_pylist()
    known = {row["id"]: row for row in batch}
    rows = [row for row in engine_run.rows() if row["task"] == "qa" and row["id"] != HUGE]
    assert len(rows) == NUM_QA
    for row in rows:
        fields = {"source": row["source"], "candidate": row["candidate"]}
        told = served.post("/v1/judge", {"task": "qa", "fields": fields, "options": FAST}).json()
        expected, shown = told["results"][0]["votes"]
        assert expected["score"] == pytest.approx(known[row["id"]]["expected.score"], abs=1e-3)
        assert shown["score"] == pytest.approx(known[row["id"]]["shown.score"], abs=1e-3)
        assert len(shown["examples"]) == 2
        assert expected["label_mass"] > 0.01


def test_the_openai_client_chats_streams_and_samples(served: Served) -> None:
    import openai

    speaks = openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0)
    asked: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 12,
    }
    answer = speaks.chat.completions.create(**asked, temperature=0, logprobs=True, top_logprobs=3)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 12
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3  # type: ignore[index]
    parts = [
        part.choices[0].delta.content or ""
        for part in speaks.chat.completions.create(**asked, temperature=0, stream=True)
    ]
    assert "".join(parts) == answer.choices[0].message.content
    # A seeded request whose prompt is computed in pieces would end vLLM on a CPU.
    drawn = speaks.chat.completions.create(**asked, temperature=0.9, seed=7)
    assert (
        drawn.choices[0].message.content
        == speaks.chat.completions.create(**asked, temperature=0.9, seed=7).choices[0].message.content
    )


def test_the_engine_s_own_metrics_are_exported(served: Served) -> None:
    deadline = time.monotonic() + 40
    found: dict[str, float] = {}
    while not found.get("ray_vllm_prefix_cache_queries_total") and time.monotonic() < deadline:
        families = text_string_to_metric_families(served.get("/metrics").text)
        found = {one.name: one.value for family in families for one in family.samples}
        time.sleep(0.5)
    # Tokens of the prompts so far; the dashboard reads these four.
    assert found["ray_vllm_prefix_cache_queries_total"] > 100
    assert 0 <= found["ray_vllm_prefix_cache_hits_total"] <= found["ray_vllm_prefix_cache_queries_total"]
    assert 0 <= found["ray_vllm_kv_cache_usage_perc"] <= 1
    assert found["ray_vllm_num_requests_waiting"] >= 0


def test_a_text_that_does_not_fit_is_null_with_its_reason(served: Served) -> None:
    body = {"task": "qa", "fields": {"source": "Why?", "candidate": "word " * 5000}, "options": FAST}
    answer = served.post("/v1/judge", body)
    told = answer.json()
    assert (answer.status_code, told["score"], told["quorum"]) == (200, None, False)
    assert told["results"][0]["votes"][0]["unscored"] == "too_long"


def test_two_texts_are_compared_and_a_rubric_of_the_client_s_counts(served: Served) -> None:
    fields = {"source": "Why is the sky blue?", "candidate": "Air scatters blue light most."}
    told = served.post("/v1/judge", {"task": "qa", "fields": fields, "other": "No.", "options": FAST}).json()
    assert told["mode"] == "pairwise"
    assert 0 <= told["score"] <= 1
    assert all(vote["is_consistent"] in (True, False) for vote in told["results"][0]["votes"])
    told = served.post("/v1/judge", {"rubric": "Is it short?", "fields": fields, "options": FAST}).json()
    assert 1 <= told["score"] <= 5
