"""Self-preference bias: whether a text was written by the judge's own model family, by name patterns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def own_family(judge_families: Sequence[str], system: str) -> bool:
    """Whether the text's `system` is excluded for a judge, since models favour texts of their own family.

    `judge_families`: patterns of systems (`*`, `?`, `[...]`), such as `qwen*`; case-insensitive, and the whole name has
    to match. A text without a system (empty) is of no known family.
    """
    name = system.casefold()
    return bool(name) and any(fnmatchcase(name, pattern.casefold()) for pattern in judge_families)
