"""Ours beside other tools on the same records, model and server: `make bench-peers`.

On Topical-Chat, whole groups, 64 requests at once. A round runs each side once, in an order that turns from round to
round; the figures are medians over the rounds. The records begin with a mark of their side and round, so that no side
finds the prompts of another in the engine's prefix cache.

engine: plain `vllm.LLM.generate` on the tokens of batch's prompts, which is what the model alone allows. batch:
`evaluate` with an engine of its own, from the first request's begin to the last one's end. running: `evaluate`
through the server's evaluators, the whole job. http: `/v1/judge`. The peers: their own judges on the chat endpoint
(tests/peers/judges.py). The sides without an engine of their own are timed after one record that is not. Tokens are
the engine's own counts, cached ones and that record included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
# Not prometheus-eval: it asks one request after the other, and up to eleven times a record.
PEERS = ("deepeval_local", "deepeval_openai", "inspect_ai", "openevals", "mlflow")
OURS = ("engine", "batch", "running", "http")
NUM_PARALLEL = 64
ASPECT = "overall"
SETTLED_S = 3.0  # Ray reads the engine's counters every few seconds
COUNTERS = ("ray_vllm_prompt_tokens_total", "ray_vllm_generation_tokens_total")


def main() -> int:
    from tests.bench.batch import _head
    from tests.bench.measure import DATA

    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("--records", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="an embedded model")
    parser.add_argument("--sides", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--hour", type=float, default=0.10, metavar="USD", help="price of this machine, for the cost")
    arguments = parser.parse_args()
    if not DATA.exists():
        print(f"skipped: {DATA} is missing")
        return 0
    rows, sides = _head("topical_chat", arguments.records), arguments.sides
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), arguments.model) as served:
        for turn in range(arguments.rounds):
            for side in (*sides[turn % len(sides) :], *sides[: turn % len(sides)]):
                found[side].append(_side(side, Path(folder), served, _marked(rows, f"{side} {turn + 1}")))
                figures = _figures([found[side][-1]], rows, arguments.hour)
                print(f"round {turn + 1}: {side}: {json.dumps(figures)}", flush=True)
    if "http" in found:
        print(f"processor seconds of the server under http, last round: {found['http'][-1]['busy']}")
    print(_table({side: _figures(found[side], rows, arguments.hour) for side in sides}))
    return 0


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each side, with its speed over that of DeepEval's faster setting."""
    deepeval = [one["records_per_s"] for side, one in figures.items() if side.startswith("deepeval")]
    lines = [
        "| side | records/s | of DeepEval | scored | prompt, generated tokens a record | USD for 1,000 | Spearman |",
        "|---|---|---|---|---|---|---|",
    ]
    for side, one in figures.items():
        ratio = f"{one['records_per_s'] / max(deepeval):.2f}" if deepeval else ""
        value, low, high = one["spearman"]
        tokens = f"{one['prompt_tokens']}, {one['generated_tokens']}"
        cells = (f"{one['records_per_s']:.2f}", ratio, f"{one['scored']:.2f}", tokens, f"{one['usd_per_1000']:.4f}")
        lines.append(f"| {side} | {' | '.join(cells)} | {value:.2f} [{low:.2f}, {high:.2f}] |")
    return "\n".join(lines)


def _marked(rows: Sequence[dict[str, Any]], mark: str) -> list[dict[str, Any]]:
    return [{**row, "source": f"Conversation of {mark}.\n{row['source']}"} for row in rows]


@contextmanager
def _server(folder: Path, model: str) -> Iterator[Any]:
    from tests.serve.serving import configuration, free_port, serving

    port = free_port()
    config = configuration(
        folder,
        data={"records": [str(folder / "rows.jsonl")]},
        models={"m": {"source": f"embedded:{model}", "max_model_len": 4096, "engine_metrics": True}},
        evaluate={"judges": {"m": {"model": "m"}}, "aspects": [ASPECT]},
        serve={"port": port, "timeout_s": 600, "max_in_flight": 2 * NUM_PARALLEL},
    )
    with serving(config, port, patience_s=600) as served:
        yield served


