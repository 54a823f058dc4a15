"""Readers: files of rated texts -> `Record`s, strictly, one at a time, never the whole file in memory.

One of the three doors where input is validated. A row that does not fit raises `RowError` inside and reaches the
caller as a `Rejected` value with file, line and reason; what comes out as a `Record` is trusted from there on.

Formats: `jsonl` (one object a line), `csv` (a header; `scores.ASPECT` columns), `parquet` (a file or a folder of
files, as the Hugging Face hub lays them out), `aeollm` (the CSV layout of the NTCIR AEOLLM task).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from judging.errors import InputError
from judging.records import Record, Scale, content_id

Format = Literal["auto", "jsonl", "csv", "parquet", "aeollm"]
SUFFIXES: Mapping[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}

# The AEOLLM task's columns, and the subtasks that its `taskId` counts.
AEOLLM_COLUMNS = {"questionId": "group", "question": "source", "answerId": "system", "answer": "candidate"}
AEOLLM_SUBTASKS = ("dialogue", "expansion", "summarisation", "qa")

INNER = ("scores", "scales", "ratings")  # a dotted column such as `scores.overall` stands for a key of one of these
SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


Number = Annotated[FiniteFloat, BeforeValidator(_no_truth_value)]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class DataConfig(BaseModel):
    """The configuration's `data` section: which rated texts a run reads, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: tuple[str, ...] = Field(min_length=1, description="files or Parquet folders of texts to judge")
    pool: tuple[str, ...] = Field((), description="files of rated texts that serve as in-context examples")
    format: Format = "auto"
    columns: dict[str, str] = Field(default_factory=dict, description="names in the files: our names")
    task: str | None = Field(None, description="task of rows that name none")
    dataset: str | None = Field(None, description="data set of rows that name none")
    scale: tuple[FiniteFloat, FiniteFloat] | None = Field(None, description="scale of rows that give none")
    labels: Literal["human", "constructed"] = Field(
        "human", description="where the scores come from; the report says it"
    )
    aspects: dict[str, tuple[NonEmpty, ...]] = Field(
        default_factory=dict,
        description="by task, the rated aspects that count; others are dropped as if nobody had rated them",
    )
    groups_share: Share | dict[str, Share] = Field(
        1.0, description="share of the groups that is judged, chosen by their hash; or by data set (not named: all)"
    )
    pool_share: float | None = Field(
        None, gt=0, lt=1, description="share of the groups that may serve, by hash; the others alone are judged"
    )
    dev: tuple[str, ...] = Field(
        (), description="files of labelled texts on which prompts, judges and votes are chosen, instead of dev_share"
    )
    dev_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the other groups, by hash, on which prompts, judges and votes are chosen (`optimise`, "
        "`panel`); `evaluate` leaves them out",
    )
    part: Literal["test", "dev"] = Field("test", description="which part is judged: test, or dev alone")
    max_rejected_share: float = Field(0.0, ge=0, lt=1, description="share of rows that may not fit; above it: exit 2")

    @model_validator(mode="after")
    def _shares_something(self) -> DataConfig:
        if self.pool_share is not None and not self.pool:
            raise ValueError("pool_share: a share of which pool? set data.pool too")
        if self.dev and self.dev_share is not None:
            raise ValueError("dev and dev_share: the dev part is in files of its own or a share; keep one of the two")
        if self.part == "dev" and not self.has_dev:
            raise ValueError("part: dev is the part of data.dev_share or data.dev: set one of them too")
        return self

    @property
    def has_dev(self) -> bool:
        return bool(self.dev) or self.dev_share is not None

    @property
    def judged(self) -> tuple[str, ...]:
        """The files whose texts are judged."""
        return self.dev if self.dev and self.part == "dev" else self.records

    def takes(self, record: Record) -> bool:
        """Whether the record is judged: its group is of the part and share that are, and not of those that serve."""
        if self.pool_share is not None and self.serves(record):
            return False
        share = (
            self.groups_share if isinstance(self.groups_share, float) else self.groups_share.get(record.dataset, 1.0)
        )
        is_of_part = bool(self.dev) or self.develops(record) == (self.part == "dev")
        return is_of_part and _share_of("group", record) < share

    def develops(self, record: Record) -> bool:
        """Whether the record's group is of dev_share: something is chosen by its labels, so it tests nothing."""
        if self.dev_share is None or (self.pool_share is not None and self.serves(record)):
            return False
        return _share_of("dev", record) < self.dev_share

    def serves(self, record: Record) -> bool:
        """Whether a record of the pool may teach or be shown: all, or those of the groups in `pool_share`."""
        return self.pool_share is None or _share_of("pool", record) < self.pool_share

    def reading(self) -> dict[str, Any]:
        """How `read_records` reads the files: their form, names, what fills gaps, and which aspects count."""
        known = {"task": self.task, "dataset": self.dataset, "scale": self.scale}
        defaults = {name: value for name, value in known.items() if value is not None}
        return {"format": self.format, "defaults": defaults, "columns": self.columns, "aspects": self.aspects}


