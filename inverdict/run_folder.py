"""The files that `evaluate` writes into a run folder: no other file is replaced, a refused call leaves none behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cluster.artifacts import write_text
from judging.errors import InputError

CONFIG, ROWS = "inverdict.yaml", "rows.jsonl"
# The first line of a configuration that a later call may replace.
MARK = "# Written by inverdict.evaluate, which replaces this file. Copy it before you change it.\n"


@contextmanager
def written(folder: Path, files: Mapping[str, str]) -> Iterator[None]:
    """Write the files for the jobs that run in the block.

    Where the block fails before a job has begun work of its own, the folder is as it was before.

    Args:
        folder: of the run; created where it is missing.
        files: by name, `CONFIG` and, for rows in memory, `ROWS`.

    Raises:
        InputError: a file with other content is there, or the folder cannot be written.
    """
    before = {name: _content(folder / name) for name in files}
    for name, text in files.items():
        _check_replaceable(folder / name, before[name], text.encode())
    claimed = _claims(folder)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                write_text(folder / name, text)
        except OSError as error:
            words = f"{folder} cannot be written: {error.strerror}. Choose another `run`."
            raise InputError(words, code="store_unwritable", key="run") from error
        yield
    except BaseException:
        if _claims(folder) <= claimed:
            _put_back(folder, before, made)
        raise


def _content(path: Path) -> bytes | None:
    """What is at this place; None where there is nothing."""
    if not path.exists():
        return None
    return path.read_bytes() if path.is_file() else b""


def _check_replaceable(path: Path, there: bytes | None, wanted: bytes) -> None:
    """Raises InputError where writing the file would lose content that is not ours."""
    if there is None or there == wanted:
        return
    if path.name == ROWS:
        words = f"{path} has other rows, which are not overwritten. Choose another `run`."
        raise InputError(words, code="other_rows", key="run")
    if not there.startswith(MARK.encode()):
        words = f"{path} is a configuration of your own, which is not overwritten. Choose another `run`."
        raise InputError(words, code="other_configuration", key="run")


def _claims(folder: Path) -> set[Path]:
    """The fingerprints of the jobs that have begun work in the folder."""
    return set(folder.rglob("fingerprint.json"))


def _put_back(folder: Path, before: Mapping[str, bytes | None], made: list[Path]) -> None:
    for name, there in before.items():
        if not (folder / name).exists():
            continue
        if there is None:
            (folder / name).unlink()
        elif (folder / name).read_bytes() != there:
            write_text(folder / name, there.decode())
    for one in made:
        if one.exists() and not any(one.iterdir()):
            one.rmdir()
