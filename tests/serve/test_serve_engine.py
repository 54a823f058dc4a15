"""The panel on a real local Serve with the embedded models on vLLM: the batch path's scores, and chat."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.__main__ import main
from tests.serve.serving import ROOT, Served, configuration, free_port, serving

pytestmark = pytest.mark.engine
RECORDS = ROOT / "examples" / "constructed.jsonl"
POOL = ROOT / "examples" / "pool.jsonl"
NUM = 24


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Iterator[tuple[Served, Path]]:
    """First `evaluate`, then the server of the same configuration."""
    folder = tmp_path_factory.mktemp("serve")
    rows = [line for line in RECORDS.read_text().splitlines() if '"qa"' in line][:NUM]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    port = free_port()
    config = configuration(
        folder,
        data={"records": [str(folder / "rows.jsonl")], "pool": [str(POOL)], "labels": "constructed"},
        models={"smollm2": {"source": "embedded:smollm2-135m-instruct", "max_model_len": 1024, "kv_cache_gib": 0.5}},
        evaluate={
            "judges": {
                "plain": {"model": "smollm2"},
                "shown": {"model": "smollm2", "icl": {"arm": "bm25", "k": 2}},
            }
        },
        serve={"port": port},
    )
    assert main(["evaluate", str(config)]) == 0
    with serving(config, port, patience_s=400) as served:
        yield served, folder


def test_batch_and_online_give_the_same_scores(both: tuple[Served, Path]) -> None:
    served, folder = both
    batch = pq.read_table(folder / "run" / "evaluate" / "scores.parquet").to_pylist()
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(batch) == len(rows) == NUM
    known = {row["id"]: row for row in batch}
    for row in rows:
        body = {"task": "qa", "fields": {"source": row["source"], "candidate": row["candidate"]}}
        told = served.post("/v1/judge", body).json()
        plain, shown = told["results"][0]["votes"]
        assert plain["score"] == pytest.approx(known[row["id"]]["plain.score"], abs=1e-3)
        assert shown["score"] == pytest.approx(known[row["id"]]["shown.score"], abs=1e-3)
        assert len(shown["examples"]) == 2
        assert plain["label_mass"] > 0.01


def test_the_openai_client_chats_streams_and_samples(both: tuple[Served, Path]) -> None:
    import openai

    served, _ = both
    speaks = openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0)
    asked: dict[str, Any] = {
        "model": "smollm2",
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


def test_a_text_that_does_not_fit_is_null_with_its_reason(both: tuple[Served, Path]) -> None:
    served, _ = both
    body = {"task": "qa", "fields": {"source": "Why?", "candidate": "word " * 5000}}
    answer = served.post("/v1/judge", body)
    told = answer.json()
    assert (answer.status_code, told["score"], told["quorum"]) == (200, None, False)
    assert told["results"][0]["votes"][0]["unscored"] == "too_long"


def test_two_texts_are_compared_and_a_rubric_of_the_client_s_counts(both: tuple[Served, Path]) -> None:
    served, _ = both
    fields = {"source": "Why is the sky blue?", "candidate": "Air scatters blue light most."}
    told = served.post("/v1/judge", {"task": "qa", "fields": fields, "other": "No."}).json()
    assert told["mode"] == "pairwise"
    assert 0 <= told["score"] <= 1
    assert all(vote["is_consistent"] in (True, False) for vote in told["results"][0]["votes"])
    told = served.post("/v1/judge", {"rubric": "Is it short?", "fields": fields}).json()
    assert 1 <= told["score"] <= 5
