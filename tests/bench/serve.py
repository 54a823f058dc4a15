"""Speed and memory of the panel online, as ratios within one run: `make bench-serve`, or one part by name.

panel: what `/v1/judge` adds to a direct call of the evaluator's handle, scripted judges, 16 clients at once, 10,000
requests. smollm2: records/s of `/v1/judge` with one judge and 16 clients against direct calls of the evaluator, and the
share of the reachable prompt tokens that came from the prefix cache. two: seconds until two real evaluators and the
panel are ready, and their memory. parity: 200 shared records through `evaluate` and through `/v1/judge`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.measure import DATA, PeakMemory, in_child

CLIENTS = 16
NUM_REQUESTS, NUM_DIRECT = 10_000, 3000
NUM_PARITY = 200
# float32: in bfloat16 a score depends on the other requests in the engine's step, so batch and online differ by more.
SMOLLM2 = {"source": "embedded:smollm2-135m-instruct", "dtype": "float32", "max_model_len": 2048}
# What lets two engines share a small machine: room for twenty prompts each, and buffers for as many at once.
SMALL = {"max_model_len": 1536, "kv_cache_gib": 0.5, "engine": {"max_num_seqs": 32}}
GEMMA = {"source": "embedded:gemma3-270m", **SMALL}
BODY = {"task": "qa", "fields": {"source": "Why is the sky blue?", "candidate": "Air scatters blue light most."}}
APP = "inverdict"


def main(parts: Sequence[str]) -> int:
    for part in parts or ("panel", "smollm2", "two", "parity"):
        print(f"{part}: {json.dumps(in_child('tests.bench.serve', part))}", flush=True)
    return 0


def _run(folder: str, **sections: Any) -> Any:
    from cluster.config import build
    from cluster.jobs import sections as known

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limits = {"port": port, "max_in_flight": 4 * CLIENTS, **sections.pop("serve", {})}
    return build({"run": f"{folder}/run", "serve": limits, **sections}, known(), origin="bench")


def _start(run: Any) -> str:
    """Start the application in this process's own cluster; its address."""
    import ray.serve

    from cluster import runtime
    from serve.app import build_app

    app = build_app(run)
    with runtime.quiet_logging():
        options = {"host": run.serve.host, "port": run.serve.port}
        ray.serve.start(http_options=options, logging_config={"log_level": "ERROR", "enable_access_log": False})
        ray.serve.run(app, name=APP)
    return f"http://127.0.0.1:{run.serve.port}"


async def _timed(work: Callable[[int], Awaitable[Any]], number: int) -> tuple[list[float], float]:
    """Latencies in ms of `number` calls by CLIENTS clients, and calls a second."""
    places = iter(range(number))
    latencies: list[float] = []

    async def one_client() -> None:
        for place in places:
            began = time.perf_counter()
            await work(place)
            latencies.append(1e3 * (time.perf_counter() - began))

    began = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
    return latencies, number / (time.perf_counter() - began)


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


# ---------------------------------------------------------------------------- panel


def _panel() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        judges = {"first": {"model": "a"}, "second": {"model": "a", "score_mode": "parsed"}}
        address = _start(_run(folder, models={"a": {"backend": "scripted"}}, evaluate={"judges": judges}))
        return asyncio.run(_panel_against_handle(address))


