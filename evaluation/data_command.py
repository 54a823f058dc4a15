"""The command `inverdict data`: lists the public data sets, fetches them into the cache, and shows one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.terminal import shown
from evaluation.data_fetch import fetch, recorded
from judging.public_data.places import LOCAL, PREFIX, file_of, local_folder
from judging.public_data.registry import named, registry
from judging.readers import RowError, raw_rows

SHOWN_CHARS = 70
ABSENT = "not fetched"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    example: dict[str, Any] = {"epilog": parser.epilog, "formatter_class": parser.formatter_class}
    table = actions.add_parser("list", help="list the public data sets and where they are on this machine", **example)
    get = actions.add_parser("fetch", help="download data sets, convert them and keep them in the cache", **example)
    get.add_argument("names", nargs="+", metavar="NAME", help="of a data set, as in `inverdict data list`")
    get.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="convert the published files in this folder instead of downloading them",
    )
    get.add_argument("--again", action="store_true", help="fetch data sets that are in the cache again")
    look = actions.add_parser("show", help="show a data set: its origin, columns, scales and first rows", **example)
    look.add_argument("name", metavar="NAME")
    look.add_argument("--rows", type=int, default=2, metavar="N", help="number of rows (default: 2)")
    for action in (table, get, look):
        action.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Run `inverdict data`; the result goes to stdout, licences and progress to stderr."""
    if args.action == "list":
        rows = list_datasets()
        print(json.dumps(rows, indent=1) if args.json else _table(rows))
    elif args.action == "fetch":
        if args.folder is not None and not args.folder.is_dir():
            raise UserError(f"--from: there is no folder {args.folder}.", code="missing_file")
        names = list(dict.fromkeys(named(name).name for name in args.names))  # before the first download
        found = [fetch(name, folder=args.folder, again=args.again) for name in names]
        told = [{**one._asdict(), "path": str(one.path)} for one in found]
        print(json.dumps(told, indent=1) if args.json else "\n".join(str(one.path) for one in found))
    else:
        about = describe(args.name, num_rows=max(0, args.rows))
        print(json.dumps(about, indent=1, ensure_ascii=False) if args.json else shown(_page(about)))
    return 0


def list_datasets() -> list[dict[str, Any]]:
    """The data sets: name, task, rows (None: unknown), licence, state, and the names of their parts."""
    return [
        {
            "name": name,
            "task": entry.task,
            "rows": entry.rows,
            "licence": entry.licence,
            "state": _state(name),
            "parts": list(entry.parts),
        }
        for name, entry in registry().items()
    ]


def _state(name: str) -> str:
    """Where the data set is on this machine."""
    file, folder = file_of(name), local_folder()
    if file is None:
        return ABSENT
    return f"local copy ({LOCAL})" if folder and file.parent == folder else "fetched"


def describe(name: str, *, num_rows: int = 2) -> dict[str, Any]:
    """What is known of a data set, and of its rows where it is on this machine.

    Args:
        name: of a data set or a part.
        num_rows: number of rows in `first_rows`.
    """
    known = named(name)
    entry, file = known.entry, file_of(name)
    about = {
        "name": name,
        "about": entry.about,
        "task": entry.task,
        "licence": entry.licence,
        "citation": entry.citation,
        "homepage": entry.homepage,
        "published": entry.at.format(revision=entry.revision),
        "files": list(entry.files),
        "form": "read by us" if entry.verified else "not verified",
        "note": entry.note,
        "parts": list(entry.parts),
        "state": _state(name),
        "path": str(file) if file else None,
    }
    if (record := recorded(known.name)) is not None:
        about |= {"downloaded_from": record.get("downloaded_from"), "sha256": record["files"]}
    if file is None:
        return {**about, "rows": entry.rows if known.part is None else None}
    return {**about, **_of_rows(name, num_rows)}


def _of_rows(name: str, num_first: int) -> dict[str, Any]:
    """What the rows hold, read one at a time."""
    num_rows, first = 0, list[dict[str, Any]]()
    columns: dict[str, None] = {}
    groups, systems = set[tuple[Any, Any]](), set[Any]()
    scales: dict[str, list[float]] = {}
    for _, row in raw_rows(f"{PREFIX}{name}"):
        if isinstance(row, RowError):
            continue
        num_rows += 1
        first += [row] if num_rows <= num_first else []
        columns |= dict.fromkeys(row)
        groups |= {(row.get("dataset"), row["group"])} if "group" in row else set()
        systems |= {row["system"]} if row.get("system") else set()
        for aspect in (*(row.get("scores") or {}), *(row.get("ratings") or {})):
            scale = (row.get("scales") or {}).get(aspect, row.get("scale"))
            if scale is not None:
                scales[aspect] = list(scale)
    return {
        "rows": num_rows,
        "columns": list(columns),
        "groups": len(groups),
        "systems": len(systems),
        "scales": scales,
        "first_rows": first,
    }


def _page(about: dict[str, Any]) -> str:
    """The description for the terminal."""
    lines = [f"{about['name']}: {about['about']}", ""]
    said = {
        "task": about["task"],
        "rows": "unknown" if about["rows"] is None else f"{about['rows']:,}",
        "licence": about["licence"],
        "citation": about["citation"],
        "homepage": about["homepage"],
        "published": about["published"],
        "files": f"{', '.join(about['files'][:3])}{', ...' if len(about['files']) > 3 else ''}",
        "form": " ".join(part for part in (f"{about['form']}.", about["note"]) if part),
        "parts": ", ".join(about["parts"]) or "none",
        "state": about["state"] if about["path"] is None else f"{about['state']}: {about['path']}",
    }
    if "columns" in about:
        said["columns"] = ", ".join(about["columns"])
    if about.get("groups"):
        said["groups"] = f"{about['groups']:,} of {about['systems']} systems"
        said["scales"] = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in about["scales"].items())
    lines += [f"{name:<11} {value}" for name, value in said.items()]
    for number, row in enumerate(about.get("first_rows", ()), 1):
        lines += ["", f"row {number}", *(f"  {name:<11} {_cut(value)}" for name, value in row.items())]
    return "\n".join(lines)


def _cut(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [["name", "task", "rows", "state", "licence"]]
    for row in rows:
        number = "unknown" if row["rows"] is None else f"{row['rows']:,}"
        task = "several" if ", " in row["task"] else row["task"]
        cells.append([row["name"], task, number, row["state"], _cut(row["licence"])])
        cells += [[f"  {part}", "", "", "", ""] for part in row["parts"]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)
