"""Ours beside other tools on the same records, model and server: `make bench-peers`.

On Topical-Chat, whole groups, 64 requests at once. A round runs each side once, in an order that turns from round to
round; the figures are medians over the rounds. The records begin with a mark of their side and round, so that no side
finds the prompts of another in the engine's prefix cache.

engine: plain `vllm.LLM.generate` on the tokens of batch's prompts, which is what the model alone allows. batch:
`evaluate` with an engine of its own, from the first request's begin to the last one's end. running: `evaluate`
through the server's evaluators. http: `/v1/judge`. The peers: their own judges on the chat endpoint, with the question
and the ends of our rubric as their criterion (tests/peers/judges.py). The sides without an engine of their own are
timed after one record that is not; "whole job" is what a user waits for, the engine's start included. Tokens are the
engine's own counts, cached ones and that record included. A side that fails is a line with its error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.bench.peer_sides import ASPECT, NUM_PARALLEL

ROOT = Path(__file__).parents[2]
# Not prometheus-eval: it asks one request after the other, and up to eleven times a record.
PEERS = ("deepeval_local", "deepeval_openai", "inspect_ai", "openevals", "mlflow")
OURS = ("engine", "batch", "running", "http")
LIMIT_S = 1800.0  # of a side in a round
SETTLED_S = 3.0  # Ray reads the engine's counters every few seconds
COUNTERS = ("ray_vllm_prompt_tokens_total", "ray_vllm_generation_tokens_total")


def main() -> int:
    from judging.errors import InputError
    from judging.public_data.places import located
    from tests.bench.measure import DATA

    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("--records", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="an embedded model")
    parser.add_argument("--sides", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--hour", type=float, default=0.10, metavar="USD", help="price of this machine, for the cost")
    arguments = parser.parse_args()
    if DATA.exists():
        os.environ.setdefault("INVERDICT_DATA", str(DATA))
    try:
        file = located("dataset:topical_chat").path
    except InputError as error:
        print(error)
        return 2
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows, sides = sorted(lines, key=lambda row: str(row["group"]))[: arguments.records], arguments.sides
    if not rows or arguments.rounds < 1:
        parser.error(f"{file} has {len(lines)} records; --records and --rounds must leave at least one of each")
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), arguments.model) as served:
        for turn in range(arguments.rounds):
            for side in (*sides[turn % len(sides) :], *sides[: turn % len(sides)]):
                try:
                    found[side].append(_side(side, Path(folder), served, _marked(rows, f"{side} {turn + 1}")))
                except (AssertionError, subprocess.TimeoutExpired) as error:  # the others go on
                    failed[side] = " ".join(str(error).split())[-200:]
                    print(f"round {turn + 1}: {side} failed: {failed[side]}", flush=True)
                    continue
                figures = _figures([found[side][-1]], rows, arguments.hour)
                print(f"round {turn + 1}: {side}: {json.dumps(figures)}", flush=True)
    if found.get("http"):
        print(f"processor seconds of the server under http, last round: {found['http'][-1]['busy']}")
    print(_table({side: _figures(runs, rows, arguments.hour) for side, runs in found.items() if runs}))
    for side, error in failed.items():
        print(f"{side}: {arguments.rounds - len(found[side])} of {arguments.rounds} rounds failed: {error}")
    return 1 if failed else 0


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each side, with its speed over that of DeepEval's faster setting."""
    deepeval = [one["records_per_s"] for side, one in figures.items() if side.startswith("deepeval")]
    lines = [
        "| side | records/s (range) | times DeepEval's | whole job, s | scored | prompt, generated tokens a record | "
        "USD for 1,000 | Spearman |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side, one in figures.items():
        ratio = f"{one['records_per_s'] / max(deepeval):.2f}" if deepeval else ""
        value, low, high = one["spearman"]
        tokens = f"{one['prompt_tokens']}, {one['generated_tokens']}"
        cells = (
            f"{one['records_per_s']:.2f} ({one['range'][0]} to {one['range'][1]})",
            ratio,
            f"{one['whole_s']:.0f}",
            f"{one['scored']:.2f}",
            tokens,
            f"{one['usd_per_1000']:.4f}",
        )
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
    arguments = (side, str(folder), served.address, cluster.group(1) if cluster else "", str(out), _criterion())
    command = [str(python), "-m", "tests.bench.peer_sides", *arguments]
    # Peers print a lot.
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    told = dict(json.loads(out.read_text(encoding="utf-8")))
    if "tokens" not in told:
        busy = {name: seconds - busy_before.get(name, 0.0) for name, seconds in _busy(served).items()}
        told["busy"] = {name: round(seconds, 2) for name, seconds in busy.items() if seconds > 0.1}
        told["tokens"] = [after - start for after, start in zip(_tokens(served), before, strict=True)]
    assert len(told["scores"]) == len(rows)
    return told


def _criterion() -> str:
    """The question of our rubric and the two ends of its scale; a peer's own scale may differ."""
    from judging.tasks import load_task

    aspect = load_task("dialogue").aspects[ASPECT]
    low, high = (aspect.labels[int(end)] for end in aspect.scale)
    return f"{aspect.question} At best: {high} At worst: {low}"


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
        found.append([samples.get(name, 0.0) for name in COUNTERS])  # no counter before the first request
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
    speeds = [len(rows) / run["seconds"] for run in runs]
    speed = statistics.median(speeds)
    return {
        "records_per_s": round(speed, 3),
        "range": [round(end, 2) for end in (min(speeds), max(speeds))],
        "whole_s": round(statistics.median(run.get("whole_s", run["seconds"]) for run in runs), 1),
        "usd_per_1000": round(hour * 1000 / speed / 3600, 4),
        "scored": round(statistics.median(_share(run["scores"]) for run in runs), 3),
        "prompt_tokens": round(statistics.median(run["tokens"][0] for run in runs) / len(rows)),
        "generated_tokens": round(statistics.median(run["tokens"][1] for run in runs) / len(rows), 1),
        "spearman": [round(end, 2) for end in (spearman.value, spearman.low, spearman.high)],
    }


def _share(scores: Sequence[float | None]) -> float:
    return sum(score is not None for score in scores) / len(scores)


if __name__ == "__main__":
    sys.exit(main())
