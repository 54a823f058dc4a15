"""Speed and memory of the batch path, as ratios within one run: `make bench-batch`, or one part by name.

vllm: records/s of `evaluate` against plain `vllm.LLM.chat` on the same prompts with the same engine settings, engine
start excluded, as several pairs of runs, and the share of the cacheable prompt tokens that came from the prefix cache.
scripted: records/s and peak memory of driver and workers at 20,000 and 100,000 records.
agreement, votes: seconds and memory of the statistics and of learned votes on 100,000 rows.
help: seconds of `inverdict --help`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.measure import DATA, ROOT, PeakMemory, in_child

ENGINE = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "max_model_len": 2048}
BLOCK = ENGINE["block_size"]
NUM_PAIRS = 3
NUM_TOPICAL, NUM_SUMMEVAL = 120, 160  # 20 groups of 6 and 10 groups of 16


def main(parts: Sequence[str]) -> int:
    results: dict[str, Any] = {}
    known = {"help": _help, "agreement": _agreement, "votes": _votes, "scripted": _scripted, "vllm": _vllm}
    for part in parts or known:
        results[part] = known[part]()
        print(f"{part}: {json.dumps(results[part])}", flush=True)
    return 0


def _help() -> dict[str, float]:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("inverdict"), "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return {"seconds_best": round(min(seconds), 3), "target": 0.5}


def _agreement() -> Any:
    from tests.bench import agreement

    return agreement.main()


def _votes() -> Any:
    from tests.bench import votes

    return votes.main()


# ---------------------------------------------------------------------------- scripted engine


def _scripted() -> dict[str, Any]:
    found = {num: _in_child("scripted", str(num)) for num in (20_000, 100_000)}
    small, large = found[20_000], found[100_000]
    return {
        "records_per_s_100k": round(large["records_per_s"]),
        "target_records_per_s": 1500,
        "peak_mib_20k": round(small["peak_mib"]),
        "peak_mib_100k": round(large["peak_mib"]),
        "memory_ratio": round(large["peak_mib"] / small["peak_mib"], 3),
        "target_memory_ratio": 1.10,
    }


def _scripted_child(num: int) -> dict[str, float]:
    from cluster import runtime
    from evaluation.batch import evaluate as batch

    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        with records.open("w") as file:
            for place in range(num):
                file.write(json.dumps(_record(place)) + "\n")
        run = _run_config(folder, [str(records)], {"fake": {"backend": "scripted"}}, block_rows=1024)
        runtime.start(run.ray)
        with PeakMemory() as memory:
            start = time.perf_counter()
            judged = batch.main(run)
            seconds = time.perf_counter() - start
        assert judged.summary["num_scores"] == num
    return {"records_per_s": num / seconds, "peak_mib": memory.peak_mib}


def _record(place: int) -> dict[str, Any]:
    group, system = divmod(place, 10)
    return {
        "task": "qa",
        "group": f"q{group}",
        "system": f"s{system}",
        "source": f"Question {group}: what is known about thing number {group}, and who found it out?",
        "candidate": f"Answer {system} to {group}: " + "it was found long ago by several people. " * (1 + system % 4),
        "scores": {"overall": 1 + (group * 7 + system * 3) % 5},
        "scale": [1, 5],
    }


def _run_config(folder: str, records: list[str], models: dict[str, Any], **evaluate: Any) -> Any:
    from cluster.config import build
    from cluster.jobs import sections

    judges = {name: {"model": name} for name in models}
    raw = {
        "run": f"{folder}/run",
        "data": {"records": records},
        "models": models,
        "evaluate": {"judges": judges, "aspects": ["overall"], **evaluate},
    }
    return build(raw, sections(), origin="bench")


# ---------------------------------------------------------------------------- vLLM


def _vllm() -> dict[str, Any]:
    if not DATA.exists():
        return {"skipped": f"{DATA} is missing"}
    return compared("tests.bench.batch")


def compared(module: str) -> dict[str, Any]:
    """Several pairs of runs in processes of their own: `module --child pipeline` and `module --child raw`."""
    pairs = []
    for place in range(NUM_PAIRS):  # who comes first takes turns: the machine's speed drifts within minutes
        order = ("pipeline", "raw") if place % 2 == 0 else ("raw", "pipeline")
        found = {side: in_child(module, side) for side in order}
        pairs.append((found["pipeline"], found["raw"]))
        print(f"pair {place + 1}: " + " of ".join(f"{side['records_per_s']:.2f}" for side in pairs[-1]), flush=True)
    ours, raw = pairs[0]
    ratios = [one["records_per_s"] / other["records_per_s"] for one, other in pairs]
    return {
        "num_records": ours["num_records"],
        "records_per_s": [round(one["records_per_s"], 3) for one, _ in pairs],
        "raw_records_per_s": [round(other["records_per_s"], 3) for _, other in pairs],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio_median": round(statistics.median(ratios), 3),
        "target_ratio": 0.90,
        "prompt_tokens": ours["prompt_tokens"],
        "cacheable_tokens": ours["cacheable_tokens"],
        "cached_tokens": ours["cached_tokens"],
        "cached_share": round(ours["cached_tokens"] / ours["cacheable_tokens"], 3),
        "target_cached_share": 0.95,
        "raw_cached_tokens": raw["cached_tokens"],
    }


def _write_records(folder: str) -> list[str]:
    """The benchmark's records, whole groups, with the one aspect `overall` of both tasks."""
    path = Path(folder) / "records.jsonl"
    lines = [*_head("topical_chat", NUM_TOPICAL), *_head("summeval", NUM_SUMMEVAL)]
    for line in lines:
        line["scores"], line["scale"], line["scales"] = {}, None, {}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [str(path)]


