"""Reads all rows for `inverdict init`, with the reader of the jobs, and adds to its configuration what they tell."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from cluster.errors import UserError
from judging.column_taken import Guess
from judging.data_config import DataConfig
from judging.data_names import Names
from judging.datasets import Empty, Rejected, read_records
from judging.errors import InputError
from judging.file_errors import first_problem
from judging.records import Record
from judging.tasks import load_task

MAX_REJECTED = 0.05  # of rows that are invalid and no duplicates; more of them stop the command
SCALES = ((0, 1), (1, 3), (1, 5), (0, 5), (1, 7), (1, 10), (0, 10), (0, 100), (-1, 1))
ANY_SCALE = (-1e12, 1e12)  # to read scores whose scale is to be guessed


def scale_of(low: float, high: float) -> tuple[int, int]:
    """The smallest of the usual scales that holds scores from `low` to `high`, or else their range, with 0."""
    fitting = [scale for scale in SCALES if scale[0] <= low and high <= scale[1]]
    return min(fitting, key=lambda ends: ends[1] - ends[0], default=(min(math.floor(low), 0), max(math.ceil(high), 1)))


@dataclasses.dataclass
class Reading:
    """What the reader made of all rows."""

    records: int = 0
    empty: int = 0
    groups: Counter[int] = dataclasses.field(default_factory=Counter)
    systems: set[str] = dataclasses.field(default_factory=set)
    rated: Counter[str] = dataclasses.field(default_factory=Counter)
    tasks: set[str] = dataclasses.field(default_factory=set)
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)
    repeated: int = 0  # rejected rows that repeat an earlier text
    reused: Rejected | None = None  # the first row with the id of another text
    first: Rejected | None = None  # that repeats no text
    lacks_group: bool = False
    unscaled: tuple[float, float] = (math.inf, -math.inf)  # lowest and highest score of rows without a scale
    contents: dict[int, int] = dataclasses.field(default_factory=dict)  # hash of the id -> hash of the first text
    is_repeat: bool = False  # whether the last row has the text of the first row with its id
    names: Names = dataclasses.field(default_factory=Names)

    def add(self, row: Record | Rejected) -> None:
        """Count a row."""
        if isinstance(row, Rejected) and not isinstance(row, Empty):
            self.rejected[row.code] += 1
            self.lacks_group = self.lacks_group or (row.code, row.key) == ("missing_key", "group")
            if row.code == "duplicate_id" and self.is_repeat:
                self.repeated += 1
                return
            self.first = self.first or row
            if row.code == "duplicate_id":
                self.reused = self.reused or row
            return
        self.empty += isinstance(row, Empty)
        record = row.record if isinstance(row, Empty) else row
        self.records += 1
        self.groups[hash(record.group_key)] += 1
        self.systems.add(record.system)
        self.tasks.add(record.task)
        self.rated.update(list(record.scores))  # counts, not sums

    def check(self, record: Record) -> None:
        """Look at a row before the reader compares it with the others; single ratings are on the scale too."""
        content = hash((record.group_key, record.system, record.source, record.candidate))
        self.is_repeat = self.contents.setdefault(hash(record.id), content) == content
        for aspect, scale in record.scales.items():
            if (scale.low, scale.high) == ANY_SCALE:
                single = [one for one in record.ratings.get(aspect, ()) if one is not None]
                points = [record.scores[aspect], *single] if aspect in record.scores else single
                self.unscaled = (min([self.unscaled[0], *points]), max([self.unscaled[1], *points]))

    @property
    def num_invalid(self) -> int:
        return self.rejected.total() - self.repeated

    @property
    def share_rejected(self) -> float:
        return self.rejected.total() / max(1, self.records + self.rejected.total())

    def lines(self, found: Guess, data: Mapping[str, Any]) -> list[str]:
        """The summary for the terminal. `data`: the section that is written."""
        scale = data.get("scale")
        systems = len(self.systems - {""})
        lines = [
            f"{self.records} texts, {len(self.groups)} groups, {systems or 'no'} system{'s' if systems != 1 else ''}, "
            f"task {', '.join(sorted(self.tasks))} ({found.task_reason})"
        ]
        if self.rated:
            rated = ", ".join(f"{aspect} {number}" for aspect, number in sorted(self.rated.items()))
            guessed = f", on a scale from {scale[0]} to {scale[1]} (guessed from them: see data.scale)" if scale else ""
            lines.append(f"Human scores: {rated}{guessed}")
        else:
            lines.append("No human scores: systems can be compared, but the judge's agreement stays unknown.")
        lines += [
            f"Scores on {', '.join(left)} are left out: the task {task} has {', '.join(load_task(task).aspects)}. "
            "A task file may have others: --task FILE.yaml."
            for task in data.get("aspects", {})
            if (left := _unknown_aspects(task, self))
        ]
        alone = sum(number == 1 for number in self.groups.values())
        if systems > 1 and alone > len(self.groups) / 2:
            lines.append(
                f"{alone} of {len(self.groups)} groups hold one text, so systems are not compared there: map the "
                "column that names the source to `group`."
            )
        if not systems:
            lines.append("No system names: map a column to `system` to compare systems.")
        if self.empty:
            lines.append(f"Empty texts: {self.empty}, kept without a score.")
        if self.repeated:
            lines.append(f"Rows that repeat an earlier text: {self.repeated}, left out.")
        if self.first:
            lines.append(f"Invalid rows: {self.num_invalid}, left out; the first: {self.first}")
        return lines


def _read(section: Mapping[str, Any]) -> Reading:
    try:
        data, reading = DataConfig(**section), Reading()
    except ValidationError as error:
        problem = first_problem(error)
        raise InputError(f"data.{problem.message}", code=problem.code, key=f"data.{problem.key}") from error
    for row in read_records(data.records, names=reading.names, check=reading.check, **data.reading()):
        reading.add(row)
    if unknown := reading.names.problem(data):
        raise unknown
    return reading


def settled(section: dict[str, Any], found: Guess) -> tuple[dict[str, Any], Reading]:
    """The section with what only reading all rows tells, and that reading.

    Raises InputError where more than MAX_REJECTED of the rows are invalid, where several texts have one id, and where
    the task lacks an aspect that is given (`--map`).
    """
    reading = _read(section)
    if reading.rejected["missing_scale"]:
        anyhow = _read({**section, "scale": ANY_SCALE, "group_by_source": True})
        if anyhow.unscaled[0] <= anyhow.unscaled[1]:
            section = {**section, "scale": list(scale_of(*anyhow.unscaled))}
            reading = _read(section)
        else:
            reading = anyhow
    if reading.rejected["duplicate_group"] or reading.lacks_group:
        section = {**section, "group_by_source": True}
        reading = _read(section)
    kept = {task: _known_aspects(task, reading) for task in sorted(reading.tasks) if _unknown_aspects(task, reading)}
    for task in kept:
        _refuse_given(task, _unknown_aspects(task, reading), found)
    if kept:
        section = {**section, "aspects": kept}
        reading = _read(section)
    if reading.reused:
        raise InputError(
            f"{reading.reused}, and their texts differ. Give every row an id of its own, or if the id names the "
            f"source: --map {found.column_of('id') or 'id'}=group.",
            code="duplicate_id",
            key="id",
        )
    if reading.first and (
        reading.records == 0 or reading.num_invalid / (reading.records + reading.num_invalid) > MAX_REJECTED
    ):
        raise reading.first.error()
    if reading.rejected:
        share = reading.share_rejected
        rounded = math.ceil(share * 1000) / 1000
        section = {**section, "max_rejected_share": rounded if rounded < 1 else share}
    return section, reading


def _rated(task: str, reading: Reading) -> set[str]:
    return {aspect for of, aspect in reading.names.rated if of == task}


def _unknown_aspects(task: str, reading: Reading) -> list[str]:
    """The rated aspects that the task lacks."""
    return sorted(_rated(task, reading) - load_task(task).aspects.keys())


def _known_aspects(task: str, reading: Reading) -> list[str]:
    return [aspect for aspect in load_task(task).aspects if aspect in _rated(task, reading)]


def _refuse_given(task: str, unknown: Sequence[str], found: Guess) -> None:
    """Raises UserError where a column is mapped by the user to an aspect that the task lacks."""
    for name, ours in found.fields.items():
        aspect = re.split(r"(?:^|\.)(?:scores|ratings)\.", ours)[-1]
        if found.reasons[name] == "given" and aspect != ours and aspect in unknown:
            raise UserError(
                f"--map {name}={ours}: the task {task} has no aspect {aspect!r}. It has "
                f"{', '.join(load_task(task).aspects)}; a task file may have others (--task FILE.yaml).",
                code="unknown_aspect",
                key=ours,
            )
