"""One row of a file, with the record's names, -> a validated `Record`. It reads no files and knows no other row."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from judging.chat import with_texts
from judging.columns import INNER, as_text, first_aspect, name_as_text, number_as_text, task_fields
from judging.data_config import NonEmpty
from judging.file_errors import CODES
from judging.preferences import with_preference
from judging.readers import RowError
from judging.records import Record, Scale, content_id

# The way out where a row lacks a field.
WAYS_OUT = {
    "task": "set data.task",
    "group": "map a column to it (data.columns), or set data.group_by_source to make one of each source",
    "source": "map a column to it (data.columns), as `inverdict init` does",
    "candidate": "map a column to it (data.columns), as `inverdict init` does",
}


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Number = Annotated[FiniteFloat, BeforeValidator(_no_truth_value)]
AsText = BeforeValidator(name_as_text)


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


def to_record(
    raw: dict[str, Any], *, task: str | None, group_from_source: bool = False, group_by_source: bool = False
) -> Record:
    """The record of a row.

    Args:
        raw: the row, with the record's names and the defaults of what it lacks.
        task: the configured task; a task file is read only where it is this one.
        group_from_source: makes a group of the source where the row has none.
        group_by_source: adds the source to the group's name, so that each source is a group of its own.

    Raises:
        RowError: the row is invalid.
    """
    values = with_preference(_texts(with_texts(raw)), first_aspect(raw.get("task"), task))
    source = values.get("source")
    is_needed = (group_from_source or group_by_source) and isinstance(source, str)
    digest = content_id(plain(str(source))) if is_needed else ""
    if is_grouped_here := group_from_source and bool(digest) and values.get("group") is None:
        values = {**values, "group": digest}
    row = _row(values)
    scales = {aspect: _scale(aspect, row) for aspect in {*row.scores, *row.ratings}}
    _check_scores(row, scales)
    fields = {name: as_text(name, value) for name, value in (row.model_extra or {}).items()}
    # A further text that a judge reads, such as a fact, makes another record of the same candidate.
    read = task_fields(row.task, task)
    more = [text for name in sorted(fields) if read is None or name in read for text in (name, fields[name])]
    return Record(
        id=row.id or content_id(row.task, row.dataset, row.group, row.system, row.source, row.candidate, *more),
        task=row.task,
        group=f"{row.group}-{digest[:8]}" if group_by_source and not is_grouped_here else row.group,
        system=row.system,
        dataset=row.dataset,
        source=row.source,
        candidate=row.candidate,
        fields=fields,
        scores={**_means(row), **row.scores},
        scales=scales,
        ratings={aspect: tuple(ratings) for aspect, ratings in row.ratings.items()},
    )


def plain(text: str) -> str:
    """The text with single spaces and composed letters: sources that differ in these alone are the same."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a text for a source or candidate that is a number, a truth value or a date."""
    values = {name: row[name] for name in ("source", "candidate") if name in row}
    plain = {name: one for name, one in values.items() if not isinstance(one, str | list | tuple | dict | None)}
    return {**row, **{name: as_text(name, number_as_text(value)) for name, value in plain.items()}}


def only_aspects(record: Record, aspects: Mapping[str, Sequence[str]]) -> Record:
    """The record without scores on aspects that are not among those of its task in `aspects`."""
    if record.task not in aspects:
        return record
    kept: dict[str, Any] = {
        name: {aspect: value for aspect, value in getattr(record, name).items() if aspect in aspects[record.task]}
        for name in INNER
    }
    return replace(record, **kept)


def _row(values: Mapping[str, Any]) -> Row:
    try:
        return Row(**values)
    except ValidationError as error:
        # A group is made of the source, so that a missing source is reported first.
        first = min(error.errors(), key=lambda one: one["loc"] == ("group",))
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        reason = f"{key}: {reason[0].lower()}{reason[1:]}"
        if first["type"] == "missing" and key in WAYS_OUT:
            reason = f"{reason}; {WAYS_OUT[key]}"
        raise RowError(reason, code=CODES.get(first["type"], "invalid_value"), key=key) from error
    except TypeError as error:
        raise RowError(f"field names must be text: {error}", code="invalid_value") from error


def _check_scores(row: Row, scales: Mapping[str, Scale]) -> None:
    """Raises RowError for a score outside its scale, and for a scale of an aspect without a score."""
    for aspect in row.scales.keys() - scales.keys():
        if near := difflib.get_close_matches(aspect, scales.keys() - row.scales.keys(), 1, 0.8):
            message = f"scales.{aspect}: the aspect has no score. Did you mean {near[0]!r}?"
            raise RowError(message, code="unknown_aspect", key=f"scales.{aspect}")
    for aspect, score in row.scores.items():
        if score not in scales[aspect]:
            raise _off_scale(f"scores.{aspect}", score, scales[aspect])
    for aspect, ratings in row.ratings.items():
        for rating in ratings:
            if rating is not None and rating not in scales[aspect]:
                raise _off_scale(f"ratings.{aspect}", rating, scales[aspect])


def _off_scale(key: str, value: float, scale: Scale) -> RowError:
    return RowError(f"{key}: {value:g} lies outside the scale {scale}", code="out_of_scale", key=key)


def _means(row: Row) -> dict[str, float]:
    """The mean of the single ratings, by rated aspect."""
    known = {aspect: [rating for rating in ratings if rating is not None] for aspect, ratings in row.ratings.items()}
    return {aspect: math.fsum(ratings) / len(ratings) for aspect, ratings in known.items() if ratings}


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
