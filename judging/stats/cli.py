"""The command `inverdict agreement FILE.jsonl`: the agreement of scores from any tool, as a table or JSON.

Input columns: `group` (text or whole number), `human` (number), `score` (number, or null: unscored), optional `system`
(text or whole number), optional `ratings` (list of numbers and nulls, one position per rater); others are ignored.
numpy and scipy are imported after the file has been read, so that --help is fast.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from judging import strictjson
from judging.errors import InputError
from judging.stats.estimate import LEVELS, Estimate, is_of_order, to_json

if TYPE_CHECKING:
    from judging.stats.rows import Columns

Estimates = Mapping[str, Estimate]
KNOWN = ("group", "system", "ratings")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict agreement`."""
    parser.add_argument(
        "file",
        metavar="FILE.jsonl",
        help="one JSON object per line: group, human, score and optionally system, ratings",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--levels",
        type=_levels,
        default=LEVELS,
        help=f"levels of aggregation, comma-separated (default: {','.join(LEVELS)})",
    )
    parser.add_argument("--baseline", metavar="COLUMN", help="second score column to compare with, such as length")
    parser.add_argument(
        "--human", metavar="COLUMN", default="human", help="column of the human ratings (default: human)"
    )
    parser.add_argument(
        "--score", metavar="COLUMN", default="score", help="column of the model's scores (default: score)"
    )
    parser.add_argument(
        "--resamples", type=_whole(1), default=2000, help="bootstrap resamples of groups (default: 2000)"
    )
    parser.add_argument(
        "--seed", type=_whole(0), default=0, help="random seed of resamples and permutations (default: 0)"
    )
    parser.add_argument(
        "--interval",
        choices=("percentile", "bca"),
        default="percentile",
        help="type of the 95%% confidence interval (default: percentile)",
    )


def main(args: argparse.Namespace) -> int:
    """Prints the agreement on stdout. Returns 0, or 2 with an error on stderr where the file is invalid."""
    columns = [args.score] if args.baseline is None else [args.score, args.baseline]
    try:
        rows = read_rows(Path(args.file), human=args.human, scores=columns)
    except InputError as error:
        print(f"inverdict agreement: {error}", file=sys.stderr)
        return 2
    report = _report(rows, args)
    print(json.dumps(report["json"], ensure_ascii=False, indent=2, allow_nan=False) if args.json else report["text"])
    return 0


def read_rows(path: Path, *, human: str, scores: Sequence[str]) -> list[dict[str, Any]]:
    """Reads and validates the rows of a score file.

    Args:
        path: a JSONL file.
        human: the column of human scores.
        scores: the columns of model scores.

    Returns:
        Rows with `group`, `human`, `scores` (in the order of the columns) and, where given, `system` and `ratings`.

    Raises:
        InputError: with file, line and reason, for the first invalid row.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        code = "missing_file" if isinstance(error, FileNotFoundError) else "unreadable_file"
        raise InputError(f"{path} cannot be read ({error.strerror or error}).", code=code) from error
    rows: list[dict[str, Any]] = []
    line_of: dict[tuple[str, str], int] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            if not rows and line.strip() in (b"[", b"[{"):
                raise InputError("a JSON array; write one object per line", code="invalid_json")
            row = _checked(_parse(line), human, scores)
            first = line_of.setdefault((row["group"], row["system"]), number) if "system" in row else number
            if first != number:
                raise InputError(
                    f"duplicate row of group {json.dumps(row['group'])}, system {json.dumps(row['system'])}, first on "
                    f"line {first}",
                    code="duplicate_record",
                    key="group",
                )
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}.", code=error.code, key=error.key) from error
        rows.append(row)
    if not rows:
        raise InputError(f"{path} has no rows. Write one JSON object per line.", code="empty_file")
    return rows


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = strictjson.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} is not valid UTF-8; save the file as UTF-8"
        raise InputError(message, code="unreadable_file") from error
    except json.JSONDecodeError as error:
        raise InputError(f"invalid JSON ({error.msg} at column {error.colno})", code="invalid_json") from error
    except InputError:
        raise
    except strictjson.TwiceError as error:
        raise InputError(str(error), code="duplicate_key") from error
    except (ValueError, RecursionError) as error:
        raise InputError("invalid JSON (a number or a nesting is too long)", code="invalid_json") from error
    if not isinstance(row, dict):
        raise InputError("not a JSON object; write one object per line", code="invalid_json")
    return row


def _no_constant(token: str) -> NoReturn:
    raise InputError(f"{token} is not a number in JSON; use null for an unscored row", code="invalid_json")


def _checked(row: Mapping[str, Any], human: str, scores: Sequence[str]) -> dict[str, Any]:
    checked: dict[str, Any] = {"group": checked_label(row, "group")}
    for name in KNOWN:
        if row.get(name) is None and (near := [one for one in row if one != name and one.strip().lower() == name]):
            message = f"unknown column {json.dumps(near[0])}; did you mean {json.dumps(name)}?"
            raise InputError(message, code="unknown_key", key=near[0])
    if row.get("system") not in (None, ""):
        checked["system"] = checked_label(row, "system")
    if row.get(human) is None:
        message = f"no number in the column {json.dumps(human)}; every row needs a human score"
        raise InputError(message, code="missing_key", key=human)
    checked["human"] = checked_number(row[human], human)
    checked["scores"] = []
    for column in scores:
        if column not in row:
            message = f"the column {json.dumps(column)} is missing; use null for an unscored row"
            raise InputError(message, code="missing_key", key=column)
        checked["scores"].append(None if row[column] is None else checked_number(row[column], column))
    if row.get("ratings") is not None:
        if not isinstance(row["ratings"], list):
            message = 'the column "ratings" must hold a list of single ratings, such as [4, null, 5]'
            raise InputError(message, code="invalid_value", key="ratings")
        checked["ratings"] = [None if value is None else checked_number(value, "ratings") for value in row["ratings"]]
    return checked


def checked_label(row: Mapping[str, Any], column: str) -> str:
    """The name in a column, a text or a whole number. Raises InputError for any other value."""
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        message = f"the column {json.dumps(column)} must hold text or a whole number"
        raise InputError(message, code="missing_key" if value is None else "invalid_value", key=column)
    return str(value)


def checked_number(value: object, column: str) -> float:
    """A finite number of a column. Raises InputError for any other value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        shown = json.dumps(value, ensure_ascii=True)
        shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
        message = f"the column {json.dumps(column)} must hold a number, not {shown}"
        raise InputError(message, code="invalid_value", key=column)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        message = f"the number in the column {json.dumps(column)} is too large"
        raise InputError(message, code="invalid_value", key=column)
    return number


