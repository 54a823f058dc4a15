"""The command `inverdict init DATA`: looks at a file of texts and writes a configuration that judges them.

It prints what each column is taken for and why, reads every row through the same reader as the jobs, and writes nothing
where that reader would refuse the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError
from cluster.terminal import say, shown
from judging.column_guess import IGNORED, Guess, guess
from judging.column_profile import Profile, profiles
from judging.data_config import DataConfig
from judging.data_names import Names
from judging.datasets import Empty, Rejected, read_records
from judging.errors import InputError
from judging.hub import is_hub
from judging.readers import RowError, places_of, raw_rows
from judging.records import Record
from judging.tasks import load_task
from judging.wide import owner_of

MODEL, SOURCE = "qwen", "embedded:qwen2.5-coder-1.5b-instruct"
PROMPT_TOKENS, CHARS_A_TOKEN = 700, 3  # of the instruction; cautious for English
MODEL_LENGTHS = (4096, 8192, 16384, 32768)
MAX_REJECTED = 0.05  # of rows that are invalid and no duplicates; more of them stop the command
SCALES = ((0, 1), (1, 3), (1, 5), (0, 5), (1, 7), (1, 10), (0, 10), (0, 100), (-1, 1))
ANY_SCALE = (-1e12, 1e12)  # to read scores whose scale is to be guessed
SHOWN_CHARS = 36


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict init`."""
    parser.add_argument("data", metavar="DATA", help="a file or folder of texts, or hf://OWNER/NAME:SPLIT")
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="configuration to write (default: DATA's name)")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar="COLUMN=FIELD",
        help="what a column is: source, candidate, group, system, scores.overall; repeatable",
    )
    parser.add_argument(
        "--systems",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="A,B",
        help="columns that hold one system's text each (one row per question)",
    )
    parser.add_argument("--task", help="a task of Inverdict, or the path of a task file")


def _pair(text: str) -> tuple[str, str]:
    column, found, field = text.rpartition("=")
    if not found or not column or not field:
        raise argparse.ArgumentTypeError(f"{text!r} must be COLUMN=FIELD")
    return column, field


def main(args: argparse.Namespace) -> int:
    """Print the table and write the configuration. Raises InputError or UserError where the data cannot be judged."""
    name = _name(args.data)
    out: Path = args.out or Path(f"{name}.yaml")
    if out.exists():
        raise UserError(f"{out} exists. Remove it, or name another file with --out.", code="conflict")
    columns = profiles(_rows(args.data))
    if not columns:
        raise InputError(f"{args.data} has no readable row.", code="no_records")
    _check_given(args, columns)
    found = guess(columns, given=dict(args.map), systems=args.systems, task=args.task)
    print(shown(table(found, columns)))
    check(args.data, found, columns)
    data, reading = settled(_data(args.data, found))
    print(shown("\n".join(["", *reading.lines(found, data.get("scale"))])))
    with out.open("x", encoding="utf-8") as file:
        file.write(configuration(name, data, columns, found))
    say(f"Wrote {out}. Check it, then run: inverdict run {out}")
    return 0


def _check_given(args: argparse.Namespace, columns: Mapping[str, Profile]) -> None:
    """Raises UserError where an argument names a column that the data lack."""
    given = dict(args.map)
    for flag, names in (("--map", given), ("--systems", [one for one in args.systems if one not in given.values()])):
        if missing := [name for name in names if name not in columns]:
            raise UserError(
                f"{flag}: {args.data} has no column {missing[0]!r}. It has {', '.join(map(repr, columns))}.",
                code="unknown_key",
                key=missing[0],
            )


def _name(data: str) -> str:
    last = re.split(r"[/@]", data.rpartition(":")[0])[-1] if is_hub(data) else Path(data).resolve().stem
    return re.sub(r"[^\w.-]+", "-", last) or "data"


def _rows(data: str) -> Iterator[Mapping[str, Any]]:
    for place in places_of(data):
        for _, row in raw_rows(place):
            if not isinstance(row, RowError):
                yield row


