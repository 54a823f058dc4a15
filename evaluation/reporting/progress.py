"""The progress of a run, read from its files: which jobs are done, and how many verdicts each judge has given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artifacts import read_json
from cluster.errors import UserError
from cluster.jobs import JOBS
from cluster.parts import parts_of
from evaluation.batch.ingest import iter_rows
from evaluation.batch.pairs import FOLDER as PAIRS
from evaluation.batch.verdicts import aspects_of_row
from judging.errors import InputError

DONE, UNFINISHED = "done", "unfinished"
DEPTHS = ("fingerprint.json", "*/fingerprint.json", "*/*/fingerprint.json")  # a job has one folder, or one a model


def progress(run: Path) -> dict[str, Any]:
    """What is done, as plain values.

    Args:
        run: the run folder.

    Returns:
        jobs (job, state; `pairs` for the comparisons of `evaluate`), judges (judge, done, of: null where unknown),
        pairs (the same of comparisons that are not finished), has_report, version (changes with the rows) and problems
        (sentences).

    Raises:
        UserError: a manifest or fingerprint is damaged.
    """
    evaluation = run / "evaluate"
    pairs = evaluation / PAIRS
    states: dict[str, str | None] = {}
    for job in JOBS:
        states[job] = _state(run / job.replace("-", "_"))
        if job == "evaluate":
            states["pairs"] = _state(pairs)
    measured, problems = _measured(run / "report")
    has_report = states["evaluate"] == DONE and measured is not None and measured == _scores_hash(evaluation)
    states["report"] = DONE if has_report else None
    told = read_json(evaluation / "fingerprint.json") or {}
    section = told.get("evaluate") or {}
    judges = _judges(evaluation, section.get("judges", ()), section.get("aspects"), problems)
    asked = read_json(pairs / "fingerprint.json") if states["pairs"] == UNFINISHED else None
    chosen = (asked or {}).get("pairs", {}).get("aspects") or section.get("aspects")
    return {
        "jobs": [{"job": job, "state": state} for job, state in states.items() if state],
        "judges": judges,
        "pairs": _judges(pairs, (asked or {}).get("judges", ()), chosen, problems),
        "has_report": has_report,
        "version": _version(evaluation, judges),
        "problems": problems,
    }


def last_change(run: Path) -> int | None:
    """When a job of the run has begun or finished last, in ns; None where none has begun."""
    patterns = [one.replace("fingerprint", name) for one in DEPTHS for name in ("fingerprint", "manifest")]
    files = (path for job in JOBS for one in patterns for path in run.glob(f"{job.replace('-', '_')}/{one}"))
    return max((time for _, time in _with_times(files)), default=None)


def _state(folder: Path) -> str | None:
    """Of a job's folder; None where the job has not begun."""
    begun = [path.parent for pattern in DEPTHS for path in folder.glob(pattern)]
    # A job with one folder may have others' work below it, such as the evaluations of `panel` and `certify`.
    folders = begun[:1] if begun[:1] == [folder] else begun
    if not folders:
        return None
    return DONE if all((one / "manifest.json").exists() for one in folders) else UNFINISHED


def _measured(report: Path) -> tuple[str | None, list[str]]:
    """The hash of the scores that the report measures, None where there is no report; and what is wrong with it."""
    metrics = report / "metrics.json"
    try:
        return _measured_by(metrics, metrics.stat().st_mtime_ns) if (report / "report.html").exists() else None, []
    except FileNotFoundError:
        return None, []
    except UserError as error:
        return None, [f"{error} Until then there is no report."]


@lru_cache(maxsize=4)
def _measured_by(metrics: Path, time: int) -> str | None:
    """`time`: of the file's last change; it is large, and read whole."""
    return (read_json(metrics) or {}).get("scores_sha256")


def _scores_hash(evaluation: Path) -> str | None:
    done = read_json(evaluation / "manifest.json") or {}
    return (done.get("files") or {}).get("scores.parquet")


def _version(evaluation: Path, judges: Iterable[Mapping[str, Any]]) -> str:
    """Changes whenever the rows do: with each verdict, and with the manifest."""
    manifest = evaluation / "manifest.json"
    finished = manifest.stat().st_mtime_ns if manifest.exists() else 0
    return "-".join(map(str, (finished, *(one["done"] for one in judges))))


def _judges(
    folder: Path, names: Iterable[str], aspects: Iterable[str] | None, problems: list[str]
) -> list[dict[str, Any]]:
    """The verdicts of each judge below `folder`; damaged parts are told in `problems`."""
    total, found = _num_wanted(folder / "records", tuple(aspects) if aspects else None), []
    for name in names:
        counts = [_num_rows(part, time) for part, time in with_times(folder / "verdicts" / name)]
        known = sum(one for one in counts if one is not None)
        found.append({"judge": name, "done": known if total is None else min(known, total), "of": total})
        if lost := counts.count(None):
            problems.append(
                f"{lost} of the parts of {name}'s verdicts cannot be read and are left out. `inverdict evaluate` "
                "computes them again."
            )
    return found


def with_times(folder: Path) -> list[tuple[Path, int]]:
    """The parts and their times of change in ns; one that is being replaced is left out."""
    return _with_times(parts_of(folder))


def _with_times(files: Iterable[Path]) -> list[tuple[Path, int]]:
    found = []
    for file in files:
        with suppress(OSError):
            found.append((file, file.stat().st_mtime_ns))
    return found


@lru_cache(maxsize=100_000)
def _num_rows(part: Path, time: int) -> int | None:
    """The rows of a part, from its footer; None where it is damaged. `time`: of its last change."""
    try:
        return int(pq.read_metadata(part).num_rows)
    except (pa.ArrowException, OSError):
        return None


def _num_wanted(records: Path, aspects: tuple[str, ...] | None) -> int | None:
    """How many verdicts every judge is to give; None before the records are written, or where it cannot be known."""
    if not records.is_dir():  # it appears complete
        return None
    return _counted(records, records.stat().st_mtime_ns, aspects)


@lru_cache(maxsize=4)
def _counted(records: Path, time: int, aspects: tuple[str, ...] | None) -> int | None:
    try:
        rows = iter_rows(parts_of(records), ("task", "scores"))
        return sum(len(aspects_of_row(row, aspects)) for row in rows)
    except (InputError, pa.ArrowException, OSError):  # a task file that is not found from here
        return None
