"""`inverdict plan` against what then happens on this machine: `make bench-plan`.

Two small jobs give the machine's rates (tokens read and written a second), as a user would measure a new type of
machine; with them the plan of other jobs is made, and the jobs are run. Printed: planned and seen tokens, planned and
seen seconds of the engine, its start excluded.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

from tests.bench.batch import probed, seconds_of
from tests.bench.measure import DATA, in_child

SMOLLM2, MAX_LEN, MAX_TOKENS = "embedded:smollm2-135m-instruct", 2048, 96
# The rates are read off these, and no plan is made for them.
READING = {"data": "summeval", "aspect": "coherence", "share": 0.06}
WRITING: dict[str, Any] = {"limit": 64, "files": "sft_short_tasks"}
PLANNED: dict[str, dict[str, Any]] = {
    "evaluate dialogue": {"data": "topical_chat", "aspect": "overall", "share": 0.5},
    "evaluate story": {"data": "hanna", "aspect": "relevance", "share": 0.12},
    "evaluate qa, 2 random examples": {"data": "alce", "aspect": "utility", "share": 0.3, "k": 2},
    "distill": {"limit": 128, "files": "sft_self_instruct"},
}


def main() -> int:
    if not DATA.exists():
        print(json.dumps({"skipped": f"{DATA} is missing"}))
        return 0
    read, written = _run(READING, _plan(1, 1)), _run(WRITING, _plan(1, 1))
    # At 1e12 operations a second the plan's seconds are 1e12 operations each; one token a record is read with it.
    tflops = read["planned_seconds"] / read["seconds"]
    a_second = written["tokens_out"] / written["seconds"]
    plan = {**_plan(tflops, a_second), "tokens_per_answer": written["tokens_out"] / WRITING["limit"]}
    rates = {"tflops": tflops, "decode_tokens_per_s": a_second, "tokens_per_answer": plan["tokens_per_answer"]}
    print(json.dumps({name: round(value, 3) for name, value in rates.items()}), flush=True)
    for name, job in PLANNED.items():
        found = _run(job, plan)
        line = {
            "job": name,
            "planned_tokens_in": round(found["planned_tokens_in"]),
            "tokens_in": found["tokens_in"],
            "planned_tokens_out": round(found["planned_tokens_out"]),
            "tokens_out": found["tokens_out"],
            "planned_s": round(found["planned_seconds"], 1),
            "seen_s": round(found["seconds"], 1),
            "planned_of_seen": round(found["planned_seconds"] / found["seconds"], 2),
        }
        print(json.dumps(line), flush=True)
    return 0


def _plan(tflops: float, decode_tokens_per_s: float) -> dict[str, Any]:
    here = {"tflops": tflops, "gb_s": 1, "memory_gb": 1000, "decode_tokens_per_s": decode_tokens_per_s}
    return {"node": "here", "mfu": 1, "nodes": {"here": here}}


def _run(job: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    return in_child("tests.bench.plan", json.dumps({"job": job, "plan": plan}))


def _config(folder: str, job: dict[str, Any], plan: dict[str, Any]) -> Any:
    from cluster.config import build
    from cluster.jobs import sections

    raw: dict[str, Any] = {
        "run": f"{folder}/run",
        "models": {"m": {"source": SMOLLM2, "max_model_len": MAX_LEN}},
        "plan": plan,
    }
    if "data" in job:
        file = str(DATA / f"{job['data']}.jsonl")
        names = {"topical_chat": ("topical_chat",), "alce": ("alce_asqa", "alce_eli5")}.get(job["data"], (job["data"],))
        judge: dict[str, Any] = {"model": "m"}
        if "k" in job:
            judge["icl"] = {"arm": "random", "k": job["k"]}
        raw["data"] = {
            "records": [file],
            "groups_share": dict.fromkeys(names, job["share"]),
            **({"pool": [file], "pool_share": 0.3} if "k" in job else {}),
        }
        raw["evaluate"] = {"judges": {"j": judge}, "aspects": [job["aspect"]], "max_unscored_share": 0.2}
    else:
        raw["instructions"] = {"files": [str(DATA / f"{job['files']}.jsonl")], "limit": job["limit"]}
        raw["distill"] = {"models": ["m"], "max_tokens": MAX_TOKENS, "temperature": 0.7, "top_p": 0.95}
    return build(raw, sections(), origin="bench")


def _child(job: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    from evaluation.batch import evaluate as batch
    from train import distill
    from train.planning import plan as planning

    with tempfile.TemporaryDirectory() as folder:
        run = _config(folder, job, plan)
        (planned,) = planning.main(run).summary["jobs"]
        rows = probed((lambda: batch.main(run)) if "data" in job else (lambda: distill.main(run)), folder)
        return {
            "planned_tokens_in": planned["tokens_in"],
            "planned_tokens_out": planned["tokens_out"],
            "planned_seconds": planned["wall_hours"] * 3600,
            "tokens_in": sum(row["prompt_tokens"] for row in rows),
            "tokens_out": sum(row["generated_tokens"] for row in rows),
            "seconds": seconds_of(rows),
        }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_child(**json.loads(sys.argv[-1]))))
    else:
        sys.exit(main())
