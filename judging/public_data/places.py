"""`dataset:NAME` in a configuration -> the file on this machine: a local copy of the user, or one that was fetched.

Local copies are the files `NAME.jsonl` of the folder INVERDICT_DATA; they come before fetched files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from judging.errors import InputError
from judging.public_data.registry import named

PREFIX = "dataset:"
LOCAL = "INVERDICT_DATA"


class Located(NamedTuple):
    """A data set's file, and the value of `dataset` in the rows of a part; None: all rows."""

    path: Path
    part: str | None


def is_dataset(place: str) -> bool:
    """Whether the place is the name of a public data set, known or not."""
    return place.startswith(PREFIX)


def _checked(place: str) -> str:
    if is_dataset(place):
        named(place.removeprefix(PREFIX))
    return place


# A file, folder or other place of rows; as a data set's name it must be in the registry.
Place = Annotated[str, AfterValidator(_checked)]


def cache_folder() -> Path:
    """Where fetched data sets are kept: `data` in Inverdict's cache (`cluster.embedded.cache_root`)."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "inverdict"
    return Path(os.environ.get("INVERDICT_CACHE") or home).expanduser().absolute() / "data"


def local_folder() -> Path | None:
    """The folder of the user's own copies, if INVERDICT_DATA names one."""
    folder = os.environ.get(LOCAL)
    return Path(folder).expanduser().absolute() if folder else None


def file_of(name: str) -> Path | None:
    """The file of a data set or part on this machine: a local copy, a fetched one, or None."""
    whole = named(name).name
    folders = [folder for folder in (local_folder(), cache_folder()) if folder]
    return next((file for folder in folders if (file := folder / f"{whole}.jsonl").is_file()), None)


def located(place: str) -> Located:
    """The file and the part of a place `dataset:NAME`. Raises InputError where it is unknown or not here."""
    name = place.removeprefix(PREFIX)
    if (file := file_of(name)) is None:
        raise absent([place])
    return Located(file, named(name).part)


def is_here(place: str) -> bool:
    """Whether the place names a public data set that is on this machine."""
    return is_dataset(place) and file_of(place.removeprefix(PREFIX)) is not None


def check_here(places: Iterable[str]) -> None:
    """Raises InputError, with all names, where data sets among the places are not on this machine."""
    if gone := [place for place in places if is_dataset(place) and not is_here(place)]:
        raise absent(gone)


def absent(places: Iterable[str]) -> InputError:
    """The error for data sets that are not on this machine, with the way out."""
    names = list(dict.fromkeys(named(place.removeprefix(PREFIX)).name for place in places))
    files = ", ".join(f"{name}.jsonl" for name in names)
    folder = local_folder()
    own = f"put {files} into {folder} ({LOCAL})" if folder else f"set {LOCAL} to a folder with {files}"
    what, them = ("Dataset", "it") if len(names) == 1 else ("Datasets", "them")
    verb = "is" if len(names) == 1 else "are"
    return InputError(
        f"{what} {', '.join(names)} {verb} not on this machine. Fetch {them} with `inverdict data fetch "
        f"{' '.join(names)}`, or {own}.",
        code="missing_dataset",
    )


def dataset_hashes(places: Iterable[str]) -> dict[str, str]:
    """sha256 of the file of those places that name a data set, whichever folder it lies in."""
    return {place: _sha256(located(place).path) for place in places if is_dataset(place)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
