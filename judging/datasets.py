"""Reads rated texts as validated `Record`s, one at a time: from files, or from rows in memory.

One of the three places where input is validated. An invalid row raises `RowError` inside and reaches the caller as a
`Rejected` value with file, line and reason; a `Record` is trusted from there on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from judging import in_memory
from judging.columns import renamed
from judging.data_config import DataConfig
from judging.data_names import Names
from judging.errors import InputError
from judging.readers import Format, RowError, places_of, raw_rows
from judging.records import Record
from judging.row_validation import only_aspects, plain, to_record
from judging.wide import split_systems

# The reason why the caller cannot use a record (code `invalid_value`), or an error with a code of its own, or None.
Check = Callable[[Record], RowError | str | None]

BLANK_KINDS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Zs"))
# Letters without ink, and marks that only select how another character looks.
BLANK_SIGNS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class Options(TypedDict, total=False):
    """How rows become records; all optional.

    Keys:
        defaults: values of fields that a row lacks (`task`, `dataset`, `scale`, `scales`).
        columns: names in the rows -> names of the record, such as {"article": "source", "rating": "scores.overall"}.
        systems: wide form: the columns that each hold one system's text; a row becomes one record per system.
        aspects: by task, the aspects to keep; scores on other aspects of that task are dropped.
        group_by_source: makes a group of each source where one group name is used for several, or none is given.
        check: returns the reason why the caller cannot use a record, or None.
        names: collects the columns, tasks, data sets and aspects of the rows.
    """

    defaults: Mapping[str, Any]
    columns: Mapping[str, str]
    systems: Sequence[str]
    aspects: Mapping[str, Sequence[str]]
    group_by_source: bool
    check: Check
    names: Names | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An invalid row: `line` counts from 1 (the header of a CSV is line 1; Parquet rows count from 1).

    `file` is empty for a row in memory. `code` and `key` are those of the `RowError`.
    """

    file: str
    line: int
    reason: str
    code: str = field(default="invalid_value", kw_only=True)
    key: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{_place(self.file, self.line)}: {self.reason}"

    def error(self) -> InputError:
        """The error to raise where no row may be rejected."""
        return InputError(str(self), code=self.code, key=self.key)


def _place(file: str, line: int) -> str:
    return f"{file}, line {line}" if file else f"row {line}"


@dataclass(frozen=True, slots=True)
class Empty(Rejected):
    """A row whose candidate is empty or blank: never an example or training data, and no judge is queried.

    Where texts are judged, `record` is counted, unscored `empty`.
    """

    record: Record


def dev_groups(data: DataConfig) -> frozenset[str]:
    """Keys of the groups in the files of `data.dev`: they are excluded from the test part."""
    rows = read_records(data.dev, **data.reading()) if data.dev else ()
    found = set()
    for row in rows:
        if isinstance(row, Rejected) and not isinstance(row, Empty):
            if data.max_rejected_share == 0:
                raise row.error()  # its group could not be left out
            continue
        found.add((row.record if isinstance(row, Empty) else row).group_key)
    return frozenset(found)


def read_pool(data: DataConfig, *, check: Check = lambda record: None) -> dict[str, Record]:
    """The rated texts of `data.pool` that may be shown as examples, by id. Raises InputError for an invalid row."""
    pool: dict[str, Record] = {}
    for row in read_records(data.pool, check=check, **data.reading()):
        if isinstance(row, Empty):
            continue  # not usable as an example
        if isinstance(row, Rejected):
            raise row.error()
        if data.serves(row):
            pool[row.id] = row
    if data.pool and not pool:
        raise InputError(
            f"data.pool_share: {data.pool_share:g} leaves no group in the pool. Raise it.",
            code="not_enough_groups",
            key="data.pool_share",
        )
    return pool


def read_dev(data: DataConfig, *, check: Check = lambda record: None) -> Iterator[Record]:
    """The texts of the dev part, in the order of the files. Raises InputError for a row that may not be invalid."""
    dev = data.model_copy(update={"part": "dev"})
    for row in read_records(dev.judged, check=check, **data.reading()):
        if isinstance(row, Rejected):
            if data.max_rejected_share == 0 and not isinstance(row, Empty):
                raise row.error()
        elif dev.takes(row):
            yield row