def _head(name: str, number: int) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: str(row["group"]))[:number]


def _pipeline_child() -> dict[str, Any]:
    from evaluation.batch import evaluate as batch

    with tempfile.TemporaryDirectory() as folder:
        model = {"source": "embedded:smollm2-135m-instruct", "dtype": ENGINE["dtype"]}
        model["max_model_len"] = ENGINE["max_model_len"]
        run = _run_config(folder, _write_records(folder), {"smollm2": model})
        return watched(lambda: batch.main(run), [request["prompt"] for request in _requests(run)], folder)


def probed(job: Callable[[], Any], folder: str) -> list[dict[str, Any]]:
    """What the engine of a job saw: a row a request, of tests.bench.probe."""
    import ray

    from cluster import runtime

    probe = Path(folder) / "probe.jsonl"
    environment = {"INVERDICT_BENCH_PROBE": str(probe), "PYTHONPATH": str(ROOT)}
    hook = {"worker_process_setup_hook": "tests.bench.probe.install", "env_vars": environment}
    os.environ.setdefault("RAY_worker_niceness", "0")  # as cluster.runtime has it
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=hook)
    runtime.quiet_data()
    job()
    return [json.loads(line) for line in probe.read_text().splitlines()]


def seconds_of(rows: Sequence[dict[str, Any]]) -> float:
    """From the first request's begin to the last one's end."""
    return float(max(row["ended"] for row in rows) - min(row["begun"] for row in rows))


def watched(job: Callable[[], Any], prompts: Sequence[str], folder: str) -> dict[str, Any]:
    """Records/s and cached tokens of a job that asks these prompts in this order, as its engine sees them."""
    rows = probed(job, folder)
    assert len(rows) == len(prompts)
    return {
        "num_records": len(rows),
        "records_per_s": len(rows) / seconds_of(rows),
        "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
        "cached_tokens": sum(row["cached_tokens"] for row in rows),
        "cacheable_tokens": _cacheable(_prompt_ids(prompts)),
    }


def _requests(run: Any) -> list[dict[str, Any]]:
    """What the pipeline asks, in its order."""
    from evaluation.judges.judge_config import build_judge
    from judging.datasets import read_records

    records = list(read_records(run.data.records))
    wanted = [(task, "overall") for task in ("dialogue", "summarisation")]
    judge = build_judge("smollm2", run.evaluate.judges["smollm2"], wanted, {}, _encoder().special_tokens())
    return [judge.request(record, "overall") for record in records]  # type: ignore[arg-type]


def _encoder() -> Any:
    from cluster import models
    from cluster.tokens import encoder

    return encoder(str(models.resolve("embedded:smollm2-135m-instruct").path), "auto")


def _prompt_ids(prompts: Sequence[str]) -> list[list[int]]:
    known = _encoder()
    spelled = known.label_tokens("Score: ", ("1", "2", "3", "4", "5"))
    return [known.prompt_ids(prompt, spelled.prefix, ENGINE["max_model_len"]) for prompt in prompts]


def _cacheable(prompts: list[list[int]], block_size: int = BLOCK) -> int:
    """Prompt tokens in whole blocks that an earlier prompt begins with as well; the last token is always computed."""
    seen: set[tuple[int, ...]] = set()
    total = 0
    for ids in prompts:
        blocks = [tuple(ids[: end + block_size]) for end in range(0, len(ids) - block_size + 1, block_size)]
        for block in blocks[: (len(ids) - 1) // block_size]:
            if block not in seen:
                break
            total += block_size
        seen.update(blocks)
    return total


def _raw_child() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = _run_config(folder, _write_records(folder), {"smollm2": {"source": "embedded:smollm2-135m-instruct"}})
        return plain_vllm([request["prompt"] for request in _requests(run)])


def plain_vllm(prompts: Sequence[str]) -> dict[str, Any]:
    """The labels' probabilities after each prompt from plain `vllm.LLM.chat`; engine start excluded."""
    os.environ |= {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(os.cpu_count()),
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    from vllm import LLM, SamplingParams

    from cluster import models

    spelled = _encoder().label_tokens("Score: ", ("1", "2", "3", "4", "5"))
    chats = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": spelled.prefix}] for prompt in prompts
    ]
    model = LLM(str(models.resolve("embedded:smollm2-135m-instruct").path), disable_log_stats=True, **ENGINE)
    params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=list(spelled.ids))
    start = time.perf_counter()
    outputs = model.chat(chats, params, use_tqdm=False, add_generation_prompt=False, continue_final_message=True)
    seconds = time.perf_counter() - start
    return {
        "records_per_s": len(chats) / seconds,
        "cached_tokens": sum(output.num_cached_tokens or 0 for output in outputs),
    }


# ---------------------------------------------------------------------------- children


def _in_child(*arguments: str) -> dict[str, Any]:
    return in_child("tests.bench.batch", *arguments)


def _child(name: str, *arguments: str) -> None:
    if name == "scripted":
        print(json.dumps(_scripted_child(int(arguments[0]))))
    else:
        print(json.dumps({"pipeline": _pipeline_child, "raw": _raw_child}[name]()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
