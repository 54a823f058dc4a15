"""Reads files of rated texts as validated `Record`s, one at a time.

One of the three places where input is validated. An invalid row raises `RowError` inside and reaches the caller as a
`Rejected` value with file, line and reason; a `Record` is trusted from there on.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
)

from judging.columns import INNER, as_text, renamed, task_fields
from judging.data_config import DataConfig, NonEmpty
from judging.data_names import Names
from judging.errors import InputError
from judging.file_errors import CODES
from judging.readers import Format, RowError, raw_rows
from judging.records import Record, Scale, content_id

# The reason why the caller cannot use a record (code `invalid_value`), or an error with a code of its own, or None.
Check = Callable[[Record], RowError | str | None]


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Number = Annotated[FiniteFloat, BeforeValidator(_no_truth_value)]


def _whole_number_as_text(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes integers as floats in a column with missing values
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AsText = BeforeValidator(_whole_number_as_text)
BLANK_KINDS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Zs"))
# Letters without ink, and marks that only select how another character looks.
BLANK_SIGNS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class Row(BaseModel):
    """One row of an input file, as people write it. Unknown text columns become the record's `fields`."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[NonEmpty | None, AsText] = None
    task: NonEmpty
    group: Annotated[NonEmpty, AsText]
    system: Annotated[str, AsText] = ""
    dataset: Annotated[str, AsText] = ""
    source: str
    candidate: str
    scores: dict[str, Number] = Field(default_factory=dict)
    scale: tuple[FiniteFloat, FiniteFloat] | None = None
    scales: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(default_factory=dict)
    ratings: dict[str, list[Number | None]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An invalid row: `line` counts from 1 (the header of a CSV is line 1; Parquet rows count from 1).

    `code` and `key` are those of the `RowError`.
    """

    file: str
    line: int
    reason: str
    code: str = field(default="invalid_value", kw_only=True)
    key: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"

    def error(self) -> InputError:
        """The error to raise where no row may be rejected."""
        return InputError(str(self), code=self.code, key=self.key)


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


# Long because its docstring explains eight arguments; the body is one loop.
def read_records(
    paths: Iterable[str | Path],
    *,
    format: Format = "auto",
    defaults: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    aspects: Mapping[str, Sequence[str]] | None = None,
    group_by_source: bool = False,
    check: Check = lambda record: None,
    names: Names | None = None,
) -> Iterator[Record | Rejected]:
    """Reads every row of the files, in order, as a `Record` or as `Rejected`.

    A duplicate id is rejected, across files too, and so is a group name used for two different sources. A record whose
    candidate is blank is returned as `Empty`.

    Args:
        paths: files, or folders of Parquet files.
        format: of all files; `auto` infers it from each file's suffix.
        defaults: values of fields that a row lacks (`task`, `dataset`, `scale`, `scales`).
        columns: names in the files -> names of the record, such as {"article": "source", "rating": "scores.overall"}.
        aspects: by task, the aspects to keep; scores on other aspects of that task are dropped.
        group_by_source: makes a group of each source where one group name is used for several.
        check: returns the reason why the caller cannot use a record, or None.
        names: collects the columns, tasks, data sets and aspects of the files.

    Raises:
        InputError: where a file is missing, empty, of unknown format or unreadable as a whole.
    """
    places = [str(path) for path in paths]
    seen = _Seen(places)
    task = (defaults or {}).get("task")
    for index, path in enumerate(places):
        num_rows = 0
        for line, raw in raw_rows(path, format):
            num_rows += 1
            try:
                if isinstance(raw, RowError):
                    raise raw
                whole = _to_record(renamed(raw, columns or {}, task), defaults or {}, task, group_by_source)
                if names is not None:
                    names.add(raw, whole)
                record = _only(whole, aspects or {})
                if problem := check(record) or seen.problem(record, index, line):
                    raise problem if isinstance(problem, RowError) else RowError(problem, code="invalid_value")
            except RowError as error:
                yield Rejected(path, line, str(error), code=error.code, key=error.key)
                continue
            if is_blank(record.candidate):
                yield Empty(path, line, "candidate: empty or blank", record, code="invalid_value", key="candidate")
            else:
                yield record
        if num_rows == 0:
            raise InputError(f"{path} has no rows. The file must have at least one record.", code="empty_file")


class _Seen:
    """Ids and groups of the rows so far, as plain integers, so that a million rows need little memory."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places
        self._ids: dict[int, int] = {}  # hash of the id -> line * files + file
        self._groups: dict[int, tuple[int, int]] = {}  # hash of the group -> hash of its source, line * files + file

    def problem(self, record: Record, index: int, line: int) -> RowError | None:
        here = line * len(self._places) + index
        source = hash(_plain(record.source))
        known, first = self._groups.setdefault(hash(record.group_key), (source, here))
        if known != source:
            return RowError(
                f"group {record.group!r} has another source in {self._place(first)}. Candidates of one group must "
                "share a source: rename one group or set data.group_by_source to true.",
                code="duplicate_group",
                key="group",
            )
        first = self._ids.setdefault(hash(record.id), here)
        if first == here:
            return None
        return RowError(f"duplicate id {record.id!r}, first in {self._place(first)}", code="duplicate_id", key="id")

    def _place(self, at: int) -> str:
        line, index = divmod(at, len(self._places))
        return f"{self._places[index]}, line {line}"


def _plain(text: str) -> str:
    return " ".join(text.split())


def is_blank(text: str) -> bool:
    """Whether the text has no visible character: it is empty, whitespace, or of zero width."""
    return not any(unicodedata.category(sign) not in BLANK_KINDS and not BLANK_SIGNS.match(sign) for sign in text)


def _to_record(raw: dict[str, Any], defaults: Mapping[str, Any], task: str | None, group_by_source: bool) -> Record:
    try:
        row = Row(**{**defaults, **raw})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        code = CODES.get(first["type"], "invalid_value")
        raise RowError(f"{key}: {reason[0].lower()}{reason[1:]}", code=code, key=key) from error
    except TypeError as error:
        raise RowError(f"field names must be text: {error}", code="invalid_value") from error
    rated = {*row.scores, *row.ratings}
    scales = {aspect: _scale(aspect, row) for aspect in rated}
    for aspect in row.scales.keys() - rated:
        if near := difflib.get_close_matches(aspect, rated - row.scales.keys(), 1, 0.8):
            message = f"scales.{aspect}: the aspect has no score. Did you mean {near[0]!r}?"
            raise RowError(message, code="unknown_aspect", key=f"scales.{aspect}")
    for aspect, score in row.scores.items():
        if score not in scales[aspect]:
            raise _off_scale(f"scores.{aspect}", score, scales[aspect])
    for aspect, ratings in row.ratings.items():
        for rating in ratings:
            if rating is not None and rating not in scales[aspect]:
                raise _off_scale(f"ratings.{aspect}", rating, scales[aspect])
    fields = {name: as_text(name, value) for name, value in (row.model_extra or {}).items()}
    # A further text that a judge reads, such as a fact, makes another record of the same candidate.
    read = task_fields(row.task, task)
    more = [text for name in sorted(fields) if read is None or name in read for text in (name, fields[name])]
    return Record(
        id=row.id or content_id(row.task, row.dataset, row.group, row.system, row.source, row.candidate, *more),
        task=row.task,
        group=f"{row.group}-{content_id(_plain(row.source))[:8]}" if group_by_source else row.group,
        system=row.system,
        dataset=row.dataset,
        source=row.source,
        candidate=row.candidate,
        fields=fields,
        scores={**_means(row), **row.scores},
        scales=scales,
        ratings={aspect: tuple(ratings) for aspect, ratings in row.ratings.items()},
    )


def _off_scale(key: str, value: float, scale: Scale) -> RowError:
    return RowError(f"{key}: {value:g} lies outside the scale {scale}", code="out_of_scale", key=key)


def _means(row: Row) -> dict[str, float]:
    """The mean of the single ratings, by rated aspect."""
    known = {aspect: [rating for rating in ratings if rating is not None] for aspect, ratings in row.ratings.items()}
    return {aspect: math.fsum(ratings) / len(ratings) for aspect, ratings in known.items() if ratings}


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
        raise RowError(
            f"scores.{aspect} has no scale. Set `scale` in the row or data.scale in the configuration.",
            code="missing_scale",
            key=f"scores.{aspect}",
        )
    try:
        return Scale(*ends)
    except ValueError as error:
        raise RowError(f"scales.{aspect}: {error}", code="invalid_value", key=f"scales.{aspect}") from error
