"""A job's rows as Parquet parts: written atomically under a name derived from their ids, read in order of name.

Knows no columns. Parts damaged by a killed job are removed when they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import JobFailed, UserError


def write_part(folder: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, ids: Iterable[str]) -> None:
    """Write one part, named after `ids`: the same rows written again replace it.

    Args:
        folder: where the parts are.
        rows: of the part.
        schema: of the part.
        ids: the rows' ids, in order.
    """
    name = hashlib.sha256("\0".join(ids).encode()).hexdigest()[:16]
    beside = folder / f".part-{name}.parquet"
    try:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), beside, compression="zstd")
        beside.rename(folder / f"part-{name}.parquet")
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def parts_of(folder: Path) -> list[Path]:
    """The folder's parts in order of name."""
    return sorted(folder.glob("part-*.parquet"))


@contextmanager
def readable(path: Path, job: Path, command: str) -> Iterator[None]:
    """Around what reads finished work: raises UserError where a file is damaged.

    Args:
        path: the file, or the folder with its parts.
        job: the job's folder; without its manifest the job writes the file again.
        command: of the job, without `inverdict`.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = f"{path} cannot be read" if path.is_file() else f"A file in {path} cannot be read"
        raise UserError(
            f"{what}. Delete {job / 'manifest.json'} and run `inverdict {command}` again.", code="damaged_artifact"
        ) from error


def sound_rows(folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`columns`, which the parts must have, of every row on disk; for damaged parts see `sound_parts`."""
    for rows in sound_parts(folder, columns):
        yield from rows


def sound_parts(folder: Path, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The same, part by part.

    A damaged part is removed, so that its rows are computed again. Raises JobFailed if a part cannot be read.
    """
    for part in parts_of(folder):
        try:
            rows = pq.read_table(part, columns=list(columns)).to_pylist()
        except pa.ArrowInvalid:
            part.unlink()
            continue
        except OSError as error:
            # pyarrow raises a bare OSError for a damaged part; system errors (no permission, too many open files)
            # have an errno or a class of their own, and the part may be intact.
            if type(error) is not OSError or error.errno is not None:
                raise JobFailed(
                    f"{part} cannot be read, and is kept: {str(error).splitlines()[0]}.", code="unreadable_file"
                ) from error
            part.unlink()
            continue
        yield rows


def forget_rows(
    parts: Iterable[Path], column: str, before: Callable[[], None], *, but: tuple[str, Sequence[str]] | None = None
) -> bool:
    """Remove the rows whose `column` is null.

    Args:
        parts: files with that column.
        column: a null in it removes the row.
        before: called before the first removal: a kill in between must not leave rows missing in completed work.
        but: (column, texts): rows with one of the texts in that column are kept.

    Returns:
        Whether any row was removed.
    """
    found = False
    for part in parts:
        table = pq.read_table(part)
        stays = table.column(column).is_valid()
        if but is not None:
            stays = pc.or_(stays, pc.fill_null(pc.is_in(table.column(but[0]), pa.array(but[1])), False))
        kept = table.filter(stays)
        if kept.num_rows == table.num_rows:
            continue
        if not found:
            before()
        found = True
        beside = part.with_name(f".{part.name}")
        pq.write_table(kept, beside)
        beside.rename(part)
    return found