def read_records(
    paths: Iterable[str | Path], *, format: Format = "auto", **options: Unpack[Options]
) -> Iterator[Record | Rejected]:
    """Reads every row of the files, in order, as a `Record` or as `Rejected`.

    A duplicate id is rejected, across files too, and so is a group name used for two different sources. A record whose
    candidate is blank is returned as `Empty`.

    Args:
        paths: files, folders of files, or data sets of the Hugging Face hub (judging/hub.py).
        format: of all files; `auto` infers it from each file's suffix.
        **options: see `Options`.

    Raises:
        InputError: where a file is missing, empty, of unknown format or unreadable as a whole.
    """
    places = [place for path in paths for place in places_of(path, format)]
    door = _Door(places, options)
    for index, place in enumerate(places):
        yield from door.records(index, raw_rows(place, format))


def read_rows(rows: Any, **options: Unpack[Options]) -> Iterator[Record | Rejected]:
    """The same for rows in memory, numbered from 1: "row 17: ...".

    Args:
        rows: an iterable of mappings, such as a list of dicts or a `datasets.Dataset`, or a pandas DataFrame.
        **options: see `Options`.

    Raises:
        InputError: where `rows` is none of these, or has no rows.
    """
    yield from _Door([""], options).records(0, in_memory.raw_rows(rows))


class _Door:
    """Validates the rows of one set of places, which share ids and groups."""

    def __init__(self, places: Sequence[str], options: Options) -> None:
        self._places = places
        self._options = options
        self._defaults = options.get("defaults") or {}
        self._columns = options.get("columns") or {}
        self._systems = tuple(options.get("systems") or ())
        self._by_source = options.get("group_by_source", False)
        self._task: str | None = self._defaults.get("task")
        self._seen = _Seen(places)

    def records(self, index: int, rows: Iterable[tuple[int, dict[str, Any] | RowError]]) -> Iterator[Record | Rejected]:
        """The rows of the place of that index."""
        place, num_rows = self._places[index], 0
        for line, raw in rows:
            num_rows += 1
            try:
                split = self._split(raw)
            except RowError as error:
                yield Rejected(place, line, str(error), code=error.code, key=error.key)
                continue
            for one in split:
                try:
                    record = self._record(one, index, line)
                except RowError as error:
                    yield Rejected(place, line, str(error), code=error.code, key=error.key)
                    continue
                if is_blank(record.candidate):
                    reason = "candidate: empty or blank"
                    yield Empty(place, line, reason, record, code="invalid_value", key="candidate")
                else:
                    yield record
        if num_rows == 0:
            have = f"{place} has no rows. The file" if place else "There are no rows. The data"
            raise InputError(f"{have} must have at least one record.", code="empty_file")

    def _split(self, raw: dict[str, Any] | RowError) -> list[dict[str, Any]]:
        """The row, or in wide form one row per system."""
        if isinstance(raw, RowError):
            raise raw
        if names := self._options.get("names"):
            names.columns_of(raw)
        return split_systems(raw, self._columns, self._systems, self._task) if self._systems else [raw]

    def _record(self, raw: Mapping[str, Any], index: int, line: int) -> Record:
        row = {**self._defaults, **renamed(raw, self._columns, self._task)}
        from_source = self._by_source or bool(self._systems)
        whole = to_record(row, task=self._task, group_from_source=from_source, group_by_source=self._by_source)
        if names := self._options.get("names"):
            names.add(whole)
        record = only_aspects(whole, self._options.get("aspects") or {})
        check = self._options.get("check")
        if problem := (check(record) if check else None) or self._seen.problem(record, index, line):
            raise problem if isinstance(problem, RowError) else RowError(problem, code="invalid_value")
        return record


class _Seen:
    """Ids and groups of the rows so far, as plain integers, so that a million rows need little memory."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places
        self._ids: dict[int, int] = {}  # hash of the id -> line * files + file
        self._groups: dict[int, tuple[int, int]] = {}  # hash of the group -> hash of its source, line * files + file

    def problem(self, record: Record, index: int, line: int) -> RowError | None:
        here = line * len(self._places) + index
        source = hash(plain(record.source))
        known, first = self._groups.setdefault(hash(record.group_key), (source, here))
        if known != source:
            return RowError(
                f"group {record.group!r} has another source in {self._place(first)}. Candidates of one group must "
                "share a source: rename one group or set data.group_by_source to true.",
                code="duplicate_group",
                key="group",
            )
        id = hash(record.id)
        if id not in self._ids:
            self._ids[id] = here
            return None
        return RowError(
            f"duplicate id {record.id!r}, first in {self._place(self._ids[id])}", code="duplicate_id", key="id"
        )

    def _place(self, at: int) -> str:
        line, index = divmod(at, len(self._places))
        return _place(self._places[index], line)


def is_blank(text: str) -> bool:
    """Whether the text has no visible character: it is empty, whitespace, or of zero width."""
    return not any(unicodedata.category(sign) not in BLANK_KINDS and not BLANK_SIGNS.match(sign) for sign in text)
