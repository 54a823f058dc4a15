"""Small files of rated texts, and what is read from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from judging.datasets import Rejected, read_records
from judging.errors import InputError
from judging.records import Record, Scale

GOOD: Mapping[str, Any] = {
    "id": "r1",
    "task": "qa",
    "group": "g1",
    "system": "s1",
    "source": "Why?",
    "candidate": "So.",
    "scores": {"overall": 4},
    "scale": [1, 5],
}
RECORD = Record(
    "r1", "qa", "g1", "Why?", "So.", "s1", scores={"overall": 4.0}, scales={"overall": Scale(1, 5)}
)  # what GOOD becomes


def row(**changes: Any) -> dict[str, Any]:
    """GOOD with some keys changed; None takes a key away."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not None}


def write(tmp_path: Path, content: str | bytes, name: str = "x.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(tmp_path: Path, *rows: object, name: str = "x.jsonl") -> Path:
    return write(tmp_path, "".join(f"{json.dumps(one)}\n" for one in rows), name)


def parquet(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(one) for one in rows]), path)
    return path


def records(*paths: Path, **options: Any) -> list[Record]:
    """The files' records; none of their rows may be rejected."""
    read = list(read_records(paths, **options))
    assert [str(one) for one in read if isinstance(one, Rejected)] == []
    return [one for one in read if isinstance(one, Record)]


def rejected(*paths: Path, **options: Any) -> list[Rejected]:
    return [one for one in read_records(paths, **options) if isinstance(one, Rejected)]


def refused_whole(code: str, *paths: Path, key: str = "", naming: str = "", **options: Any) -> None:
    """The last of the files must be refused as a whole, with that code and key, by name (`naming`, if not its own)."""
    with pytest.raises(InputError) as caught:
        list(read_records(paths, **options))
    assert (caught.value.code, caught.value.key) == (code, key), str(caught.value)
    assert (naming or str(paths[-1])) in str(caught.value) and "\n" not in str(caught.value)