async def _panel_against_handle(address: str) -> dict[str, Any]:
    import aiohttp
    import ray.serve

    from cluster.exchange import Request

    handle = ray.serve.get_deployment_handle("evaluator-a", APP)
    statuses: dict[int, int] = {}

    async def direct(place: int) -> None:
        await handle.answer.remote(Request(f"text {place}", "Score: ", ("1", "2", "3", "4", "5")))

    async with aiohttp.ClientSession() as http:

        async def judged(place: int) -> None:
            async with http.post(f"{address}/v1/judge", json=BODY) as answer:
                await answer.read()
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

        for warm in (direct, judged):
            await _timed(warm, 10 * CLIENTS)
        statuses.clear()

        async def nothing(place: int) -> None:
            async with http.get(f"{address}/healthz") as answer:
                await answer.read()

        handle_ms, handle_rate = await _timed(direct, NUM_DIRECT)
        nothing_ms, nothing_rate = await _timed(nothing, NUM_DIRECT)
        panel_ms, panel_rate = await _timed(judged, NUM_REQUESTS)
        again_ms, _ = await _timed(direct, NUM_DIRECT)
    handle_ms += again_ms
    return {
        "requests": NUM_REQUESTS,
        "statuses": statuses,
        "handle_p50_ms": round(_percentile(handle_ms, 0.5), 1),
        "handle_p99_ms": round(_percentile(handle_ms, 0.99), 1),
        "panel_p50_ms": round(_percentile(panel_ms, 0.5), 1),
        "panel_p99_ms": round(_percentile(panel_ms, 0.99), 1),
        "added_p50_ms": round(_percentile(panel_ms, 0.5) - _percentile(handle_ms, 0.5), 1),
        "added_p99_ms": round(_percentile(panel_ms, 0.99) - _percentile(handle_ms, 0.99), 1),
        "target_added_ms": [8, 40],
        "empty_route_p50_ms": round(_percentile(nothing_ms, 0.5), 1),
        "empty_route_p99_ms": round(_percentile(nothing_ms, 0.99), 1),
        "empty_route_per_s": round(nothing_rate),
        "handle_per_s": round(handle_rate),
        "panel_per_s": round(panel_rate),
    }


# ---------------------------------------------------------------------------- SmolLM2


