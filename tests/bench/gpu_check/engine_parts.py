"""Parts of the GPU check that need vLLM and Ray: batch against plain vLLM, fitted judges, pairs, training, serving.

Each takes a folder to work in and a `Load`, and returns its figures and whether they are as they must be. `batch`
leaves its verdicts in the folder of the check, for `labels` to compare.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.measure import ROOT, in_child

MAX_LEN = 2048
LABELS = ("1", "2", "3", "4", "5")
# Of plain vLLM's records/s; and of the prompt tokens that the prefix cache can return.
MIN_RATIO, MIN_CACHED = 0.9, 0.95
# bfloat16 against float32: of an expected score from 1 to 5.
MAX_MEAN_DIFFERENCE = {True: 0.1, False: 0.002}
NUM_COMPARED = 64


class Load(NamedTuple):
    """`records`: of `batch`, the other parts take a share of it; `clients`: concurrent requests to the server."""

    model: str
    has_gpu: bool
    records: int
    clients: int

    @property
    def spec(self) -> dict[str, Any]:
        small = {} if self.has_gpu else {"kv_cache_gib": 1, "dtype": "float32"}
        return {"source": self.model, "max_model_len": MAX_LEN, **({"num_gpus": 1} if self.has_gpu else small)}


def rows(number: int) -> list[dict[str, Any]]:
    """The constructed questions with their answers, as often as needed; a copy differs from the first words on."""
    lines = (ROOT / "examples" / "constructed.jsonl").read_text(encoding="utf-8").splitlines()
    known = [row for row in map(json.loads, lines) if row["task"] == "qa"]
    return [
        {**row, "id": f"{row['id']}-{copy}", "group": f"{row['group']}-{copy}", "source": f"({copy}) {row['source']}"}
        for copy in range(1 + number // len(known))
        for row in known
    ][:number]


def configured(folder: Path, load: Load, number: int, **sections: Any) -> Any:
    """A checked configuration over so many records, with the model `m`."""
    from cluster.config import build
    from cluster.jobs import sections as known

    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(number)), encoding="utf-8")
    data = {"records": [str(file)], "labels": "constructed", **sections.pop("data", {})}
    raw = {"run": str(folder / "run"), "data": data, "models": {"m": load.spec}, **sections}
    return build(raw, known(), origin="gpu-check")


# ---------------------------------------------------------------------------- batch


def batch(folder: Path, load: Load) -> dict[str, Any]:
    """Records a second of `evaluate` and of plain `vllm.LLM` on the same prompts; prompt tokens from the cache."""
    module = "tests.bench.gpu_check.engine_parts"
    ours, raw = (in_child(module, side, str(folder), json.dumps(load)) for side in ("pipeline", "raw"))
    cached = ours["cached_tokens"] / max(1, ours["cacheable_tokens"])
    ratio = ours["records_per_s"] / raw["records_per_s"]
    return {
        "records": ours["records"],
        "records_per_s": round(ours["records_per_s"], 1),
        "plain_vllm_records_per_s": round(raw["records_per_s"], 1),
        "ratio": round(ratio, 3),
        "prompt_tokens_per_s": round(ours["prompt_tokens_per_s"]),
        "cached_share_of_cacheable": round(cached, 3),
        "ok": ratio >= MIN_RATIO and cached >= MIN_CACHED,
    }


def _pipeline(folder: Path, load: Load) -> dict[str, Any]:
    from evaluation.batch import evaluate
    from tests.bench.batch import _cacheable, probed, seconds_of

    run = configured(folder, load, load.records, evaluate={"judges": {"m": {"model": "m"}}})
    seen = probed(lambda: evaluate.main(run), str(folder))
    prompts, seconds = _prompts(run), seconds_of(seen)
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return {
        "records": len(seen),
        "records_per_s": len(seen) / seconds,
        "prompt_tokens_per_s": sum(one["prompt_tokens"] for one in seen) / seconds,
        "cached_tokens": sum(one["cached_tokens"] for one in seen),
        "cacheable_tokens": _cacheable([one["ids"] for one in prompts], 16 if load.has_gpu else 32),
    }


def _prompts(run: Any) -> list[dict[str, Any]]:
    """What the pipeline asks, in its order: id and token ids with those of the labels."""
    from cluster.tokens import encoder_of
    from evaluation.judges.judge_config import build_judge
    from judging.datasets import read_records

    known = encoder_of(run.models["m"])
    judge = build_judge("m", run.evaluate.judges["m"], [("qa", "overall")], {}, known.special_tokens())
    found = []
    for record in read_records(run.data.records):
        asked = judge.request(record, "overall")  # type: ignore[arg-type]
        spelled = known.label_tokens(asked["reply_prefix"], tuple(asked["labels"]))
        ids = known.prompt_ids(asked["prompt"], spelled.prefix, MAX_LEN)
        found.append({"id": record.id, "ids": ids, "labels": spelled.ids})  # type: ignore[union-attr]
    return found


def _raw(folder: Path, load: Load) -> dict[str, Any]:
    """The same token ids given to `vllm.LLM.generate` with the same engine settings; engine start excluded."""
    from cluster.generate import vllm_arguments
    from cluster.model_specs import VllmSpec

    spec = VllmSpec(**load.spec, **({} if load.has_gpu else {"num_gpus": 0}))
    given = vllm_arguments(spec)
    os.environ |= given["runtime_env"]["env_vars"]
    from vllm import LLM, SamplingParams, TokensPrompt

    from cluster import models

    prompts = json.loads((folder / "prompts.json").read_text())
    model = LLM(str(models.resolve(spec.source).path), **given["engine_kwargs"])
    asked = [TokensPrompt(prompt_token_ids=one["ids"]) for one in prompts]
    params = [SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=list(one["labels"])) for one in prompts]
    model.generate(asked[:8], params[:8], use_tqdm=False)
    model.reset_prefix_cache()
    began = time.perf_counter()
    model.generate(asked, params, use_tqdm=False)
    return {"records_per_s": len(prompts) / (time.perf_counter() - began)}


# ---------------------------------------------------------------------------- labels


def labels(folder: Path, load: Load) -> dict[str, Any]:
    """The expected scores of `batch` against those of transformers in float32 on the same token ids."""
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoModelForCausalLM

    from cluster import models

    verdicts = {
        row["id"]: row for part in sorted(folder.glob("run/evaluate/verdicts/m/part-*")) for row in _read(pq, part)
    }
    prompts = json.loads((folder / "prompts.json").read_text())[:NUM_COMPARED]
    model = AutoModelForCausalLM.from_pretrained(models.resolve(load.model).path, dtype=torch.float32).eval()
    model = model.to("cuda" if load.has_gpu else "cpu")
    pairs = []
    for one in prompts:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([one["ids"]], device=model.device)).logits[0, -1, one["labels"]]
        share = logits.float().softmax(-1).cpu()
        pairs.append((verdicts[one["id"]]["score"], float((share * torch.arange(1.0, 6.0)).sum())))
    differences = [abs(ours - exact) for ours, exact in pairs]
    mean = sum(differences) / len(differences)
    return {
        "compared": len(pairs),
        "mean_difference_of_a_score": mean,
        "largest": max(differences),
        "distinct_scores": f"{len({ours for ours, _ in pairs})} of {len({exact for _, exact in pairs})}",
        "ok": mean <= MAX_MEAN_DIFFERENCE[load.has_gpu],
    }


def _read(pq: Any, part: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(part, columns=["id", "score"]).to_pylist()
    return found


# ---------------------------------------------------------------------------- fitted judges, pairs


def fitted(folder: Path, load: Load) -> dict[str, Any]:
    """Prompt tokens a second of a judge fitted at half depth, and of the same model zero-shot."""
    from tests.bench.fitted import measured

    found = measured(load.model, max(1, load.records // 320))
    return {
        "fitted_tokens_per_s": round(found["fitted"]["tokens_a_second"]),
        "zero_shot_tokens_per_s": round(found["zero_shot"]["tokens_a_second"]),
        "ratio": round(found["ratio"], 2),
        "ok": found["ratio"] >= 1.8,
    }


def pairs(folder: Path, load: Load) -> dict[str, Any]:
    """Comparisons a second with both orders of every pair, and the share whose outcome the order changes."""
    from evaluation.batch import evaluate
    from tests.bench.batch import probed, seconds_of

    judges = {"judges": {"m": {"model": "m"}}, "pairs": {"against": "all"}}
    run = configured(folder, load, max(10, load.records // 20), evaluate=judges)
    outcome: list[Any] = []
    seen = probed(lambda: outcome.append(evaluate.main(run)), str(folder))
    asked = len(seen) - outcome[0].summary["num_records"]
    return {"comparisons": asked, "requests_per_s": round(len(seen) / seconds_of(seen), 1), "ok": asked > 0}


# ---------------------------------------------------------------------------- training


def sft(folder: Path, load: Load, *, num_workers: int = 1, parallel: str = "ddp") -> dict[str, Any]:
    """`sft` with LoRA on the instruction set of examples/: tokens a second, MFU, memory, dev loss."""
    from train.finetuning import sft as job

    config = {
        "models": {"m": {"base": "m", "mode": "white_box"}},
        "epochs": 2 if load.has_gpu else 0.2,
        "num_workers": num_workers,
        "parallel": parallel,
        "use_gpu": load.has_gpu,
        "effective_batch": 8 * num_workers,
        "per_device_batch": 8,
        "cutoff": 512,
    }
    instructions = {"files": [str(ROOT / "examples" / "instructions.jsonl")]}
    found = job.main(configured(folder, load, 5, instructions=instructions, sft=config))
    told = found.summary["trainings"]["m/inverse"]
    facts = json.loads((Path(told["folder"]) / "training.json").read_text())
    return {
        "tokens_per_s": round(facts["tokens_per_s"]),
        "mfu": facts.get("mfu"),
        "peak_gib": round(facts["peak_memory_bytes"] / 2**30, 1),
        "dev_loss": [round(facts["loss_before"], 3), round(facts["loss_after"], 3)],
        "ok": facts["loss_after"] < facts["loss_before"],
    }


def fsdp(folder: Path, load: Load) -> dict[str, Any]:
    """The same over two GPUs with FSDP."""
    return sft(folder, load, num_workers=2, parallel="fsdp")


# ---------------------------------------------------------------------------- serving


def serving(folder: Path, load: Load) -> dict[str, Any]:
    """Requests a second and latency of `/v1/judge`, each with texts of its own."""
    from tests.bench.serve import _percentile, _run, _start

    number = load.records // 2
    limits = {"max_in_flight": 2 * load.clients}
    run = _run(str(folder), models={"m": load.spec}, evaluate={"judges": {"m": {"model": "m"}}}, serve=limits)
    began = time.perf_counter()
    address = _start(run)
    ready = time.perf_counter() - began
    bodies = [
        {"task": row["task"], "fields": {"source": row["source"], "candidate": row["candidate"]}}
        for row in rows(number)
    ]
    latencies, rate, statuses = asyncio.run(_asked(address, bodies, load.clients))
    return {
        "ready_s": round(ready),
        "requests": number,
        "clients": load.clients,
        "requests_per_s": round(rate, 1),
        "p50_ms": round(_percentile(latencies, 0.5)),
        "p99_ms": round(_percentile(latencies, 0.99)),
        "statuses": statuses,
        "ok": set(statuses) == {200},
    }


async def _asked(address: str, bodies: list[dict[str, Any]], clients: int) -> tuple[list[float], float, dict[int, int]]:
    import aiohttp

    waiting, latencies, statuses = iter(bodies), [], {}  # type: ignore[var-annotated]
    async with aiohttp.ClientSession() as http:

        async def client() -> None:
            for body in waiting:
                began = time.perf_counter()
                async with http.post(f"{address}/v1/judge", json=body) as answer:
                    await answer.read()
                latencies.append(1e3 * (time.perf_counter() - began))
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
    return latencies, len(bodies) / (time.perf_counter() - began), statuses


if __name__ == "__main__":
    import sys

    _, _, side, place, given = sys.argv
    print(json.dumps({"pipeline": _pipeline, "raw": _raw}[side](Path(place), Load(*json.loads(given)))))
