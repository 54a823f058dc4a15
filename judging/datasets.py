"""Files of rated texts -> `Record`s, strictly, one at a time.

One of the three doors where input is validated. A row that does not fit raises `RowError` inside and reaches the
caller as a `Rejected` value with file, line and reason; what comes out as a `Record` is trusted from there on.
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

from judging.columns import INNER, as_text, renamed, task_fields, trimmed
from judging.data_config import DataConfig, NonEmpty
from judging.errors import InputError
from judging.readers import Format, RowError, raw_rows
from judging.records import Record, Scale, content_id


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


Number = Annotated[FiniteFloat, BeforeValidator(_no_truth_value)]


def _whole_number_as_text(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # how pandas writes whole numbers with gaps
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AsText = BeforeValidator(_whole_number_as_text)
BLANK_KINDS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Zs"))
# Letters without ink, and marks that only choose how another sign looks.
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
    """A row that did not fit: `line` counts from 1 (the header of a CSV is line 1; Parquet rows count from 1)."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Empty(Rejected):
    """A row whose candidate is empty or blank: nothing to show as an example or to learn from, and no judge is asked.
    Where texts are judged, `record` is counted, unscored `empty`."""

    record: Record


@dataclass
class Names:
    """What the files of a run hold, to compare with what its settings name."""

    columns: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    datasets: set[str] = field(default_factory=set)
    rated: set[tuple[str, str]] = field(default_factory=set)  # task, aspect

    def add(self, raw: Mapping[str, Any], record: Record) -> None:
        self.columns.update(map(trimmed, raw))
        self.tasks.add(record.task)
        self.datasets.add(record.dataset)
        self.rated.update((record.task, aspect) for aspect in (*record.scores, *record.ratings))

    def problem(self, data: DataConfig) -> str | None:
        """The first setting of `data` that names what no file has."""
        if missing := [name for name in data.columns if trimmed(name) not in self.columns]:
            return f"data.columns: no file has a column {missing[0]!r}: they have {_listed(self.columns)}"
        for task, aspects in data.aspects.items():
            if task not in self.tasks:
                return f"data.aspects: no record is of the task {task!r}: there are {_listed(self.tasks)}"
            rated = {aspect for of, aspect in self.rated if of == task}
            if missing := [aspect for aspect in aspects if aspect not in rated]:
                return f"data.aspects.{task}: nobody rated {missing[0]!r}: rated are {_listed(rated)}"
        shares = data.groups_share if isinstance(data.groups_share, dict) else {}
        if missing := [name for name in shares if name not in self.datasets]:
            return f"data.groups_share: no record is of the data set {missing[0]!r}: there are {_listed(self.datasets)}"
        return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(repr, names))) or "none"


def dev_groups(data: DataConfig) -> frozenset[str]:
    """Keys of the groups in the files of `data.dev`: they must not be tested on."""
    rows = read_records(data.dev, **data.reading()) if data.dev else ()
    found = set()
    for row in rows:
        if isinstance(row, Rejected) and not isinstance(row, Empty):
            if data.max_rejected_share == 0:
                raise InputError(str(row))  # its group could not be left out
            continue
        found.add((row.record if isinstance(row, Empty) else row).group_key)
    return frozenset(found)


def read_pool(data: DataConfig, *, check: Callable[[Record], str | None] = lambda record: None) -> dict[str, Record]:
    """The rated texts of `data.pool` that may serve, by id; a row that does not fit (`check`) raises InputError."""
    pool: dict[str, Record] = {}
    for row in read_records(data.pool, check=check, **data.reading()):
        if isinstance(row, Empty):
            continue  # it can teach nothing
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
    group_by_source: bool = False,
    check: Callable[[Record], str | None] = lambda record: None,
    names: Names | None = None,
) -> Iterator[Record | Rejected]:
    """Every row of the files, in order, as a record or as a rejection.

    `defaults` fills what a row leaves out (`task`, `dataset`, `scale`, `scales`). `columns` renames a file's columns
    to ours, for instance {"article": "source", "rating": "scores.overall"}. `aspects`: for a task named there, what
    people said of other aspects is dropped. An id seen before is rejected, wherever the first one stood, and so is a
    group whose name stood for another source; `group_by_source` keeps such groups apart instead. `check` may refuse a
    record that does not fit the caller: it returns the reason. `names` is told what the files hold. A record whose
    candidate is blank comes as `Empty`.

    Raises InputError where a file is missing, empty, of unknown format or unreadable as a whole.
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
                if reason := check(record) or seen.problem(record, index, line):
                    raise RowError(reason)
            except RowError as error:
                yield Rejected(path, line, str(error))
                continue
            if is_blank(record.candidate):
                yield Empty(path, line, "candidate: it is empty or blank", record)
            else:
                yield record
        if num_rows == 0:
            raise InputError(f"{path} holds no rows: give a file with at least one record")


class _Seen:
    """Ids and groups of the rows so far, as plain numbers: they keep a million small."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places
        self._ids: dict[int, int] = {}  # hash of the id -> line * files + file
        self._groups: dict[int, tuple[int, int]] = {}  # hash of the group -> hash of its source, line * files + file

    def problem(self, record: Record, index: int, line: int) -> str | None:
        here = line * len(self._places) + index
        source = hash(_plain(record.source))
        known, first = self._groups.setdefault(hash(record.group_key), (source, here))
        if known != source:
            return (
                f"group {record.group!r} has another source in {self._place(first)}: candidates of one group answer "
                "the same source; rename one, or set data.group_by_source: true"
            )
        first = self._ids.setdefault(hash(record.id), here)
        return None if first == here else f"id {record.id!r} stands already in {self._place(first)}"

    def _place(self, at: int) -> str:
        line, index = divmod(at, len(self._places))
        return f"{self._places[index]}, line {line}"


def _plain(text: str) -> str:
    return " ".join(text.split())


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen: it is empty, white space, or of zero width."""
    return not any(unicodedata.category(one) not in BLANK_KINDS and not BLANK_SIGNS.match(one) for one in text)


def _to_record(raw: dict[str, Any], defaults: Mapping[str, Any], task: str | None, group_by_source: bool) -> Record:
    try:
        row = Row(**{**defaults, **raw})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RowError(f"{place}: {reason[0].lower()}{reason[1:]}") from error
    except TypeError as error:
        raise RowError(f"field names must be text: {error}") from error
    rated = {*row.scores, *row.ratings}
    scales = {aspect: _scale(aspect, row) for aspect in rated}
    for aspect in row.scales.keys() - rated:
        if near := difflib.get_close_matches(aspect, rated - row.scales.keys(), 1, 0.8):
            raise RowError(f"scales.{aspect}: nobody rated it: did you mean {near[0]!r}?")
    for aspect, score in row.scores.items():
        if score not in scales[aspect]:
            raise RowError(f"scores.{aspect}: {score:g} lies outside the scale {scales[aspect]}")
    for aspect, ratings in row.ratings.items():
        for rating in ratings:
            if rating is not None and rating not in scales[aspect]:
                raise RowError(f"ratings.{aspect}: {rating:g} lies outside the scale {scales[aspect]}")
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


def _means(row: Row) -> dict[str, float]:
    """The mean of the single ratings of each aspect that people rated."""
    known = {aspect: [one for one in ratings if one is not None] for aspect, ratings in row.ratings.items()}
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
        raise RowError(f"scores.{aspect} has no scale: give `scale` in the row or data.scale in the configuration")
    try:
        return Scale(*ends)
    except ValueError as error:
        raise RowError(f"scales.{aspect}: {error}") from error
