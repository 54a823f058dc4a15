"""Rows of the record browser -> the compressed JSON that `templates/records.js` reads.

A text is stored once, however many rows have it: columns of texts hold its place in `texts`, where 0 is the empty text.
Compressed in base64 the data cannot end their script element, and a page of 20,000 rows stays small.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation.judges.aggregation import PANEL
from evaluation.reporting.record_rows import Rows, counted
from judging.records import UNSCORED_REASONS

TEXT_COLUMNS = ("id", "task", "dataset", "group", "system", "aspect", "source", "candidate")
NUMBER_COLUMNS = {"label": "label", "low": "scale_low", "high": "scale_high"}
SOME = ("fallback", "reasoning")  # columns that only some judges have
JUDGE_TEXTS = ("unscored", "reason", *SOME)
JUDGE_NUMBERS = ("score", "label_mass", "low", "high", "novelty", "num_votes", "vote")
MAX_TEXT_CHARS = 100_000  # of one text
MAX_CHARS = 80_000_000  # of all texts: beyond it browsers take seconds to open the page
DIGITS = 6  # significant ones


def packed(rows: Rows, *, label: str, features: Mapping[str, str] | None = None) -> bytes:
    """The rows as JSON, compressed with gzip.

    Args:
        rows: of the evaluation.
        label: what the labels are called, such as "human score".
        features: text feature by judge, for judges that are one.
    """
    texts = _Texts()
    columns = {name: texts.places(rows.columns.get(name), len(rows)) for name in TEXT_COLUMNS}
    columns["ratings"] = texts.places(map(_ratings, rows.columns.get("ratings", [None] * len(rows))), len(rows))
    fields = [_fields(one) for one in rows.columns.get("fields", ())]
    content: dict[str, Any] = {
        "num_rows": len(rows),
        "label": label,
        "columns": columns | ({"fields": [texts.places(one, len(one)) for one in fields]} if any(fields) else {}),
        "numbers": {name: _numbers(rows.columns.get(own), len(rows)) for name, own in NUMBER_COLUMNS.items()},
        "judges": [_judge(rows, name, texts, (features or {}).get(name)) for name in rows.judges],
        "reasons": UNSCORED_REASONS,
    }
    content["texts"], cut = texts.cut()
    content["note"] = " ".join(filter(None, [rows.note, cut]))
    encoded = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return gzip.compress(encoded, 6, mtime=0)


def _judge(rows: Rows, name: str, texts: _Texts, feature: str | None) -> dict[str, Any]:
    own = {key: rows.columns.get(f"{name}.{key}") for key in (*JUDGE_TEXTS, *JUDGE_NUMBERS)}
    modes = rows.columns.get(f"{name}.mode") or ()
    return {
        "name": name,
        "title": f"{name} (feature: {feature})" if feature else name,
        "is_panel": name == PANEL,
        "is_feature": feature is not None or "feature" in modes,
        "columns": {key: texts.places(own[key], len(rows)) for key in JUDGE_TEXTS if own[key] or key not in SOME},
        "numbers": {key: _numbers(own[key], len(rows)) for key in JUDGE_NUMBERS if own[key] or key == "score"},
    }


class _Texts:
    """Texts by their place; the same text has one place."""

    def __init__(self) -> None:
        self._places = {"": 0}

    def places(self, column: Iterable[str | None] | None, num_rows: int) -> list[int]:
        """The place of each text of a column; None, or no column: the empty text."""
        known = self._places
        return [0] * num_rows if column is None else [known.setdefault(one or "", len(known)) for one in column]

    def cut(self) -> tuple[list[str], str]:
        """The texts in order, the longest cut so that all fit in a page, and in words whether some are."""
        limit, lengths = MAX_TEXT_CHARS, [len(one) for one in self._places]
        while limit > 1 and sum(min(length, limit) for length in lengths) > MAX_CHARS:
            limit //= 2
        number = sum(length > limit for length in lengths)
        verb = "is" if number == 1 else "are"
        said = f"{counted(number, 'text')} of more than {limit:,} characters {verb} cut." if number else ""
        kept = [one if len(one) <= limit else f"{one[:limit]} … [cut: {len(one):,} characters]" for one in self._places]
        return kept, said


def _numbers(column: Sequence[float | None] | None, num_rows: int) -> list[float | None]:
    """A column as JSON's numbers: null where it is undefined."""
    if column is None:
        return [None] * num_rows
    return [None if one is None or not math.isfinite(one) else float(f"{one:.{DIGITS}g}") for one in column]


def _ratings(known: str | None) -> str:
    return ", ".join("–" if one is None else f"{one:g}" for one in json.loads(known or "[]"))


def _fields(known: str | None) -> list[str]:
    """Names and texts of a record's further fields, one after the other."""
    return [text for pair in json.loads(known or "{}").items() for text in pair]
