"""Fetches a public data set: downloads the published files, converts and checks them, writes `NAME.jsonl` to the cache.

Beside it lies `NAME.json` with the sha256 of the published files, by which a later fetch sees that one has changed. A
data set in the cache is complete or absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cluster.artifacts import read_json, write_text
from cluster.download import commit_of, download, hub_files
from cluster.embedded import locked, sha256
from cluster.errors import JobFailed, UserError
from cluster.terminal import say
from judging.datasets import Empty, Rejected, read_records
from judging.public_data.converters import CONVERTERS
from judging.public_data.places import cache_folder
from judging.public_data.registry import INSTRUCTIONS, Entry, named
from judging.tasks import unknown_aspect

ORIGIN = ".origin"  # beside the files of a fetch: their address, which names a commit
MAX_LEFT_OUT = 0.05  # share of converted rows that may not fit


class Fetched(NamedTuple):
    """A data set in the cache: its file, number of rows, and number of published rows that do not fit."""

    name: str
    path: Path
    rows: int
    left_out: int


def fetch(name: str, *, folder: Path | None = None, again: bool = False) -> Fetched:
    """Fetch a data set unless it is in the cache; safe to call from several processes.

    Args:
        name: of a data set, or of a part of one.
        folder: has the published files already; they are converted, also if the data set is in the cache.
        again: fetch it even if it is in the cache.

    Raises:
        InputError: the name is unknown.
        UserError: `folder` lacks a file, or the published files are not those of the first fetch.
        JobFailed: the files cannot be downloaded, are too large, or lack the form that the converter reads.
    """
    known = named(name)
    place = cache_folder() / f"{known.name}.jsonl"
    with locked(place):
        record = read_json(place.with_suffix(".json"))
        is_here = record is not None and place.is_file() and sha256(place) == record["sha256"]
        if record is not None and is_here and not again and folder is None:
            return Fetched(known.name, place, record["rows"], record["left_out"])
        say(f"{known.name}: licence: {known.entry.licence}. Published at {known.entry.homepage}.")
        if folder is None:
            at, files = _downloaded(known.name, known.entry, _downloads(place))
        else:
            at, files = None, _given(known.name, known.entry, folder)
        hashes = {file: sha256(path) for file, path in files.items()}
        of_before = record["files"] if record is not None and record["at"] == _address(known.entry) else {}
        expected = {**of_before, **known.entry.checksums}
        _check(known.name, hashes, expected, place)
        return _write(known.name, known.entry, files, {"downloaded_from": at, "files": hashes}, place)


def _downloads(place: Path) -> Path:
    """Where the published files are kept until the conversion succeeds."""
    return place.parent / f".{place.stem}.files"


def _downloaded(name: str, entry: Entry, downloads: Path) -> tuple[str, dict[str, Path]]:
    """The address of the published files, with their commit where the host tells it, and the files by their names."""
    at = _pinned(name, entry, downloads)
    names = [one for file in entry.files for one in (hub_files(at, file) if "*" in file else [file])]
    found = {file: downloads / file for file in names}
    left = entry.max_mb * 1_000_000
    for number, (file, path) in enumerate(found.items(), 1):
        if not path.exists():
            try:
                download(f"{at}/{file}", path, what=f"{name}, file {number} of {len(found)}", max_bytes=left)
            except JobFailed as error:
                if error.code == "too_large":
                    shutil.rmtree(downloads)
                raise
        left -= path.stat().st_size
    return at, found


def _pinned(name: str, entry: Entry, downloads: Path) -> str:
    """The address at the commit that the revision is at now; files of an interrupted fetch of another are removed."""
    commit = commit_of(entry.at, entry.revision)
    at = entry.at.format(revision=commit or entry.revision)
    origin = downloads / ORIGIN
    if commit is None or not origin.is_file() or origin.read_text() != at:
        shutil.rmtree(downloads, ignore_errors=True)
    if commit is None:
        say(f"{name}: the commit of `{entry.revision}` is not known: an interrupted fetch will begin anew.")
    else:
        downloads.mkdir(parents=True, exist_ok=True)
        write_text(origin, at)
    return at


def _address(entry: Entry) -> str:
    return entry.at.format(revision=entry.revision)


def _given(name: str, entry: Entry, folder: Path) -> dict[str, Path]:
    """The published files in a folder: below it as published, or directly in it if their last names differ."""
    found: dict[str, Path] = {}
    is_flat = len({Path(file).name for file in entry.files}) == len(entry.files)
    for file in entry.files:
        paths = sorted(folder.glob(file)) or sorted(folder.glob(Path(file).name) if is_flat else ())
        if not paths:
            raise UserError(
                f"--from: {folder} lacks {file} of {name}. It is published at {entry.homepage}.", code="missing_file"
            )
        found |= {file if "*" not in file else str(Path(file).with_name(path.name)): path for path in paths}
    return found


def _check(name: str, hashes: Mapping[str, str], expected: Mapping[str, str], place: Path) -> None:
    """Raises UserError where a published file is not the expected one."""
    if changed := [file for file, digest in hashes.items() if expected.get(file, digest) != digest]:
        shutil.rmtree(_downloads(place), ignore_errors=True)
        raise UserError(
            f"{changed[0]} of {name} has another sha256 than expected: the publisher has changed it. To accept it, "
            f"delete {place.with_suffix('.json')} and fetch again; results on the two are not comparable.",
            code="damaged_artifact",
        )


def _write(name: str, entry: Entry, files: Mapping[str, Path], origin: Mapping[str, Any], place: Path) -> Fetched:
    """Convert, check and move into place. `origin`: what the record says of the files beside their registered place."""
    stage = place.with_name(f".{name}.jsonl")
    try:
        rows = _convert(name, entry, files, stage)
        left_out = _without_invalid(name, stage, rows) if entry.is_checked and entry.task != INSTRUCTIONS else 0
    except JobFailed:
        stage.unlink()
        shutil.rmtree(_downloads(place), ignore_errors=True)
        raise
    record = {
        "name": name,
        "at": _address(entry),
        "licence": entry.licence,
        **origin,
        "sha256": sha256(stage),
        "rows": rows - left_out,
        "left_out": left_out,
    }
    stage.replace(place)
    write_text(place.with_suffix(".json"), json.dumps(record, indent=1))
    shutil.rmtree(_downloads(place), ignore_errors=True)
    say(f"{name}: {record['rows']} rows")
    return Fetched(name, place, rows - left_out, left_out)


def _convert(name: str, entry: Entry, files: Mapping[str, Path], stage: Path) -> int:
    """Write the converted rows to `stage`; returns their number."""
    rows = 0
    try:
        with stage.open("w", encoding="utf-8") as file:
            for row in CONVERTERS[entry.converter](files):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                rows += 1
        if not rows:
            raise ValueError("no rows")
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0].rstrip(".")
        raise JobFailed(
            f"{name}: the published files do not have the expected form ({reason}). Convert them to {name}.jsonl "
            "yourself, in the form of docs/data.md, and set INVERDICT_DATA to its folder.",
            code="unsupported",
        ) from error
    return rows


def _without_invalid(name: str, stage: Path, rows: int) -> int:
    """Leave out the rows that the reader of a job would reject; returns their number."""
    invalid = {row.line: row for row in _rejected(stage)}
    if len(invalid) > MAX_LEFT_OUT * rows:
        first = next(iter(invalid.values()))
        raise JobFailed(
            f"{name}: {len(invalid)} of {rows} rows do not fit, the first: {first.reason.rstrip('.')}. Convert the "
            f"published files to {name}.jsonl yourself, and set INVERDICT_DATA to its folder.",
            code="unsupported",
        )
    if invalid:
        for row in list(invalid.values())[:3]:
            say(f"{name}: row {row.line} is left out: {row.reason}")
        with stage.open(encoding="utf-8") as file:  # splitlines would split at a line separator inside a text
            kept = [line for number, line in enumerate(file, 1) if number not in invalid]
        write_text(stage, "".join(kept))
    return len(invalid)


def _rejected(stage: Path) -> Iterator[Rejected]:
    for row in read_records([stage], format="jsonl", check=unknown_aspect):
        if isinstance(row, Rejected) and not isinstance(row, Empty):
            yield row


def recorded(name: str) -> dict[str, Any] | None:
    """What was recorded when the data set was fetched; None: it has not been fetched. Raises UserError if damaged."""
    return read_json(cache_folder() / f"{name}.json")
