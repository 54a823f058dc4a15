"""Reads the rows of Parquet files, and of a folder that Hugging Face's `Dataset.save_to_disk` wrote (Arrow files)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from judging.errors import InputError

STATE, SPLITS = "state.json", "dataset_dict.json"  # what save_to_disk writes beside a data set, and beside its splits


def parquet_rows(files: Sequence[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the files, counted from 1 over all of them. Raises InputError for a file that cannot be read."""
    return _rows(files, _parquet_batches, "Parquet")


def saved_rows(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same for a saved data set, whose `state.json` names the Arrow files that belong to it."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        files = [folder / Path(one["filename"]).name for one in state["_data_files"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder / STATE} does not name the files of a saved data set. Save it again, or name its files.",
            code="unreadable_file",
        ) from error
    return _rows(files, _arrow_batches, "Arrow")


def is_saved(folder: Path) -> bool:
    """Whether the folder is a saved data set. Raises InputError for one with several splits, naming them."""
    if (folder / SPLITS).is_file():
        splits = sorted(file.parent.name for file in folder.glob(f"*/{STATE}"))
        named = f" such as {folder / splits[0]}" if splits else ""
        raise InputError(
            f"{folder} holds the splits {', '.join(splits) or 'none'}. Name the folder of one of them,{named}.",
            code="unsupported",
            key="data.records",
        )
    return (folder / STATE).is_file() and (folder / "dataset_info.json").is_file()


def _parquet_batches(file: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    yield from pq.ParquetFile(file).iter_batches(batch_size=1024)


def _arrow_batches(file: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader


def _rows(
    files: Sequence[Path], batches: Callable[[Path], Iterator[Any]], kind: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa

    line = 0
    for file in files:
        try:
            for batch in batches(file):
                names = [name.strip() for name in batch.schema.names]
                if twice := [name for name in names if names.count(name) > 1]:
                    raise InputError(f"{file}: duplicate column name {twice[0]!r}", code="duplicate_key", key=twice[0])
                for row in batch.to_pylist():
                    line += 1
                    yield line, row
        except InputError:
            raise
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            message = f"{file} is not a readable {kind} file: {str(error).splitlines()[0]}"
            raise InputError(message, code="unreadable_file") from error
