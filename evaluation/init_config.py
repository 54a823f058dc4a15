"""The command `inverdict init DATA`: looks at a file of texts and writes a configuration that judges them.

It prints what each column is taken for and why, reads every row through the same reader as the jobs, and writes nothing
where that reader would refuse the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError
from cluster.terminal import say, shown
from evaluation.init_reading import settled
from judging.column_guess import guess
from judging.column_profile import Profile, profiles
from judging.column_taken import IGNORED, Guess
from judging.columns import INNER, KNOWN, task_fields, trimmed
from judging.errors import InputError
from judging.hub import is_hub
from judging.public_data.places import PREFIX, is_dataset
from judging.readers import RowError, places_of, raw_rows
from judging.records import Record
from judging.wide import owner_of

MODEL, SOURCE = "qwen", "embedded:qwen2.5-coder-1.5b-instruct"
PROMPT_TOKENS, CHARS_A_TOKEN = 700, 3  # of the instruction; cautious for English
MODEL_LENGTHS = (4096, 8192, 16384, 32768)
SHOWN_CHARS = 36
# What the reader's messages call by its name in the configuration, which is not written yet.
HERE = {
    "data.columns": "data.columns is --map COLUMN=FIELD",
    "data.systems": "data.systems is --systems",
    "data.task": "data.task is --task",
    "data.format": "data.format cannot be set",
    "data.max_rejected_share": "5 % of such rows are allowed",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict init`."""
    parser.add_argument(
        "data", metavar="DATA", help="a file or folder of texts, dataset:NAME, or hf://OWNER/NAME:SPLIT"
    )
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
        type=_names,
        default=[],
        metavar="A,B",
        help="columns that hold one system's text each (one row per question)",
    )
    parser.add_argument("--task", type=_word, help="a task of Inverdict, or the path of a task file")


def _pair(text: str) -> tuple[str, str]:
    column, found, field = text.rpartition("=")
    if not found or not column or not field:
        raise argparse.ArgumentTypeError(f"{text!r} must be COLUMN=FIELD")
    return trimmed(column), field.strip()


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} must be names with commas between them, each once")
    if taken := [name for name in names if name.partition(".")[0] in KNOWN]:
        raise argparse.ArgumentTypeError(
            f"{taken[0]!r} is a field of a record and cannot name a system. Give it another name with "
            f"--map {taken[0]}=NAME --systems NAME,..."
        )
    return names


