"""A model of the Hugging Face Hub on this machine: its snapshot in the hub's own cache, downloaded where it is missing.

The cache is that of `HF_HOME`, the token that of `HF_TOKEN` or the file `HF_TOKEN_PATH`. The hub's library locks and
renames each file, so that several processes of a machine download it once; a snapshot is used once it is complete.
"""

from __future__ import annotations

import functools
from pathlib import Path

from cluster.errors import UserError
from cluster.model_files import LEFT, TAKEN, WEIGHTS, files_of, missing_pieces, refuse_pickles


def snapshot(repo: str, revision: str | None, *, weights: bool = True, download: bool = True) -> Path:
    """The folder of a hub id, named after its commit.

    Args:
        repo: `org/name`.
        revision: branch, tag or commit; None: the default branch.
        weights: False: only what tokenising and planning read.
        download: False: only what is on this machine.

    Raises:
        UserError: the model is not there and cannot be downloaded, or it cannot be loaded.
    """
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [pattern for pattern in TAKEN if weights or pattern != WEIGHTS]
    get = functools.partial(
        snapshot_download, repo, revision=revision, allow_patterns=patterns, ignore_patterns=list(LEFT)
    )
    wanted = f"{repo}@{revision}" if revision else repo
    try:
        folder = Path(get(local_files_only=True))
        found = not missing_pieces(folder, weights=weights)
    except LocalEntryNotFoundError:
        found = False
    if not found:
        try:
            if not download:
                raise OSError("not downloaded yet")
            folder = Path(get())
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
