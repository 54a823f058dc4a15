"""The progress of a run, read from its files: which jobs are done, and how many verdicts each judge has given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artifacts import read_json
from cluster.jobs import JOBS
from cluster.parts import parts_of
from evaluation.batch.ingest import iter_rows
from evaluation.batch.verdicts import aspects_of_row
from judging.errors import InputError

DONE, UNFINISHED = "done", "unfinished"
DEPTHS = ("fingerprint.json", "*/fingerprint.json", "*/*/fingerprint.json")  # a job has one folder, or one a model


def progress(run: Path) -> dict[str, Any]:
    """What is done, as plain values.

    Args:
        run: the run folder.

    Returns:
        jobs (job, state), judges (judge, done, of: null where unknown), has_report, version (changes with the rows) and
        problems (sentences).

    Raises:
        UserError: a manifest or fingerprint is damaged.
    """
    evaluation = run / "evaluate"
    states = {job: _state(run / job.replace("-", "_")) for job in JOBS if job != "report"}
    has_report = states["evaluate"] == DONE and _is_current(run / "report", evaluation)
    states["report"] = DONE if has_report else None
    judges, damaged = _judges(evaluation, read_json(evaluation / "fingerprint.json") or {})
    return {
        "jobs": [{"job": job, "state": state} for job, state in states.items() if state],
        "judges": judges,
        "has_report": has_report,
        "version": _version(evaluation, judges),
        "problems": [
            f"{number} of the parts of {name}'s verdicts cannot be read and are left out. `inverdict evaluate` "
            "computes them again."
            for name, number in damaged.items()
        ],
    }


def _state(folder: Path) -> str | None:
    """Of a job's folder; None where the job has not begun."""
    begun = [path.parent for pattern in DEPTHS for path in folder.glob(pattern)]
    # A job with one folder may have others' work below it, such as the evaluations of `panel` and `certify`.
    folders = begun[:1] if begun[:1] == [folder] else begun
    if not folders:
        return None
    return DONE if all((one / "manifest.json").exists() for one in folders) else UNFINISHED


def _is_current(report: Path, evaluation: Path) -> bool:
    """Whether the report is there and is that of this evaluation, not of one before `--retry-failed`."""
    if not (report / "report.html").exists():
        return False
    measured, done = read_json(report / "metrics.json") or {}, read_json(evaluation / "manifest.json") or {}
    known = done.get("files", {}).get("scores.parquet")
    return known is not None and measured.get("scores_sha256") == known


def _version(evaluation: Path, judges: Iterable[Mapping[str, Any]]) -> str:
    """Changes whenever the rows do: with each verdict, and with the manifest."""
    manifest = evaluation / "manifest.json"
    finished = manifest.stat().st_mtime_ns if manifest.exists() else 0
    return "-".join(map(str, (finished, *(one["done"] for one in judges))))


def _judges(evaluation: Path, fingerprint: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The verdicts of each judge, and the number of damaged parts of those that have some."""
    section, found, damaged = fingerprint.get("evaluate") or {}, [], {}
    aspects = tuple(section["aspects"]) if section.get("aspects") else None
    total = _num_wanted(evaluation / "records", aspects)
    for name in section.get("judges", ()):
        counts = [_num_rows(part, time) for part, time in with_times(evaluation / "verdicts" / name)]
        known = sum(one for one in counts if one is not None)
        found.append({"judge": name, "done": known if total is None else min(known, total), "of": total})
        if lost := counts.count(None):
            damaged[name] = lost
    return found, damaged


def with_times(folder: Path) -> list[tuple[Path, int]]:
    """The parts and their times of change in ns; one that is being replaced is left out."""
    found = []
    for part in parts_of(folder):
        try:
            found.append((part, part.stat().st_mtime_ns))
        except OSError:
            continue
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
