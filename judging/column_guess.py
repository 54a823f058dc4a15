"""Profiles of unknown columns -> what each is taken for, with the reason. It reads no files and writes none.

What is given (`--map`) is taken first, then the record's own names, then wide form, then other names by what they
mean and hold; what is left is a further text. Whether the guess holds is for the reader of the data to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from judging.column_names import (
    CANDIDATE,
    CHAT,
    GROUP,
    IDS,
    SOURCE,
    aspect_of,
    is_id_of,
    is_reference,
    is_score,
    is_system,
    may_be_text,
    means,
)
from judging.column_profile import Profile
from judging.column_taken import IGNORED, Guess
from judging.column_wide import may_answer, take_of_systems, take_preferred, take_systems
from judging.columns import INNER, KNOWN, PANDAS_INDEX, folded
from judging.tasks import FOLDER, load_task

# Two columns that make up the source together, as in Alpaca's data: a judge reads one.
HALVES = ("instruction", "input")
ANY_ID = ("", *IDS, *GROUP)
MORE_OFTEN = 1.25  # times as many different values as the source: an id of something smaller
LANGUAGES = {"sourcelang", "targetlang", "srclang", "tgtlang", "lp", "langpair"}


def guess(
    columns: Mapping[str, Profile],
    *,
    given: Mapping[str, str] | None = None,
    systems: Sequence[str] = (),
    task: str | None = None,
) -> Guess:
    """What every column is taken for.

    Args:
        columns: the profiles by the file's names, in their order.
        given: the file's names -> the record's names that are certain.
        systems: the columns that hold one system's text each, where that is certain.
        task: the task, where that is certain.
    """
    found = Guess(*_task(columns, task))
    for name, ours in (given or {}).items():
        found.take(name, ours, "given")
    for name in columns:
        if name not in found.fields and PANDAS_INDEX.fullmatch(name):
            found.take(name, IGNORED, "an index that pandas wrote")
    _take_own_names(found, columns)
    take_systems(found, columns, systems)
    if not found.systems:
        _take_candidate(found, columns)
    take_of_systems(found, columns)
    take_preferred(found, columns)
    _take_source(found, columns)
    _take_names(found, columns)
    _take_scores(found, columns)
    for name, profile in columns.items():
        if name not in found.fields:
            found.take(name, name, _why_text(profile, found))
    found.fields = {name: found.fields[name] for name in columns} | found.fields  # in the order of the file
    return found


def _task(columns: Mapping[str, Profile], task: str | None) -> tuple[str, str, bool]:
    """The task, why, and whether the rows hold it; of several tasks in the rows the first."""
    if task:
        return task, "given", False
    own = columns.get("task")
    if own and own.values and all(value in _tasks() for value in own.values):
        return next(iter(own.values)), "the column `task`", True
    words = {means(name, (*CANDIDATE, *SOURCE)) for name in columns}
    if words & {"translation", "mt"} or {folded(name) for name in columns} & LANGUAGES:
        return "translation", "the names of the columns", False
    if words & {"summary", "article", "document"}:
        return "summarisation", "the names of the columns", False
    if "story" in words:
        return "story", "the names of the columns", False
    if any(one.mean_messages > 2 for one in columns.values()):
        return "dialogue", "conversations of several turns", False
    if "history" in words or any(folded(name).startswith("dialog") for name in columns):
        return "dialogue", "the names of the columns", False
    return "qa", "nothing points to another task", False


def _tasks() -> frozenset[str]:
    return frozenset(file.stem for file in FOLDER.glob("*.yaml"))


def _take_own_names(found: Guess, columns: Mapping[str, Profile]) -> None:
    """The record's own names, where the values are of their kind."""
    for profile in found.free(columns):
        name = profile.name
        outer, dot, inner = name.partition(".")
        fits = name in KNOWN or bool(dot and inner and outer in INNER)
        if name == "task":
            fits = found.has_task
        elif name in INNER:
            fits = profile.num_objects == profile.num
        elif name == "id":
            fits = profile.is_unique
        if fits and found.column_of(name) is None:
            found.take(name, name, "the name of this field")
        elif name == "task":
            found.take(name, "task_name", "names no task of Inverdict")