def _share_of(what: str, record: Record) -> float:
    """0 to 1, from the group's key: the same in every run, whatever else is there."""
    return int(content_id(what, record.group_key), 16) / 16**16


class Row(BaseModel):
    """One row of an input file, as people write it. Unknown text columns become the record's `fields`."""

    model_config = ConfigDict(extra="allow")

    id: NonEmpty | None = None
    task: NonEmpty
    group: NonEmpty
    system: str = ""
    dataset: str = ""
    source: str
    candidate: NonEmpty
    scores: dict[str, Number] = Field(default_factory=dict)
    scale: tuple[FiniteFloat, FiniteFloat] | None = None
    scales: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(default_factory=dict)
    ratings: dict[str, list[Number | None]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that did not fit: `line` counts from 1 (the header of a CSV is line 1; Parquet rows count from 1)."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


class RowError(ValueError):
    """One row does not fit; the message is the reason alone, without the place."""


def dev_groups(data: DataConfig) -> frozenset[str]:
    """Keys of the groups in the files of `data.dev`: they must not be tested on."""
    rows = read_records(data.dev, **data.reading()) if data.dev else ()
    return frozenset(row.group_key for row in rows if isinstance(row, Record))


def read_pool(data: DataConfig, *, check: Callable[[Record], str | None] = lambda record: None) -> dict[str, Record]:
    """The rated texts of `data.pool` that may serve, by id; a row that does not fit (`check`) raises InputError."""
    pool: dict[str, Record] = {}
    for row in read_records(data.pool, check=check, **data.reading()):
        if isinstance(row, Rejected):
            raise InputError(str(row))
        if data.serves(row):
            pool[row.id] = row
    if data.pool and not pool:
        raise InputError(f"data.pool_share: {data.pool_share:g} leaves none of the groups: raise it")
    return pool


def read_records(
    paths: Iterable[str | Path],
    *,
    format: Format = "auto",
    defaults: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    aspects: Mapping[str, Sequence[str]] | None = None,
    check: Callable[[Record], str | None] = lambda record: None,
) -> Iterator[Record | Rejected]:
    """Every row of the files, in order, as a record or as a rejection.

    `defaults` fills what a row leaves out (`task`, `dataset`, `scale`, `scales`). `columns` renames a file's columns
    to ours, for instance {"article": "source", "rating": "scores.overall"}. `aspects`: for a task named there, what
    people said of other aspects is dropped. An id seen before is rejected, wherever the first one stood. `check` may
    refuse a record that does not fit the caller: it returns the reason.

    Raises InputError where a file is missing, empty, of unknown format or unreadable as a whole.
    """
    places = [str(path) for path in paths]
    seen: dict[int, int] = {}  # hash of the id -> line * files + file: plain numbers keep a million ids small
    for index, path in enumerate(places):
        num_rows = 0
        for line, raw in raw_rows(path, format):
            num_rows += 1
            try:
                if isinstance(raw, RowError):
                    raise raw
                record = _only(_to_record(_renamed(raw, columns or {}), defaults or {}), aspects or {})
                if reason := check(record):
                    raise RowError(reason)
            except RowError as error:
                yield Rejected(path, line, str(error))
                continue
            here = line * len(places) + index
            first_line, first_file = divmod(seen.setdefault(hash(record.id), here), len(places))
            if (first_line, first_file) != (line, index):
                yield Rejected(
                    path, line, f"id {record.id!r} stands already in {places[first_file]}, line {first_line}"
                )
                continue
            yield record
        if num_rows == 0:
            raise InputError(f"{path} holds no rows: give a file with at least one record")


def _format(path: Path, format: Format) -> Format:
    if not path.exists():
        raise InputError(f"there is no file {path}: paths count from the working directory")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty: give a file with at least one row")
    if path.is_dir() and format in ("auto", "parquet"):
        return "parquet"
    if path.is_dir():
        raise InputError(f"{path} is a folder: the format {format} is read from a file")
    if format != "auto":
        return format
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{path}: cannot tell the format from the name ({known}): rename it, or set data.format")
    return SUFFIXES[path.suffix.lower()]


def raw_rows(place: str | Path, format: Format = "auto") -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Line and content of every row of a file, unchecked but for its form: a row that cannot be read is a RowError.

    Raises InputError where the file is missing, empty, of unknown format or unreadable as a whole.
    """
    path = Path(place)
    kind = _format(path, format)
    if kind == "jsonl":
        return _jsonl_rows(path)
    if kind == "parquet":
        return _parquet_rows(path)
    rows = _csv_rows(path)
    return _aeollm_rows(path, rows) if kind == "aeollm" else rows


def _text_lines(path: Path) -> Iterator[tuple[int, str | RowError]]:
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            if line == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line, data.decode("utf-8")
            except UnicodeDecodeError as error:
                yield line, RowError(f"not UTF-8: byte 0x{data[error.start]:02x} at position {error.start + 1}")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    for line, text in _text_lines(path):
        if isinstance(text, RowError):
            yield line, text
        elif text.strip():
            yield line, _json_object(text)


def _json_object(text: str) -> dict[str, Any] | RowError:
    try:
        value = json.loads(text.rstrip())
    except json.JSONDecodeError as error:
        return RowError(f"broken JSON: {error.msg.removesuffix(' at')} at column {error.colno}")
    except (RecursionError, ValueError) as error:
        return RowError(f"broken JSON: {error}")
    if not isinstance(value, dict):
        return RowError(f"a JSON object is needed, not {type(value).__name__}")
    if SURROGATE.search(text) and not _is_unicode(value):
        return RowError("broken JSON: half of a surrogate pair (\\ud800 to \\udfff) is no character")
    return value


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            twice = [name for name in header if header.count(name) > 1]
            if twice:
                raise InputError(f"{path}, line 1: the column name {twice[0]!r} stands twice")
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield line, _csv_row(header, cells)
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: broken CSV: {error}") from error
        except UnicodeDecodeError as error:
            # The decoder reads ahead of the rows: only a look at the single lines tells the place.
            line, reason = next((line, text) for line, text in _text_lines(path) if isinstance(text, RowError))
            raise InputError(f"{path}, line {line}: {reason}") from error


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | RowError:
    if len(cells) != len(header):
        return RowError(f"{len(cells)} cells where the header has {len(header)}")
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _aeollm_rows(
    path: Path, rows: Iterator[tuple[int, dict[str, Any] | RowError]]
) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    for line, row in rows:
        if isinstance(row, RowError):
            yield line, row
            continue
        missing = [name for name in ("taskId", *AEOLLM_COLUMNS) if name not in row]
        if missing:
            yield line, RowError(f"the AEOLLM column {missing[0]!r} is missing or empty")
            continue
        task = row.pop("taskId")
        if task not in [str(number) for number in range(len(AEOLLM_SUBTASKS))]:
            yield line, RowError(f"taskId {task!r} is none of 0 to {len(AEOLLM_SUBTASKS) - 1}")
            continue
        known = {ours: row.pop(theirs) for theirs, ours in AEOLLM_COLUMNS.items()}
        if "score" in row:
            row["scores.overall"] = row.pop("score")
        yield line, {"task": AEOLLM_SUBTASKS[int(task)], "dataset": f"aeollm_{task}", **known, **row}


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file: give the folder that holds them")
    line = 0
    for file in files:
        try:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    line += 1
                    yield line, row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def _renamed(raw: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Columns by our names, without those that hold nothing; `scores.overall` joins the object `scores`."""
    row: dict[str, Any] = {}
    for name, value in raw.items():
        if value is None:
            continue
        ours = columns.get(name, name)
        outer, dot, inner = ours.partition(".")
        if dot and outer in INNER:
            value = {inner: value if outer == "scores" else _from_json(ours, value)}
        elif ours == "scale":
            value = _from_json(ours, value)
        place = outer if outer in INNER else ours
        if place in INNER and isinstance(value, dict):
            value = {key: one for key, one in value.items() if one is not None}
            known = row.get(place, {})
            if not isinstance(known, dict) or known.keys() & value.keys():
                raise RowError(f"two columns give {ours!r}")
            row[place] = known | value
        elif place in row:
            raise RowError(f"two columns give {ours!r}")
        else:
            row[place] = value
    return row


def _from_json(name: str, value: Any) -> Any:
    """The list in a CSV cell such as `[1, 5]`; anything else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{name}: broken JSON: {error}") from error


def _to_record(raw: dict[str, Any], defaults: Mapping[str, Any]) -> Record:
    try:
        row = Row(**{**defaults, **raw})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RowError(f"{place}: {reason[0].lower()}{reason[1:]}") from error
    except TypeError as error:
        raise RowError(f"field names must be text: {error}") from error
    scales = {aspect: _scale(aspect, row) for aspect in {*row.scores, *row.ratings}}
    for aspect, score in row.scores.items():
        if score not in scales[aspect]:
            raise RowError(f"scores.{aspect}: {score:g} lies outside the scale {scales[aspect]}")
    for aspect, ratings in row.ratings.items():
        for rating in ratings:
            if rating is not None and rating not in scales[aspect]:
                raise RowError(f"ratings.{aspect}: {rating:g} lies outside the scale {scales[aspect]}")
    fields = {
        name: str(value)
        for name, value in (row.model_extra or {}).items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    return Record(
        id=row.id or content_id(row.task, row.dataset, row.group, row.system, row.source, row.candidate),
        task=row.task,
        group=row.group,
        system=row.system,
        dataset=row.dataset,
        source=row.source,
        candidate=row.candidate,
        fields=fields,
        scores=row.scores,
        scales=scales,
        ratings={aspect: tuple(ratings) for aspect, ratings in row.ratings.items()},
    )


def _only(record: Record, aspects: Mapping[str, Sequence[str]]) -> Record:
    if record.task not in aspects:
        return record
    kept: dict[str, Any] = {
        name: {aspect: value for aspect, value in getattr(record, name).items() if aspect in aspects[record.task]}
        for name in INNER
    }
    return replace(record, **kept)


def _scale(aspect: str, row: Row) -> Scale:
    ends = row.scales.get(aspect, row.scale)
    if ends is None:
        raise RowError(f"scores.{aspect} has no scale: give `scale` in the row or data.scale in the configuration")
    try:
        return Scale(*ends)
    except ValueError as error:
        raise RowError(f"scales.{aspect}: {error}") from error
