"""Before a job's first work: is every public data set that the configuration names for it on this machine."""

from __future__ import annotations

from typing import Any

from judging.public_data.places import check_here

READS_INSTRUCTIONS = ("run", "distill", "sft")
READS_DATA = ("run", "invert", "optimise", "feedback", "fit", "index", "fit-judge", "panel", "evaluate")


def main(run: Any, job: str) -> None:
    """Raises InputError, with all of them, where data sets are missing.

    Args:
        run: the configuration.
        job: a job's name, or `run` for all jobs.
    """
    places: list[str] = []
    if run.instructions is not None and job in READS_INSTRUCTIONS:
        places += run.instructions.files
    if run.data is not None and job in READS_DATA:
        places += [*run.data.records, *run.data.pool, *run.data.dev]
    if run.invert is not None and job in ("run", "invert"):
        places += run.invert.dev
    check_here(places)