def _take_candidate(found: Guess, columns: Mapping[str, Profile]) -> None:
    if found.column_of("candidate") is not None:
        return
    texts = [one for one in found.free(columns) if one.is_text or one.is_chat]
    named = [one for one in texts if means(one.name, CANDIDATE) and not is_reference(one.name)]
    chats = [one for one in texts if one.is_chat and one.last_role == "assistant"]
    if len(named) == 1:
        found.take(named[0].name, "candidate", "its name")
    elif not named and len(chats) == 1:
        found.take(chats[0].name, "candidate", "chat messages that end with the assistant's")
    elif not named and not chats:
        rest = [one for one in texts if may_answer(one)]
        has_source = found.column_of("source") or any(means(one.name, SOURCE) for one in texts)
        if has_source and len(rest) == 1:
            found.take(rest[0].name, "candidate", "the only other text of several words")
        else:
            found.texts = tuple(one.name for one in rest)
    else:
        found.texts = tuple(one.name for one in named or chats)


def _take_source(found: Guess, columns: Mapping[str, Profile]) -> None:
    if found.column_of("source") is not None:
        return
    texts = [one for one in found.free(columns) if (one.is_text or one.is_chat) and one.name not in found.texts]
    named = {means(one.name, (*SOURCE, *CHAT)): one.name for one in reversed(texts)}
    word = next((word for word in (*SOURCE, *CHAT) if word in named), None)
    others = [one.name for one in texts if one.is_free_text or one.is_chat]
    if word:
        found.take(named[word], "source", "its name")
        both = [one.name for half in HALVES for one in texts if folded(one.name) == half and one.num_words]
        found.halves = tuple(both) if len(both) == len(HALVES) else ()
    elif len(others) == 1 and may_be_text(others[0]) and not _holds_source(found, columns):
        found.take(others[0], "source", "the only other text of several words")


def _holds_source(found: Guess, columns: Mapping[str, Profile]) -> bool:
    """Whether the candidates are conversations, whose earlier messages are the source."""
    texts = [name for name, ours in found.fields.items() if ours in ("candidate", *found.systems) and name in columns]
    return bool(texts) and all(columns[name].is_chat and columns[name].mean_messages > 1 for name in texts)


def _take_names(found: Guess, columns: Mapping[str, Profile]) -> None:
    """Group, id and system: short values that name something."""
    for profile in found.free(columns):
        name = profile.name
        is_value = profile.num_objects == profile.num_chats == 0 < profile.num
        if not is_value or (profile.is_free_text and profile.is_unique):
            continue
        if name == "id":
            if not profile.is_unique and not found.has_group and _names_source(profile, found, columns):
                found.take(name, "group", "repeats, so it names the source")
            elif found.column_of("id") is None:
                found.take(name, "id", "the name of this field")
        elif is_system(name) and found.column_of("system") is None and not found.systems:
            found.take(name, "system", "its name")
        elif is_id_of(name, GROUP) and not found.has_group and _names_source(profile, found, columns):
            found.take(name, "group", "the id of the source")
        elif profile.is_unique and not found.systems and found.column_of("id") is None and is_id_of(name, ANY_ID):
            found.take(name, "id", "an id that never repeats")


def _names_source(profile: Profile, found: Guess, columns: Mapping[str, Profile]) -> bool:
    """Whether the column repeats as the source does; in wide form every row is one source.

    Where the source repeats more often, groups by this column would hold one text each, and no systems to compare.
    """
    source = columns.get(found.column_of("source") or "")
    if source is None or found.systems:
        return bool(found.systems) or not profile.is_unique
    is_smaller = profile.is_unique and not source.is_unique
    return not is_smaller and profile.num >= source.num and profile.different <= MORE_OFTEN * source.different


def _take_scores(found: Guess, columns: Mapping[str, Profile]) -> None:
    aspects = tuple(load_task(found.task).aspects)
    taken = set(found.fields.values())
    for profile in found.free(columns):
        aspect = aspect_of(profile.name, aspects)
        if not aspect or profile.num == 0 or {"scores", f"scores.{aspect}"} & taken:
            continue
        if found.systems:
            found.unread.setdefault(profile.name, f"{found.systems[0]}.scores.{aspect}")
        elif profile.is_numeric and is_score(profile.name):
            taken.add(f"scores.{aspect}")
            found.take(profile.name, f"scores.{aspect}", f"numbers from {profile.low:g} to {profile.high:g}")
        elif profile.is_numeric or not is_reference(profile.name):
            found.unread[profile.name] = f"scores.{aspect}"


def _why_text(profile: Profile, found: Guess) -> str:
    """Why the column is only a further text."""
    if profile.name in found.unread:
        return "named like scores, and not read as scores: see below"
    if profile.is_numeric:
        return f"numbers, but the name is no aspect of {found.task}: {', '.join(load_task(found.task).aspects)}"
    return f"{'a reference' if is_reference(profile.name) else 'no other use found'}; a task file may show it"
