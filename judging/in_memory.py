"""Rows in memory -> plain values with row numbers: mappings, a pandas DataFrame, a `datasets.Dataset`.

It imports neither pandas nor datasets nor numpy: whoever passes one has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from judging.errors import InputError
from judging.readers import RowError

PANDAS_MISSING = ("NAType", "NaTType")


def raw_rows(rows: Any) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Number, from 1, and content of each row; a row that is not a mapping is a RowError.

    Raises InputError where `rows` is a single mapping or text, or cannot be iterated over.
    """
    for line, row in enumerate(_iterable(rows), start=1):
        if not isinstance(row, Mapping):
            message = f"must be a mapping from column names to values, not {type(row).__name__}"
            yield line, RowError(message, code="invalid_value")
            continue
        yield line, _plain_row(row)


def _iterable(rows: Any) -> Iterable[Any]:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(rows, pandas.DataFrame):
        levels = [name for name in rows.index.names if name is not None]  # an index that is named is a column
        names = [str(name) for name in (*levels, *rows.columns)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"duplicate column name {twice[0]!r}", code="duplicate_key", key=twice[0])
        rows = rows.reset_index(level=levels) if levels else rows
        return (dict(zip(names, cells, strict=True)) for cells in rows.itertuples(index=False, name=None))
    if isinstance(rows, Mapping):
        keys = [str(key) for key in rows]
        inner = f", such as its part {keys[0]!r}" if keys else ""
        raise InputError(
            f"The rows are one mapping with the keys {', '.join(keys) or 'none'}. Pass a list of rows, a DataFrame or "
            f"a Dataset{inner}.",
            code="invalid_value",
        )
    if type(rows).__module__ == "numpy":
        rows = rows.tolist()  # an array without a dimension, which is Iterable and cannot be iterated over
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise InputError(
            f"The rows must be a list of mappings, a DataFrame or a Dataset, not {type(rows).__name__}.",
            code="invalid_value",
        )
    return rows


def _plain_row(row: Mapping[Any, Any]) -> dict[str, Any] | RowError:
    found: dict[str, Any] = {}
    for name, value in row.items():
        try:
            str(name).encode()
            if str(name) in found:
                return RowError(f"duplicate column name {str(name)!r}", code="duplicate_key", key=str(name))
            found[str(name)] = _plain(value)
        except UnicodeEncodeError:
            return RowError(f"{name!a}: an unpaired surrogate", code="invalid_value", key=str(name))
        except RecursionError:
            return RowError(f"{name}: nested too deeply", code="invalid_value", key=str(name))
    return found


def _plain(value: Any) -> Any:
    """The value as JSON would hold it: lists, dicts and Python's own numbers; what pandas calls missing is None."""
    if isinstance(value, str):
        value.encode()  # raises UnicodeEncodeError for an unpaired surrogate
        return str(value)
    if type(value).__module__ == "numpy":
        return _plain(_from_numpy(value))
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if type(value).__name__ in PANDAS_MISSING else value


def _from_numpy(value: Any) -> Any:
    """Python's own value of numpy's, where dates and spans in nanoseconds would become integers."""
    plain = value.tolist()
    if value.dtype.kind not in "mM":
        return plain
    if value.ndim:
        return list(value)
    if not isinstance(plain, int):
        return plain
    exact = value.astype(f"{value.dtype.kind}8[us]")
    return exact.tolist() if exact == value else str(value)