def _word(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text.strip()


def main(args: argparse.Namespace) -> int:
    """Print the table and write the configuration. Raises InputError or UserError where the data cannot be judged."""
    name = _name(args.data)
    out: Path = args.out or Path(f"{name}.yaml")
    if os.path.lexists(out):
        raise UserError(f"{out} exists. Remove it, or name another file with --out.", code="conflict")
    if not out.parent.is_dir():
        raise UserError(f"--out: there is no folder {out.parent}. Create it first.", code="missing_file")
    try:
        text = _configuration_of(args, name)
    except InputError as error:
        here = [words for key, words in HERE.items() if key in str(error)]
        more = f" In `inverdict init` {', and '.join(here)}." if here else ""
        raise InputError(f"{str(error).rstrip('.')}.{more}", code=error.code, key=error.key) from error
    with out.open("x", encoding="utf-8") as file:
        file.write(text)
    say(f"Wrote {out}. Check it, then run: inverdict run {out}")
    return 0


def _configuration_of(args: argparse.Namespace, name: str) -> str:
    """Print what is found and return the configuration."""
    columns = profiles(_rows(args.data))
    if not columns:
        raise InputError(f"{args.data} has no readable row.", code="no_records")
    _check_given(args, columns)
    found = guess(columns, given=dict(args.map), systems=args.systems, task=args.task)
    print(shown(table(found, columns)))
    _check_fields(found)
    check(args.data, found, columns)
    data, reading = settled(_data(args.data, found), found)
    print(shown("\n".join(["", *reading.lines(found, data), *unread(found, columns)])))
    return configuration(name, data, columns, found)


def _check_given(args: argparse.Namespace, columns: Mapping[str, Profile]) -> None:
    """Raises UserError where an argument names a column that the data lack, or one thing twice."""
    given = dict(args.map)
    for said in zip(*args.map, strict=True):
        if twice := [name for name in said if said.count(name) > 1]:
            raise UserError(f"--map names {twice[0]!r} twice. Keep one of the two.", code="duplicate_key", key=twice[0])
    for flag, names in (("--map", given), ("--systems", [one for one in args.systems if one not in given.values()])):
        if missing := [name for name in names if name not in columns]:
            raise UserError(
                f"{flag}: {args.data} has no column {missing[0]!r}. It has {', '.join(map(repr, columns))}.",
                code="unknown_key",
                key=missing[0],
            )


def _check_fields(found: Guess) -> None:
    """Raises UserError where `--map` names a field that no record has."""
    fields = [*KNOWN, *sorted((task_fields(found.task, found.task) or frozenset()) - set(KNOWN)), *found.systems]
    for name, ours in found.fields.items():
        outer, dot, inner = ours.partition(".")
        is_known = ours in (*fields, name) or (dot and inner and outer in INNER) or owner_of(ours, found.systems)
        if found.reasons[name] == "given" and not is_known:
            raise UserError(
                f"--map {name}={ours}: {ours!r} is no field of a record. It must be one of {', '.join(fields)}, "
                "scores.ASPECT, or a system of --systems.",
                code="unknown_key",
                key=ours,
            )


def _name(data: str) -> str:
    if is_dataset(data):
        return data.removeprefix(PREFIX)
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
    return _short(profile.example)


def unread(found: Guess, columns: Mapping[str, Profile]) -> list[str]:
    """What is said of columns that are named like scores and kept as texts."""
    return [
        f"Column {name!r} is kept as a text, not as scores: "
        + (
            f"its name is that of a reference or of no system. --map {name}={ours} reads it as scores."
            if columns[name].is_numeric
            else f"{_short(columns[name].no_number)!r} is no number."
        )
        for name, ours in found.unread.items()
    ]


def _short(value: Any) -> str:
    whole = " ".join(str(value).split())
    return whole if len(whole) <= SHOWN_CHARS else f"{whole[: SHOWN_CHARS - 3]}..."


def check(data: str, found: Guess, columns: Mapping[str, Profile]) -> None:
    """Raises InputError where no column is the candidate or the source, or where scores are not all numbers."""
    for name, ours in found.unread.items():
        if columns[name].num / 2 <= columns[name].num_numbers < columns[name].num:
            raise InputError(
                f"{data}: the column {name!r} holds numbers, and {_short(columns[name].no_number)!r}, which is none. "
                f"Mend it; or --map {name}={ours} leaves such rows out, and --map {name}={name} keeps it as a text.",
                code="invalid_value",
                key=name,
            )
    if found.halves:
        raise InputError(
            f"{data}: the source seems to be {' and '.join(map(repr, found.halves))} together, and a judge reads one "
            f"column. Join them in one, or name the one to read: --map {found.halves[0]}=source.",
            code="missing_key",
            key="source",
        )
    if not found.systems and found.column_of("candidate") is None:
        texts = ", ".join(map(repr, found.texts)) or f"none looks like it: {', '.join(map(repr, columns))}"
        first = found.texts[0] if found.texts else "COLUMN"
        several = f", or if each is the text of one system --systems {','.join(found.texts)}" if found.texts else ""
        reasons = [f" {name!r} holds lists: {one.no_chat}" for name, one in columns.items() if one.no_chat]
        raise InputError(
            f"{data}: cannot tell which column is the candidate, the text to judge ({texts}). Name it with "
            f"--map {first}=candidate{several}.{reasons[0] if reasons and not found.texts else ''}",
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
