"""A model of the Hugging Face Hub on this machine: its snapshot in the hub's own cache, downloaded where it is missing.

The cache is that of `HF_HOME`, the token that of `HF_TOKEN` or the file `HF_TOKEN_PATH`. The hub's library locks and
renames each file, so that several processes of a machine download it once; a snapshot is used once it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import UserError
from cluster.model_files import LEFT, TAKEN, WEIGHTS, files_of, missing_pieces, refuse_pickles

FETCHES = "INVERDICT_HUB_FETCHES"  # see `fetching`


def snapshot(repo: str, revision: str | None, *, weights: bool = True) -> Path:
    """The folder of a hub id, named after its commit; downloaded first where it is missing.

    Args:
        repo: `org/name`.
        revision: branch, tag or commit; None: the default branch.
        weights: False: only what tokenising and planning read.

    Raises:
        UserError: the model is not there and cannot be downloaded, or it cannot be loaded.
    """
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    wanted = f"{repo}@{revision}" if revision else repo
    folder = found_snapshot(repo, revision, weights=weights)
    if folder is None:
        try:
            folder = _get(repo, revision, weights)
        except (HfHubHTTPError, HTTPError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
            raise UserError(
                f"Model {wanted} is not in the local hub cache and cannot be downloaded ({reason}). Fetch it with "
                f"`inverdict models fetch {repo}` on a machine that reaches the hub, or use a local folder.",
                code="unknown_model",
            ) from error
        if missing := missing_pieces(folder, weights=weights):
            raise UserError(
                f"Model {wanted} of the hub lacks {'; '.join(missing)}. Choose another model or revision.",
                code="missing_file",
            )
    refuse_pickles(f"Model {wanted} in the hub cache", list(files_of(folder)))  # another program may have fetched them
    return folder


def found_snapshot(repo: str, revision: str | None, *, weights: bool = True) -> Path | None:
    """The same, if it is complete on this machine; nothing is downloaded.

    Args:
        repo: see `snapshot`.
        revision: see `snapshot`.
        weights: see `snapshot`.
    """
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = _get(repo, revision, weights, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if missing_pieces(folder, weights=weights) else folder


@contextmanager
def _reached() -> Iterator[None]:
    """In a process that `fetching` has made, the hub is reached in this block, whatever its libraries were told."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before and FETCHES not in os.environ
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def fetching() -> dict[str, str]:
    """Environment of a process whose libraries do not ask the hub, but whose missing model is downloaded.

    If this process is offline (`HF_HUB_OFFLINE=1`), so is that one.
    """
    known = os.environ.get("HF_HUB_OFFLINE")
    return {"HF_HUB_OFFLINE": known} if known else {"HF_HUB_OFFLINE": "1", FETCHES: "1"}


def _get(repo: str, revision: str | None, weights: bool, **options: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [pattern for pattern in TAKEN if weights or pattern != WEIGHTS]
    with _reached():
        return Path(
            snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=list(LEFT), **options)
        )