def _side(side: str, folder: Path, served: Any, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Seconds, scores and engine tokens of one run of a side in a process of its own."""
    for name, part in (("rows", rows), ("first", rows[:1])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    before, busy_before = _tokens(served), _busy(served)
    out = folder / "out.json"
    python = ROOT / (".venv-peers" if side in PEERS else ".venv") / "bin" / "python"
    cluster = re.search(r"ray\.address=(\S+)", served.log.read_text())
    arguments = (side, str(folder), served.address, cluster.group(1) if cluster else "", str(out))
    command = [str(python), "-m", "tests.bench.peers", "--child", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # peers print a lot
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    told = dict(json.loads(out.read_text(encoding="utf-8")))
    if "tokens" not in told:
        busy = {name: seconds - busy_before.get(name, 0.0) for name, seconds in _busy(served).items()}
        told["busy"] = {name: round(seconds, 2) for name, seconds in busy.items() if seconds > 0.1}
        told["tokens"] = [after - start for after, start in zip(_tokens(served), before, strict=True)]
    assert len(told["scores"]) == len(rows)
    return told


def _busy(served: Any) -> dict[str, float]:
    """Processor seconds of the server's processes so far, by what they are."""
    found: dict[str, float] = {}
    for process in psutil.Process(served.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = (
                (process.cmdline() or [process.name()])[0].strip().removeprefix("ray::").removeprefix("ServeReplica:")
            )
            times = process.cpu_times()
            found[Path(name).name] = found.get(Path(name).name, 0.0) + times.user + times.system
    return found


def _tokens(served: Any) -> list[float]:
    """Prompt and generated tokens of the served engine so far, once the counters no longer move."""
    from prometheus_client.parser import text_string_to_metric_families

    found: list[list[float]] = []
    while len(found) < 2 or found[-1] != found[-2]:
        time.sleep(SETTLED_S)
        families = text_string_to_metric_families(served.get("/metrics").text)
        samples = {sample.name: sample.value for family in families for sample in family.samples}
        found.append([samples.get(name, 0.0) for name in COUNTERS])
    return found[-1]


def _figures(runs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], hour: float) -> dict[str, Any]:
    """Medians over the runs of a side. spearman: within the groups, of the last run, [95 % interval].

    `hour`: the price of an hour of this machine. usd_per_1000: of 1,000 records, at the measured speed.
    """
    from judging.stats.agreement import agreement
    from judging.stats.rows import Columns

    columns = Columns(
        group=[str(row["group"]) for row in rows],
        human=[row["scores"][ASPECT] for row in rows],
        score=runs[-1]["scores"],
        system=[row["system"] for row in rows],
    )
    spearman = agreement(columns, levels=("group",))["group.spearman"]
    speed = statistics.median(len(rows) / run["seconds"] for run in runs)
    whole = [run["whole_s"] for run in runs if "whole_s" in run]
    return {
        "records_per_s": round(speed, 3),
        **({"whole_s": round(statistics.median(whole), 1)} if whole else {}),
        "usd_per_1000": round(hour * 1000 / speed / 3600, 4),
        "scored": round(statistics.median(_share(run["scores"]) for run in runs), 3),
        "prompt_tokens": round(statistics.median(run["tokens"][0] for run in runs) / len(rows)),
        "generated_tokens": round(statistics.median(run["tokens"][1] for run in runs) / len(rows), 1),
        "spearman": [round(end, 2) for end in (spearman.value, spearman.low, spearman.high)],
    }


def _share(scores: Sequence[float | None]) -> float:
    return sum(score is not None for score in scores) / len(scores)


# ---------------------------------------------------------------------------- one run, in a process of its own


def _child(side: str, folder: str, address: str, cluster: str, out: str) -> None:
    lines = (Path(folder) / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "engine": lambda: _engine(Path(folder), rows),
        "batch": lambda: _batch(Path(folder)),
        "running": lambda: _running(Path(folder), cluster),
        "http": lambda: asyncio.run(_http(address, rows)),
    }
    told = known[side]() if side in known else _peer(side, address, rows)
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
            score = (await answer.json()).get("score")
            return None if score is None else float(score)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as http:
        await judged(http, rows[0])
        began = time.perf_counter()
        scores = await asyncio.gather(*(judged(http, row) for row in rows))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "scores": list(scores)}


def _peer(side: str, address: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from tests.peers import judges, offline

    offline.install()
    judge: Callable[..., list[judges.Graded]] = getattr(judges, side)
    endpoint = judges.Endpoint(f"{address}/v1", "m", NUM_PARALLEL)
    judge(endpoint, rows[:1])  # its imports, and the first connection
    began = time.perf_counter()
    found = judge(endpoint, rows)
    assert not offline.attempts
    return {"seconds": time.perf_counter() - began, "scores": [one.score for one in found]}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        sys.exit(main())
