"""Reads the rows of files one at a time, validated only for their syntax.

Formats: `jsonl` (one object a line), `csv` and `tsv` (a header; `scores.ASPECT` columns), `parquet`, `aeollm` (the CSV
layout of the NTCIR AEOLLM task). A folder holds files of one format, as a data set's repository on the Hugging Face hub
does, or is one that `Dataset.save_to_disk` wrote. A public data set (`dataset:NAME`) is JSONL whatever the format is.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from judging import columnar, hub, strictjson
from judging.errors import InputError
from judging.public_data.places import Located, is_dataset, located

Format = Literal["auto", "jsonl", "csv", "tsv", "parquet", "aeollm"]
SUFFIXES: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tgz", ".tar")

# The AEOLLM task: its columns, the subtasks that its `taskId` counts, and the ends of its files' names. The header of
# these files has not been seen: questionId, question, answer and score are what two public projects read from them;
# answerId and taskId are taken from the organisers' submission format.
AEOLLM_COLUMNS = {"questionId": "group", "question": "source", "answerId": "system", "answer": "candidate"}
AEOLLM_SUBTASKS = ("dialogue", "expansion", "summarisation", "qa")
AEOLLM_FILES = {"dialog": "0", "story": "1", "xsum": "2", "nfcats": "3"}
DELIMITERS = {
    ",": "comma",
    ";": "semicolon (;)",
    "\t": "tab",
    "|": "bar (|)",
    "^": "caret (^)",
    "\uff0c": "full-width comma",
}
BLANK = " \t\r\n\v\f\ufeff\u200b\u200c\u200d\u2060\u00ad"
ROLE = re.compile(r"""(["'])role\1\s*:""")
SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


class RowError(ValueError):
    """One row is invalid.

    Args:
        message: the reason alone, without file and line.
        code: what is wrong, as with `InputError`.
        key: the column or field at fault (`scores.overall`); empty where it is not one.
    """

    def __init__(self, message: str, *, code: str = "invalid_value", key: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.key = key


def places_of(place: str | Path, format: Format = "auto") -> list[str]:
    """The place itself, or the files of a folder of text files, each of which counts its own lines.

    Raises InputError where a folder has no such files, or files of several formats.
    """
    folder, name = Path(place), str(place)
    if hub.is_hub(name) or is_dataset(name) or not folder.is_dir() or _kind(folder, format) in ("parquet", "saved"):
        return [name]
    return [str(file) for file in _data_files(folder, _kind(folder, format))]


def raw_rows(place: str | Path, format: Format = "auto") -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Line number and content of every row of one of the `places_of`; a row that cannot be parsed is a RowError.

    Raises InputError where the file is missing, empty, of unknown format or unreadable as a whole.
    """
    if hub.is_hub(str(place)):
        return hub.rows(str(place))
    if is_dataset(str(place)):
        return _dataset_rows(located(str(place)))
    path = Path(place)
    kind = _kind(path, format)
    if kind == "jsonl":
        return _jsonl_rows(path)
    if kind == "saved":
        return columnar.saved_rows(path)
    if kind == "parquet":
        return columnar.parquet_rows(_data_files(path, kind) if path.is_dir() else [path])
    rows = _csv_rows(path, "\t" if kind == "tsv" else ",")
    return _aeollm_rows(path, rows) if kind == "aeollm" else rows


def _dataset_rows(found: Located) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """The rows of a public data set, or of a part of it."""
    for line, row in raw_rows(found.path, "jsonl"):
        if found.part is None or isinstance(row, RowError) or row.get("dataset") == found.part:
            yield line, row


def _kind(path: Path, format: Format) -> str:
    """The format of a file or folder: never `auto`, and `saved` for a saved data set."""
    if not path.exists():
        raise InputError(f"File not found: {path}. Relative paths start at the working directory.", code="missing_file")
    if path.is_dir():
        return _kind_of_folder(path, format)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty. The file must have at least one row.", code="empty_file")
    if format != "auto":
        return format
    if path.suffix.lower() in COMPRESSED:
        raise InputError(f"{path} is compressed. Unpack it, and name the file in it.", code="unsupported")
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InputError(
            f"{path}: the format cannot be inferred from the suffix ({known}). Rename the file or set data.format.",
            code="unsupported",
            key="data.format",
        )
    return SUFFIXES[path.suffix.lower()]


def _kind_of_folder(folder: Path, format: Format) -> str:
    if format == "aeollm":
        raise InputError(
            f"{folder} is a folder, and the format {format} needs a file.", code="conflict", key="data.format"
        )
    if format != "auto":
        return format
    if columnar.is_saved(folder):
        return "saved"
    kinds = sorted({SUFFIXES[file.suffix.lower()] for file in _data_files(folder, "auto")})
    if len(kinds) > 1:
        raise InputError(
            f"{folder} has files of the formats {', '.join(kinds)}. Set data.format to one of them, or name the files.",
            code="conflict",
            key="data.format",
        )
    return kinds[0]


def _data_files(folder: Path, kind: str) -> list[Path]:
    """The files of a format (`auto`: of any) below a folder; hidden ones and those with `_` in front are ignored."""
    suffixes = [suffix for suffix, format in SUFFIXES.items() if kind in ("auto", format)]
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    places = {file: file.relative_to(folder).parts for file in found}
    files = [file for file, parts in places.items() if not any(part.startswith((".", "_")) for part in parts)]
    if not files:
        raise InputError(
            f"No {', '.join(suffixes)} file found in {folder} (hidden files are ignored). Set the folder that holds "
            "them.",
            code="missing_file",
        )
    if columns := [part for file in files for part in places[file][:-1] if "=" in part]:
        raise InputError(
            f"{folder}: the partition column in the folder name {columns[0]!r} is not read. Write the column into the "
            "files.",
            code="unsupported",
            key=columns[0].partition("=")[0],
        )
    return files


def _text_lines(path: Path) -> Iterator[tuple[int, str | RowError]]:
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            if line == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line, data.decode("utf-8")
            except UnicodeDecodeError as error:
                message = f"not UTF-8: byte 0x{data[error.start]:02x} at position {error.start + 1}"
                yield line, RowError(message, code="unreadable_file")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    is_first = True
    for line, text in _text_lines(path):
        if isinstance(text, RowError):
            yield line, text
        elif text.strip():
            if is_first and _opens_an_array(text):
                raise InputError(
                    f"{path}, line {line}: a JSON array. Write one object per line (`jq -c '.[]'` converts the file).",
                    code="invalid_json",
                )
            is_first = False
            yield line, _json_object(text)


def _opens_an_array(text: str) -> bool:
    """Whether the line is the beginning of an array over several lines."""
    if not text.lstrip().startswith("["):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return True
    except (RecursionError, ValueError):
        pass
    return False


def _json_object(text: str) -> dict[str, Any] | RowError:
    try:
        value = strictjson.loads(text.rstrip())
    except strictjson.TwiceError as error:
        return RowError(str(error), code="duplicate_key")
    except json.JSONDecodeError as error:
        message = f"invalid JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        return RowError(message, code="invalid_json")
    except (RecursionError, ValueError) as error:
        return RowError(f"invalid JSON: {error}", code="invalid_json")
    if not isinstance(value, dict):
        hint = " (a JSON array; write one object per line)" if isinstance(value, list) else ""
        return RowError(f"must be a JSON object, not {type(value).__name__}{hint}", code="invalid_json")
    if SURROGATE.search(text) and not _is_unicode(value):
        return RowError("invalid JSON: an unpaired surrogate (\\ud800 to \\udfff)", code="invalid_json")
    return value


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            if problem := _header_problem(file.readline(), delimiter):
                if any(line.strip() for line in file):
                    raise InputError(f"{path}, line 1: {problem}", code="invalid_csv")
                return
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip(BLANK) for name in next(reader, [])]
            twice = [name for name in header if header.count(name) > 1]
            if twice:
                raise InputError(
                    f"{path}, line 1: duplicate column name {twice[0]!r}", code="duplicate_key", key=twice[0]
                )
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield line, _csv_row(header, cells)
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: invalid CSV: {error}", code="invalid_csv") from error
        except UnicodeDecodeError as error:
            # The decoder reads ahead of the rows: the line has to be looked up.
            line, reason = next((line, text) for line, text in _text_lines(path) if isinstance(text, RowError))
            raise InputError(f"{path}, line {line}: {reason}", code="unreadable_file") from error


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | RowError:
    if len(cells) != len(header):
        return RowError(f"{len(cells)} cells, but the header has {len(header)}", code="invalid_csv")
    return {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}


def _cell(text: str) -> Any:
    """None for an empty cell, and chat messages that are written as JSON or as Python writes them; else the text."""
    if not text.startswith("[{") or not ROLE.search(text):
        return text or None
    for parsed in (json.loads, ast.literal_eval):
        try:
            messages = parsed(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(messages, list) and all(isinstance(one, dict) and "role" in one for one in messages):
            return messages
    return text


def _header_problem(line: str, delimiter: str) -> str | None:
    """Why a file's first line is not a header with that delimiter, or None."""
    if not line.strip(BLANK):
        return "the header is blank. The first line must hold the column names."
    if line.lower().startswith(("sep=", '"sep=')):
        return f"`{line.strip()}` declares a delimiter. Remove the line and save the file with commas."
    wanted, way_out = ("comma", "with commas") if delimiter == "," else ("tab", "with tabs, or set data.format to csv")
    for mark, name in DELIMITERS.items():
        if mark != delimiter and line.count(mark) > line.count(delimiter):
            other = ", or set data.format to tsv" if (delimiter, mark) == (",", "\t") else ""
            return f"the delimiter is a {name}, not a {wanted}. Save the file {way_out}{other}."
    return None


def _aeollm_rows(
    path: Path, rows: Iterator[tuple[int, dict[str, Any] | RowError]]
) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    for line, row in rows:
        try:
            yield line, row if isinstance(row, RowError) else aeollm_row(path, row)
        except RowError as error:
            yield line, error


def aeollm_row(path: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the AEOLLM task by the record's names; columns of other names are kept for `data.columns`.

    Args:
        path: the file; without the column taskId its name says the subtask, as in train_dialog.csv.
        row: by the file's columns.

    Raises:
        RowError: the subtask is unknown, or one of the known columns is empty.
    """
    known = {ours: row[theirs] for theirs, ours in AEOLLM_COLUMNS.items() if theirs in row}
    of_file = AEOLLM_FILES.get(path.stem.rpartition("_")[2].casefold())
    task = row.get("taskId", of_file)  # an empty cell is no missing column
    empty = [theirs for theirs, ours in AEOLLM_COLUMNS.items() if ours != "candidate" and known.get(ours, "") is None]
    if task is None or empty:
        name = "taskId" if task is None else empty[0]
        hint = "" if "taskId" in row else ". Name the file as the organisers do, such as train_dialog.csv"
        raise RowError(f"the AEOLLM column {name!r} is missing or empty{hint}", code="missing_key", key=name)
    if task not in [str(number) for number in range(len(AEOLLM_SUBTASKS))]:
        message = f"taskId must be one of 0 to {len(AEOLLM_SUBTASKS) - 1}, not {task!r}"
        raise RowError(message, code="unknown_task", key="taskId")
    more = {name: value for name, value in row.items() if name not in ("taskId", *AEOLLM_COLUMNS)}
    if "score" in more:
        more["scores.overall"] = more.pop("score")
    return {"task": AEOLLM_SUBTASKS[int(task)], "dataset": f"aeollm_{task}", **known, **more}
