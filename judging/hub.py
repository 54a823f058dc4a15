"""Rows of a data set on the Hugging Face hub, through the optional package `datasets`, imported only when it is used.

The name is `hf://OWNER/NAME:SPLIT`, with `/CONFIG` or `@REVISION` behind NAME where the data set has several.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from judging.errors import InputError
from judging.public_data.places import dataset_hashes

PREFIX = "hf://"
NAME = re.compile(
    r"hf://(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?:(?P<split>\S+)"
)


def is_hub(place: str) -> bool:
    """Whether the place is the name of a data set on the hub, well-formed or not."""
    return place.startswith(PREFIX)


def rows(place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the data set, counted from 1. Raises InputError where it cannot be loaded."""
    return ((line, dict(row)) for line, row in enumerate(_load(place), start=1))


def hub_hashes(places: Iterable[str]) -> dict[str, str]:
    """sha256 of those places that are no paths: of the rows of a data set on the hub, of the file of a public data set.

    Raises InputError where one cannot be loaded, or is not on this machine.
    """
    places = list(places)
    return {place: _hash(place) for place in places if is_hub(place)} | dataset_hashes(places)


@lru_cache(maxsize=64)
def _hash(place: str) -> str:
    digest = hashlib.sha256()
    for row in _load(place):
        digest.update(json.dumps(row, sort_keys=True, default=_written).encode())
    return digest.hexdigest()


def _written(value: Any) -> str:
    """A value that JSON lacks, without its place in memory, which differs in every run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


@lru_cache(maxsize=8)
def _load(place: str) -> Any:
    name = NAME.fullmatch(place)
    if name is None:
        raise InputError(
            f"{place!r} is not the name of a data set on the hub. Write hf://OWNER/NAME:SPLIT, or with a configuration "
            "hf://OWNER/NAME/CONFIG:SPLIT.",
            code="invalid_value",
            key="data.records",
        )
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{place} needs the package `datasets`. Install it (`pip install datasets`, the extra "
            "`inverdict[datasets]`), or download the data set's files and name their folder.",
            code="missing_package",
            key="data.records",
        ) from error
    try:
        return datasets.load_dataset(name["repo"], name["config"], split=name["split"], revision=name["revision"])
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{place} could not be loaded: {reason}. Check its name, configuration and split.",
            code="missing_file",
            key="data.records",
        ) from error
