"""Whether a judge would judge a text of its own model family. It knows no models, only names and patterns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def own_family(judge_families: Sequence[str], system: str) -> bool:
    """Whether the text's `system` is one of those that a judge must not judge, since models favour their own kind.

    `judge_families`: patterns of systems (`*`, `?`, `[...]`), such as `qwen*`; upper and lower case are the same. The
    whole name has to match. A text without a system (empty) is of no known family.
    """
    name = system.casefold()
    return bool(name) and any(fnmatchcase(name, pattern.casefold()) for pattern in judge_families)
