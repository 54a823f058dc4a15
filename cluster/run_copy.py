"""A copy of a run on an object store for commands that only look at it, also while a job on any machine writes it.

Such a command writes nothing to the store, takes no lock, and leaves this machine's mirror (run_store.py) as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cluster.artifacts import read_json, write_text
from cluster.embedded import cache_root, locked
from cluster.object_store import Place, fetched, opened, shown, unreadable
from cluster.publish import files_of, manifests_above
from cluster.run_store import FILES_AT_ONCE, STATE, Known, address_of, files_in, owner_of
from cluster.terminal import say

FOLDER = "looks"  # of the cache
COPIED = ".copied.json"  # in the copy: name -> [size, mtime in ns] that each of its files had in the store


@contextmanager
def newest_copy(run: Path) -> Iterator[Path]:
    """The folder in which to look at a run, which no other look changes in the block.

    Args:
        run: a plain folder, which is the result, or the mirror of a run on an object store. That is the result if it
            was the last to write there, as it may have more than the store; else a copy, which is brought up to date.

    Raises:
        UserError: the address cannot be opened.
        JobFailed: the store cannot be read.
    """
    import pyarrow as pa

    address = address_of(run)
    if address is None:
        yield run
        return
    place = opened(address, "run")
    copy = cache_root() / FOLDER / run.name
    with locked(copy):
        try:
            owner = owner_of(place)
            is_newest = (read_json(run / STATE) or {}).get("id", "") == owner
            if not is_newest:
                _update(copy, address, place, has_run=owner is not None)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(address, error, "Run the command again.") from error
        yield run if is_newest else copy


def _update(copy: Path, address: str, place: Place, *, has_run: bool) -> None:
    """Fetch what has changed and delete what is gone; a manifest is left out if its files change meanwhile."""
    known: Known = read_json(copy / COPIED) or {}
    now = _stamps(place) if has_run else Known()
    changed = {name for name, one in now.items() if known.get(name) != one}
    changed |= manifests_above(changed) & now.keys()
    if changed:
        say(f"run: {len(changed)} files from {shown(address)}")
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        are_there = pool.map(lambda name: _fetch(copy, place, name), sorted(changed))
        gone = {name for name, is_there in zip(sorted(changed), are_there, strict=True) if not is_there}
    if changed:
        later = _stamps(place)
        gone |= manifests_above({name for name in now.keys() | later.keys() if now.get(name) != later.get(name)})
    for name in gone | (files_of(copy).keys() - now.keys()):
        (copy / name).unlink(missing_ok=True)
    copy.mkdir(parents=True, exist_ok=True)
    write_text(copy / COPIED, json.dumps({name: one for name, one in now.items() if name not in gone}))


def _fetch(copy: Path, place: Place, name: str) -> bool:
    """Whether the file is still there."""
    try:
        fetched(place, name, copy / name)
    except FileNotFoundError:
        return False
    return True


def _stamps(place: Place) -> Known:
    return {name: [one.size, one.mtime_ns] for name, one in files_in(place).items()}
