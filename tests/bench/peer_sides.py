"""One side of the benchmark beside other tools, in a process of its own: see tests.bench.peers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NUM_PARALLEL = 64
ASPECT = "overall"


def main(side: str, folder: str, address: str, cluster: str, out: str, criterion: str) -> None:
    lines = (Path(folder) / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "engine": lambda: _engine(Path(folder), rows),
        "batch": lambda: _batch(Path(folder)),
        "running": lambda: _running(Path(folder), cluster),
        "http": lambda: asyncio.run(_http(address, rows)),
    }
    told = known[side]() if side in known else _peer(side, address, rows, criterion)
    Path(out).write_text(json.dumps(told), encoding="utf-8")


def _engine(folder: Path, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plain vLLM with the arguments of the batch engine; its start, prompts and tokens are made before it is timed."""
    import ray

    from cluster import models
    from cluster.config import load
    from cluster.jobs import sections
    from cluster.tokens import Encoder
    from cluster.vllm_arguments import vllm_arguments
    from evaluation.judges.judge_config import build_judge
    from judging.datasets import read_records
    from judging.expected import expected_score

    run = load(folder / "c.yaml", [], sections())
    spec = run.models["m"]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    arguments = vllm_arguments(spec)  # they depend on what the cluster has
    ray.shutdown()
    os.environ |= arguments["runtime_env"]["env_vars"]
    from vllm import LLM, SamplingParams, TokensPrompt

    weights = str(models.resolve(spec.source).path)
    encoder = Encoder(weights)
    wanted = [("dialogue", ASPECT)]
    judge = build_judge("m", run.evaluate.judges["m"], wanted, {}, encoder.special_tokens())
    records: list[Any] = list(read_records([folder / "rows.jsonl"]))
    asked = [judge.request(record, ASPECT) for record in records]
    spelled = encoder.label_tokens(asked[0]["reply_prefix"], tuple(asked[0]["labels"]))
    tokens = [encoder.prompt_ids(one["prompt"], spelled.prefix, spec.max_model_len) for one in asked]
    model = LLM(weights, **arguments["engine_kwargs"])
    params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=list(spelled.ids))
    model.generate([TokensPrompt(prompt_token_ids=tokens[0])], params, use_tqdm=False)
    model.reset_prefix_cache()
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in tokens]
    began = time.perf_counter()
    found = model.generate(prompts, params, use_tqdm=False)
    seconds = time.perf_counter() - began
    scale = judge.templates["dialogue", ASPECT].scale
    logprobs = [[one.outputs[0].logprobs[0][id].logprob for id in spelled.ids] for one in found]
    scores = {record.id: expected_score(values, scale).score for record, values in zip(records, logprobs, strict=True)}
    assert len(scores) == len(rows)
    return {"seconds": seconds, "scores": list(scores.values()), "tokens": [sum(map(len, tokens)), len(rows)]}


def _scores(folder: Path, run_folder: str) -> list[float | None]:
    """What `evaluate` has written, in the order of the records."""
    import pyarrow.parquet as pq

    from judging.datasets import read_records

    table = pq.read_table(f"{run_folder}/evaluate/scores.parquet").to_pylist()
    scores = {row["id"]: row["m.score"] for row in table}
    return [scores[record.id] for record in read_records([folder / "rows.jsonl"])]  # type: ignore[union-attr]


def _batch(folder: Path) -> dict[str, Any]:
    from cluster.config import load
    from cluster.jobs import sections
    from evaluation.batch import evaluate as batch
    from tests.bench.batch import probed, seconds_of

    with tempfile.TemporaryDirectory() as out:
        run = load(folder / "c.yaml", [f"run={out}/run"], sections())
        began = time.perf_counter()
        asked = probed(lambda: batch.main(run), out)
        whole = time.perf_counter() - began
        scores = _scores(folder, f"{out}/run")
    tokens = [sum(row[kind] for row in asked) for kind in ("prompt_tokens", "generated_tokens")]
    return {"seconds": seconds_of(asked), "whole_s": whole, "scores": scores, "tokens": tokens}


def _running(folder: Path, cluster: str) -> dict[str, Any]:
    from cluster import __main__ as command

    def evaluated(name: str, run_folder: str) -> float:
        changes = [f"ray.address={cluster}", f"run={run_folder}", f"data.records=[{folder}/{name}.jsonl]"]
        began = time.perf_counter()
        code = command.main(
            ["evaluate", str(folder / "c.yaml"), "--through-serve", *(f"--set={change}" for change in changes)]
        )
        assert code in (0, 3)  # 3: some records have no score
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as out:
        evaluated("first", f"{out}/first")  # its imports, and the connection to the cluster
        return {"seconds": evaluated("rows", f"{out}/run"), "scores": _scores(folder, f"{out}/run")}


async def _http(address: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    import aiohttp

    from tests.bench.serve import _body

    gate = asyncio.Semaphore(NUM_PARALLEL)

    async def judged(http: Any, row: dict[str, Any]) -> float | None:
        async with gate, http.post(f"{address}/v1/judge", json=_body(row)) as answer:
            assert answer.status == 200, await answer.text()
            score = (await answer.json()).get("score")
            return None if score is None else float(score)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as http:
        await judged(http, rows[0])
        began = time.perf_counter()
        scores = await asyncio.gather(*(judged(http, row) for row in rows))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "scores": list(scores)}


def _peer(side: str, address: str, rows: Sequence[dict[str, Any]], criterion: str) -> dict[str, Any]:
    from tests.peers import judges, offline

    offline.install()
    judge: Callable[..., list[judges.Graded]] = getattr(judges, side)
    endpoint = judges.Endpoint(f"{address}/v1", "m", NUM_PARALLEL, criterion)
    judge(endpoint, rows[:1])  # its imports, and the first connection
    began = time.perf_counter()
    found = judge(endpoint, rows)
    assert not offline.attempts
    return {"seconds": time.perf_counter() - began, "scores": [one.score for one in found]}


if __name__ == "__main__":
    main(*sys.argv[1:])