def _report(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    from judging.stats.agreement import agreement, compare
    from judging.stats.human_ceiling import human_ceiling

    settings = {"levels": args.levels, "resamples": args.resamples, "seed": args.seed, "interval": args.interval}
    columns = _columns(rows, 0)
    found = agreement(columns, **settings)
    ceiling = human_ceiling(columns, **settings)
    baseline = difference = None
    if args.baseline is not None:
        baseline = _of_order(agreement(_columns(rows, 1), shuffles=0, **settings))
        difference = _of_order(compare(columns, _columns(rows, 1).score, **settings))
    notes = _notes(columns, args.levels)
    summary = {
        "file": args.file,
        "human": args.human,
        "score": args.score,
        "baseline_column": args.baseline,
        "rows": len(rows),
        "scored": sum(score is not None for score in columns.score),
        "groups": len(set(columns.group)),
        "systems": len(set(columns.system) - {None}) if columns.system is not None else None,
        "resamples": args.resamples,
        "seed": args.seed,
        "interval": args.interval,
        "notes": notes,
    }
    comparisons = {"ceiling": ceiling, "baseline": baseline, "difference": difference}
    nested = {name: to_json(part) if part is not None else None for name, part in comparisons.items()}
    heads = {"ceiling": "human ceiling", "baseline": args.baseline, "difference": f"difference to {args.baseline}"}
    extra = {heads[name]: part for name, part in comparisons.items() if part is not None}
    return {"json": summary | to_json(found) | nested, "text": _text(summary, found, extra)}


def _of_order(found: Estimates) -> Estimates:
    """Without statistics of distances in points: a baseline may have another unit, such as a length."""
    return {name: one for name, one in found.items() if is_of_order(name)}


def _columns(rows: Sequence[dict[str, Any]], score: int) -> Columns:
    from judging.stats.rows import Columns

    return Columns(
        group=[row["group"] for row in rows],
        human=[row["human"] for row in rows],
        score=[row["scores"][score] for row in rows],
        system=[row.get("system") for row in rows] if any("system" in row for row in rows) else None,
        ratings=[row.get("ratings") for row in rows] if any("ratings" in row for row in rows) else None,
    )


def _notes(columns: Columns, levels: Sequence[str]) -> list[str]:
    notes = []
    if "system" in levels and columns.system is None:
        notes.append("no row has a system, so the system level is omitted")
    nameless = sum(system is None for system in columns.system or ())
    if "system" in levels and nameless:
        notes.append(f"{nameless} of {len(columns.group)} rows have no system and are excluded from the system level")
    scored_groups = {group for group, score in zip(columns.group, columns.score, strict=True) if score is not None}
    if not scored_groups:
        notes.append("no row has a score, so nothing can be measured")
    elif len(scored_groups) == 1:
        notes.append("all scored rows are in one group, so there is no interval; use one group per source")
    return notes


def _text(summary: Mapping[str, Any], found: Estimates, extra: Mapping[str, Estimates]) -> str:
    lines = [
        f"{summary['file']}: {summary['score']} against {summary['human']}, {summary['rows']} rows"
        f" ({summary['scored']} scored) in {summary['groups']} groups"
    ]
    header = ["statistic", "value", "95% interval", "n", "coverage", "floor", *extra]
    table = [header]
    for name, estimate in found.items():
        if name.startswith("floor."):
            continue
        floor = found[f"floor.{name}"]
        cells = [name, _show(estimate.value), _ends(estimate), str(estimate.n), f"{estimate.coverage:.1%}"]
        cells.append(f"{_show(floor.value)} {_ends(floor)}")
        table.append(cells + [_with_ends(part.get(name)) for part in extra.values()])
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        aligned = [row[0].ljust(widths[0])] + [
            cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
        ]
        lines.append("  ".join(aligned).rstrip())
    left_out = {name: estimate.num_undefined for name, estimate in found.items() if not name.startswith("floor.")}
    undefined = [f"{name} {count}" for name, count in left_out.items() if count]
    notes = list(summary["notes"])
    if undefined:
        notes.append(f"groups excluded because the statistic is undefined there: {', '.join(undefined)}")
    return "\n".join(lines + [f"note: {note}" for note in notes])


def _show(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _with_ends(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{_show(estimate.value)} {_ends(estimate)}"


def _ends(estimate: Estimate) -> str:
    return f"[{_show(estimate.low)}, {_show(estimate.high)}]"


def _levels(text: str) -> tuple[str, ...]:
    chosen = [name.strip() for name in text.split(",")]
    unknown = [name for name in chosen if name not in LEVELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(LEVELS)}, not {unknown[0]!r}")
    return tuple(level for level in LEVELS if level in chosen)


def _whole(least: int) -> Any:
    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
        return value

    return whole_number