def table(found: Guess, columns: Mapping[str, Profile]) -> str:
    """The columns as a table: name, what it is taken for, an example, and why."""
    rows = [("column", "taken for", "example", "why")]
    rows += [
        (name, _taken_for(found.fields[name], name, found.systems), _example(profile), found.reasons[name])
        for name, profile in columns.items()
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    )


def _taken_for(ours: str, name: str, systems: Sequence[str]) -> str:
    if ours == IGNORED:
        return "ignored"
    if ours in systems:
        return f"text of system {ours}"
    if owner := owner_of(ours, systems):
        return f"{ours.removeprefix(f'{owner}.')} of {owner}"
    return ours if ours != name or _is_field(ours) else "further text"


def _is_field(ours: str) -> bool:
    """Whether a name is that of a field of the record, and not of a further text."""
    return ours.partition(".")[0] in {field.name for field in dataclasses.fields(Record)} | {"scale"}


def _example(profile: Profile) -> str:
    if profile.num == 0:
        return ""
    whole = " ".join(str(profile.example).split())
    return whole if len(whole) <= SHOWN_CHARS else f"{whole[: SHOWN_CHARS - 3]}..."


def check(data: str, found: Guess, columns: Mapping[str, Profile]) -> None:
    """Raises InputError where no column is the candidate or the source."""
    if not found.systems and found.column_of("candidate") is None:
        texts = ", ".join(map(repr, found.texts)) or f"none looks like it: {', '.join(map(repr, columns))}"
        first = found.texts[0] if found.texts else "COLUMN"
        several = f", or if each is the text of one system --systems {','.join(found.texts)}" if found.texts else ""
        raise InputError(
            f"{data}: cannot tell which column is the candidate, the text to judge ({texts}). Name it with "
            f"--map {first}=candidate{several}.",
            code="missing_key",
            key="candidate",
        )
    if found.column_of("source") is None and not _are_chats(found, columns):
        raise InputError(
            f"{data}: cannot tell which column is the source, such as the question. Name it with --map COLUMN=source; "
            f"the columns are {', '.join(map(repr, columns))}.",
            code="missing_key",
            key="source",
        )


def _are_chats(found: Guess, columns: Mapping[str, Profile]) -> bool:
    texts = [columns[name] for name, ours in found.fields.items() if ours in ("candidate", *found.systems)]
    return all(one.is_chat and one.mean_messages > 1 for one in texts)


def _data(data: str, found: Guess) -> dict[str, Any]:
    """The section `data`, before the rows are read with it."""
    section: dict[str, Any] = {"records": [data]}
    if found.columns:
        section["columns"] = found.columns
    if found.systems:
        section["systems"] = list(found.systems)
    if not found.has_task:
        section["task"] = found.task
    if not found.has_group and not found.systems:
        section["group_by_source"] = True
    return section


def scale_of(low: float, high: float) -> tuple[int, int]:
    """The smallest of the usual scales that holds scores from `low` to `high`, or else their range."""
    fitting = [scale for scale in SCALES if scale[0] <= low and high <= scale[1]]
    return min(fitting, key=lambda ends: ends[1] - ends[0], default=(math.floor(low), max(math.ceil(high), 1)))