def _rows(number: int) -> list[dict[str, Any]]:
    """Whole groups of Topical-Chat, neighbours of one group together."""
    rows = [json.loads(line) for line in (DATA / "topical_chat.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: str(row["group"]))[:number]


def _body(row: dict[str, Any]) -> dict[str, Any]:
    fields = {name: row[name] for name in ("source", "candidate", "fact") if row.get(name)}
    return {"task": row["task"], "fields": fields, "aspects": ["overall"]}


def _smollm2() -> dict[str, Any]:
    if not DATA.exists():
        return {"skipped": f"{DATA} is missing"}
    with tempfile.TemporaryDirectory() as folder:
        run = _run(folder, models={"m": SMOLLM2}, evaluate={"judges": {"m": {"model": "m"}}})
        return asyncio.run(_smollm2_against_handle(_start(run), run))


async def _smollm2_against_handle(address: str, run: Any) -> dict[str, Any]:
    import aiohttp
    import ray.serve

    from cluster.exchange import Request
    from serve.api.conversion import Offer, to_ask
    from serve.api.schemas import JudgeBody
    from serve.panel.build import online

    found = online(run)
    judge = found.judges["m"]
    offer = Offer({"m": frozenset(judge.templates)}, found.evaluate.vote, found.serve, 0)
    bodies = [_body(row) for row in _rows(216)]
    handle = ray.serve.get_deployment_handle("evaluator-m", APP)
    # The texts are told apart by a mark, so that no pass finds another's in the cache.
    rates: dict[str, list[float]] = {"panel": [], "handle": []}
    cached: list[int] = []

    async with aiohttp.ClientSession() as http:
        for turn in range(6):
            marked = [_marked(body, f"Part {turn}. ") for body in bodies]
            asked = [judge.request(to_ask(JudgeBody(**body), offer).record, "overall") for body in marked]

            async def direct(place: int, asked: Any = asked) -> None:
                one = asked[place]
                await handle.answer.remote(Request(one["prompt"], one["reply_prefix"], tuple(one["labels"])))

            async def judged(place: int, marked: Any = marked) -> None:
                async with http.post(f"{address}/v1/judge", json=marked[place]) as answer:
                    told = await answer.json()
                    cached.append(told["usage"]["cached_tokens"])

            side = ("panel", "handle", "handle", "panel", "panel", "handle")[turn]
            _, rate = await _timed(judged if side == "panel" else direct, len(bodies))
            rates[side].append(rate)
    reachable = _reachable([str(one["prompt"]) for one in asked])
    return {
        "records": len(bodies),
        "panel_per_s": [round(rate, 2) for rate in rates["panel"]],
        "handle_per_s": [round(rate, 2) for rate in rates["handle"]],
        "ratio": round(statistics.mean(rates["panel"]) / statistics.mean(rates["handle"]), 3),
        "target": 0.85,
        "cached_tokens_a_pass": round(sum(cached) / len(rates["panel"])),
        "reachable_tokens_a_pass": reachable,
        "cached_share": round(sum(cached) / len(rates["panel"]) / reachable, 3),
        "target_cached_share": 0.9,
    }


def _marked(body: dict[str, Any], mark: str) -> dict[str, Any]:
    return {**body, "fields": {**body["fields"], "source": mark + body["fields"]["source"]}}


def _reachable(prompts: Sequence[str]) -> int:
    """Prompt tokens in whole cache blocks that an earlier prompt of the same pass begins with."""
    from tests.bench.batch import _cacheable, _prompt_ids

    return _cacheable(_prompt_ids(prompts))


# ---------------------------------------------------------------------------- two evaluators


def _two() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as memory:
        small = {**SMOLLM2, **SMALL}
        judges = {"smollm2": {"model": "smollm2"}, "gemma3": {"model": "gemma3"}}
        began = time.perf_counter()
        address = _start(_run(folder, models={"smollm2": small, "gemma3": GEMMA}, evaluate={"judges": judges}))
        ready = time.perf_counter() - began
        answers = asyncio.run(_answers(address, [BODY] * CLIENTS))
    return {
        "ready_s": round(ready, 1),
        "target_ready_s": 180,
        "peak_gib": round(memory.peak_mib / 1024, 2),
        "target_gib": 12,
        "whole_answers": sum(not answer["degraded"] for answer in answers),
        "of": len(answers),
    }


async def _answers(address: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    import aiohttp

    found: list[dict[str, Any]] = [{}] * len(bodies)
    async with aiohttp.ClientSession() as http:

        async def judged(place: int) -> None:
            async with http.post(f"{address}/v1/judge", json=bodies[place]) as answer:
                found[place] = await answer.json()

        await _timed(judged, len(bodies))
    return found


# ---------------------------------------------------------------------------- parity


def _parity() -> dict[str, Any]:
    if not DATA.exists():
        return {"skipped": f"{DATA} is missing"}
    import pyarrow.parquet as pq

    from evaluation.batch import evaluate as batch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        rows = _rows(NUM_PARITY)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        evaluate = {"judges": {"m": {"model": "m"}}, "aspects": ["overall"]}
        run = _run(folder, data={"records": [str(path)]}, models={"m": SMOLLM2}, evaluate=evaluate)
        batch.main(run)
        known = {
            row["id"]: row["m.score"] for row in pq.read_table(f"{folder}/run/evaluate/scores.parquet").to_pylist()
        }
        from judging.datasets import read_records

        ids = [record.id for record in read_records([path])]  # type: ignore[union-attr]
        answers = asyncio.run(_answers(_start(run), [_body(row) for row in rows]))
    pairs = [(known[id], answer["score"]) for id, answer in zip(ids, answers, strict=True)]
    differences = [abs(one - other) for one, other in pairs]
    flipped = sum(round(one) != round(other) for one, other in pairs)
    return {
        "records": len(pairs),
        "largest_difference": max(differences),
        "target": 1e-3,
        "flipped_labels": flipped,
        "flip_rate": flipped / len(pairs),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
        print(json.dumps({"panel": _panel, "smollm2": _smollm2, "two": _two, "parity": _parity}[sys.argv[2]]()))
    else:
        sys.exit(main(sys.argv[1:]))
