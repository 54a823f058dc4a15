"""Time a record and memory of `evaluate` as the number of records grows: the scripted engine over four logical nodes.

`python -m tests.bench.scale 100000 1000000` prints a line for each number, then each against the first. The nodes are
Ray nodes of this one machine, so what is measured is the pipeline's own work and its bookkeeping, not a network.
`python -m tests.bench.scale driver 100000 400000` measures what one process does alone: reading the input and voting.
`python -m tests.bench.scale report 100000 400000` measures the report: its time, memory and the size of its pages.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.batch import _record, _run_config
from tests.bench.measure import PeakMemory, in_child
from tests.cluster.heads import Head, head, node

NUM_NODES, CPUS_A_NODE = 4, 2
BLOCK_ROWS = 1024
PHASES = ("read", "ask", "vote")


def main(sizes: Sequence[str]) -> int:
    if sizes[:1] in (["driver"], ["report"]):
        for size in sizes[1:]:
            print(json.dumps(in_child("tests.bench.scale", sizes[0], size)), flush=True)
        return 0
    found = [in_child("tests.bench.scale", size) for size in sizes or ("100000",)]
    for one in found:
        print(json.dumps(one), flush=True)
    first = found[0]
    for one in found[1:]:
        print(
            json.dumps(
                {
                    "num_records": one["num_records"],
                    "of": first["num_records"],
                    "time_a_record_ratio": round(one["us_a_record"] / first["us_a_record"], 3),
                    "target_time_ratio": 1.15,
                    "peak_ratio": round(one["peak_mib"] / first["peak_mib"], 3),
                    "driver_peak_ratio": round(one["driver_peak_mib"] / first["driver_peak_mib"], 3),
                }
            )
        )
    return 0


def _child(num: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, PeakMemory() as memory:
        records = Path(folder) / "records.jsonl"
        _write_records(records, num)
        first = stack.enter_context(head(num_cpus=CPUS_A_NODE))
        for number in range(1, NUM_NODES):
            stack.enter_context(node(first, f"node{number}", num_cpus=CPUS_A_NODE))
        _connect(first)
        models = {"fake": {"backend": "scripted", "num_engines": NUM_NODES}}
        run = _run_config(folder, [str(records)], models, block_rows=BLOCK_ROWS)
        seconds = _timed(run, Path(folder) / "run" / "evaluate", num)
        driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "num_records": num,
        "records_per_s": round(num / sum(seconds.values())),
        "us_a_record": round(1e6 * sum(seconds.values()) / num, 1),
        **{f"{phase}_us_a_record": round(1e6 * seconds[phase] / num, 1) for phase in PHASES},
        "peak_mib": round(memory.peak_mib),
        "driver_peak_mib": round(driver),
    }


def _driver_child(num: int) -> dict[str, Any]:
    """No Ray: the records are read and regrouped, verdicts lie there, the vote joins them."""
    from cluster.parts import parts_of, write_part
    from evaluation.batch.ingest import ingest, iter_rows
    from evaluation.batch.scores import write_scores
    from evaluation.batch.verdicts import VERDICT_SCHEMA
    from evaluation.judges.aggregation import Ballot
    from evaluation.judges.judge_config import build_judge

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_records(folder / "records.jsonl", num)
        run = _run_config(place, [str(folder / "records.jsonl")], {"fake": {"backend": "scripted"}})
        start = time.perf_counter()
        ingest(run.data, folder / "records", block_rows=BLOCK_ROWS, check=lambda _: None)
        read = time.perf_counter() - start
        (folder / "verdicts" / "fake").mkdir(parents=True)
        for part in parts_of(folder / "records"):
            ids = [row["id"] for row in iter_rows([part], ("id",))]
            rows = [{"id": id, "aspect": "overall", "score": 3.0, "mode": "expected", "label_mass": 0.9} for id in ids]
            write_part(folder / "verdicts" / "fake", rows, VERDICT_SCHEMA, ids)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        judge = build_judge("fake", run.evaluate.judges["fake"], [("qa", "overall")], {}, ())
        start = time.perf_counter()
        told = write_scores(folder, {"fake": judge}, Ballot(run.evaluate.vote))
        vote = time.perf_counter() - start
        assert told["num_scores"] == num
    return {
        "num_records": num,
        "read_us_a_record": round(1e6 * read / num, 1),
        "vote_us_a_record": round(1e6 * vote / num, 1),
        "mib_before_the_vote": round(before / 1024),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _report_child(num: int) -> dict[str, Any]:
    """A finished evaluation with labels on every record, then its report."""
    from evaluation.batch import evaluate as batch
    from evaluation.reporting import report

    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        _write_records(records, num)
        run = _run_config(folder, [str(records)], {"fake": {"backend": "scripted"}}, block_rows=BLOCK_ROWS)
        batch.main(run)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        report.main(run)
        seconds = time.perf_counter() - start
        pages = {page.name: page.stat().st_size for page in Path(folder).glob("run/report/*.html")}
    return {
        "num_records": num,
        "seconds": round(seconds, 1),
        "us_a_record": round(1e6 * seconds / num, 1),
        "mib_before": round(before),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pages_mib": {name: round(size / 2**20, 2) for name, size in sorted(pages.items())},
    }


def _write_records(path: Path, num: int) -> None:
    with path.open("w") as file:
        for place in range(num):
            file.write(json.dumps(_record(place)) + "\n")


def _connect(first: Head) -> None:
    # Ray reads how it is to authenticate when it is imported.
    os.environ |= {key: value for key, value in first.environment().items() if key.startswith("RAY_")}
    import ray

    from cluster import runtime

    ray.init(address=first.address, log_to_driver=False)
    runtime.quiet_data()
    deadline = time.monotonic() + 60
    while sum(one["Alive"] for one in ray.nodes()) < NUM_NODES:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _timed(run: Any, folder: Path, num: int) -> dict[str, float]:
    """Seconds of each phase, by when its last file was written."""
    from evaluation.batch import evaluate as batch

    began = time.time()
    judged = batch.main(run)
    assert judged.summary["num_scores"] == num
    read = (folder / "records" / "counts.json").stat().st_mtime
    asked = max(part.stat().st_mtime for part in folder.glob("verdicts/fake/part-*"))
    return {"read": read - began, "ask": asked - read, "vote": (folder / "scores.parquet").stat().st_mtime - asked}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        children = {"driver": _driver_child, "report": _report_child}
        print(json.dumps(children.get(sys.argv[2], _child)(int(sys.argv[-1]))))
    else:
        sys.exit(main(sys.argv[1:]))