@dataclasses.dataclass
class Reading:
    """What the reader made of all rows."""

    records: int = 0
    empty: int = 0
    groups: set[int] = dataclasses.field(default_factory=set)
    systems: set[str] = dataclasses.field(default_factory=set)
    rated: Counter[str] = dataclasses.field(default_factory=Counter)
    tasks: set[str] = dataclasses.field(default_factory=set)
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)
    first: Rejected | None = None  # that is no duplicate
    unscaled: tuple[float, float] = (math.inf, -math.inf)  # lowest and highest score of rows without a scale
    names: Names = dataclasses.field(default_factory=Names)

    def add(self, row: Record | Rejected) -> None:
        """Count a row."""
        if isinstance(row, Rejected) and not isinstance(row, Empty):
            self.rejected[row.code] += 1
            if row.code != "duplicate_id":
                self.first = self.first or row
            return
        self.empty += isinstance(row, Empty)
        record = row.record if isinstance(row, Empty) else row
        self.records += 1
        self.groups.add(hash(record.group_key))
        self.systems.add(record.system)
        self.tasks.add(record.task)
        self.rated.update(list(record.scores))  # counts, not sums
        for aspect, score in record.scores.items():
            if (record.scales[aspect].low, record.scales[aspect].high) == ANY_SCALE:
                self.unscaled = (min(self.unscaled[0], score), max(self.unscaled[1], score))

    @property
    def share_rejected(self) -> float:
        return self.rejected.total() / max(1, self.records + self.rejected.total())

    def lines(self, found: Guess, scale: Sequence[float] | None) -> list[str]:
        """The summary for the terminal. `scale`: the guessed one."""
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
        if not systems:
            lines.append("No system names: map a column to `system` to compare systems.")
        if self.empty:
            lines.append(f"Empty texts: {self.empty}, kept without a score.")
        if duplicates := self.rejected["duplicate_id"]:
            lines.append(f"Rows that repeat an earlier text: {duplicates}, left out.")
        if self.first:
            lines.append(f"Invalid rows: {self.rejected.total() - duplicates}, left out; the first: {self.first}")
        return lines


def _read(section: Mapping[str, Any]) -> Reading:
    data, reading = DataConfig(**section), Reading()
    for row in read_records(data.records, names=reading.names, **data.reading()):
        reading.add(row)
    if problem := reading.names.problem(data):
        raise problem
    return reading


def settled(section: dict[str, Any]) -> tuple[dict[str, Any], Reading]:
    """The section with what only reading all rows tells, and that reading.

    Raises InputError where more than MAX_REJECTED of the rows are invalid.
    """
    reading = _read(section)
    if reading.rejected["missing_scale"]:
        unscaled = _read({**section, "scale": ANY_SCALE, "group_by_source": True}).unscaled
        section = {**section, "scale": list(scale_of(*unscaled))}
        reading = _read(section)
    if reading.rejected["duplicate_group"]:
        section = {**section, "group_by_source": True}
        reading = _read(section)
    unknown = {task: _aspects(task, reading) for task in sorted(reading.tasks)}
    if kept := {task: aspects for task, aspects in unknown.items() if aspects is not None}:
        section = {**section, "aspects": kept}
        reading = _read(section)
    invalid = reading.rejected.total() - reading.rejected["duplicate_id"]
    if reading.first and (reading.records == 0 or invalid / (reading.records + invalid) > MAX_REJECTED):
        raise reading.first.error()
    if reading.rejected:
        section = {**section, "max_rejected_share": math.ceil(reading.share_rejected * 1000) / 1000}
    return section, reading


def _aspects(task: str, reading: Reading) -> list[str] | None:
    """The rated aspects that the task has, where the rows are rated on others too; else None."""
    rated = {aspect for of, aspect in reading.names.rated if of == task}
    known = load_task(task).aspects
    return None if rated <= known.keys() else [aspect for aspect in known if aspect in rated]


def configuration(name: str, data: Mapping[str, Any], columns: Mapping[str, Profile], found: Guess) -> str:
    """The configuration as YAML."""
    longest = sum(one.longest for column, one in columns.items() if found.fields[column] != IGNORED)
    needed = longest / CHARS_A_TOKEN + PROMPT_TOKENS
    length = next((length for length in MODEL_LENGTHS if needed <= length), MODEL_LENGTHS[-1])
    sections = {
        "run": f"runs/{name}",
        "data": dict(data),
        "models": {MODEL: {"source": SOURCE, "max_model_len": length}},
        "evaluate": {"judges": {MODEL: {"model": MODEL}}, "vote": {"rule": "mean"}},
    }
    head = (
        "# Written by `inverdict init`. Keys: docs/config.md. Other models: `inverdict models list`, docs/models.md.\n"
        "# The model is downloaded once (1.1 GB).\n"
    )
    return head + yaml.safe_dump(sections, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
