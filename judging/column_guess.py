"""Profiles of unknown columns -> what each is taken for, with the reason. It reads no files and writes none.

What is given (`--map`) is taken first, then the record's own names, then wide form, then other names by what they
mean and hold; what is left is a further text. Whether the guess holds is for the reader of the data to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from judging.column_names import (
    CANDIDATE,
    CHAT,
    GROUP,
    IDS,
    PAIRS,
    PREFERENCE,
    SOURCE,
    aspect_of,
    is_id_of,
    is_reference,
    is_system,
    may_be_text,
    means,
    parts,
)
from judging.column_profile import Profile
from judging.columns import INNER, KNOWN, PANDAS_INDEX, folded, renamed
from judging.preferences import PREFERRED
from judging.readers import RowError
from judging.tasks import FOLDER, load_task
from judging.wide import rest_of

IGNORED = ""
LANGUAGES = {"sourcelang", "targetlang", "srclang", "tgtlang", "lp", "langpair"}


@dataclass
class Guess:
    """What the columns are taken for: the file's name -> the record's name (IGNORED: none), and why."""

    task: str
    task_reason: str
    has_task: bool  # in the rows
    fields: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    systems: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # columns that may be the candidate, where none was found

    def column_of(self, ours: str) -> str | None:
        """The file's column that is taken for a field of the record."""
        return next((name for name, field in self.fields.items() if field == ours), None)

    @property
    def columns(self) -> dict[str, str]:
        """The mapping `data.columns`: what the reader does not see by itself."""
        mapped = {name: ours for name, ours in self.fields.items() if ours not in (name, IGNORED)}
        return mapped | _kept(self, mapped)

    @property
    def has_group(self) -> bool:
        return self.column_of("group") is not None


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
        _take(found, name, ours, "given")
    for name in columns:
        if name not in found.fields and PANDAS_INDEX.fullmatch(name):
            _take(found, name, IGNORED, "an index that pandas wrote")
    _take_own_names(found, columns)
    _take_systems(found, columns, systems)
    if not found.systems:
        _take_candidate(found, columns)
    _take_of_systems(found, columns)
    _take_preferred(found, columns)
    _take_source(found, columns)
    _take_names(found, columns)
    _take_scores(found, columns)
    for name, profile in columns.items():
        if name not in found.fields:
            _take(found, name, name, _why_text(profile, found))
    found.fields = {name: found.fields[name] for name in columns} | found.fields  # in the order of the file
    return found


def _take(found: Guess, name: str, ours: str, why: str) -> None:
    found.fields[name] = ours
    found.reasons[name] = why


def _free(found: Guess, columns: Mapping[str, Profile]) -> list[Profile]:
    return [profile for name, profile in columns.items() if name not in found.fields]


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
    for profile in _free(found, columns):
        name = profile.name
        outer, dot, inner = name.partition(".")
        fits = name in KNOWN or bool(dot and inner and outer in INNER)
        if name == "task":
            fits = found.has_task
        elif name in INNER:
            fits = profile.num_objects == profile.num
        elif name == "id" and not profile.is_unique:
            fits = False
        if fits and found.column_of(name) is None:
            _take(found, name, name, "the name of this field")
        elif name == "task":
            _take(found, name, "task_name", "names no task of Inverdict")


def _take_systems(found: Guess, columns: Mapping[str, Profile], systems: Sequence[str]) -> None:
    """Wide form: the columns of the systems' texts."""
    if systems:
        names = [found.column_of(system) or system for system in systems]
        chosen = {name: found.fields.get(name, name) for name in names}
        why = "given"
    elif found.column_of("candidate") is None:
        chosen, why = _wide(found, columns)
    else:
        return
    for name, system in chosen.items():
        _take(found, name, system, why)
    found.systems = tuple(chosen.values())


def _take_of_systems(found: Guess, columns: Mapping[str, Profile]) -> None:
    """Wide form: names and scores that belong to one system alone."""
    aspects = tuple(load_task(found.task).aspects)
    for profile in _free(found, columns):
        for system in sorted(found.systems, key=len, reverse=True):
            rest = rest_of(profile.name, system)
            if rest is None:
                continue
            if profile.name.startswith(f"{system}."):
                _take(found, profile.name, profile.name, f"a column of {system!r}")
            elif is_system(rest) and not profile.is_numeric:
                _take(found, profile.name, f"{system}.system", f"names the system of {system!r}")
            elif profile.is_numeric and (aspect := aspect_of(rest, aspects)):
                _take(found, profile.name, f"{system}.scores.{aspect}", f"a number about {system!r}")
            break


def _take_preferred(found: Guess, columns: Mapping[str, Profile]) -> None:
    """Wide form: the system that people prefer."""
    named = [one for one in _free(found, columns) if folded(one.name) in PREFERENCE and found.systems]
    if len(named) == 1 and found.column_of(PREFERRED) is None:
        _take(found, named[0].name, PREFERRED, "names the preferred system")


def _wide(found: Guess, columns: Mapping[str, Profile]) -> tuple[dict[str, str], str]:
    """Columns whose names differ in a system alone (`answer_a`, `answer_b`), with the systems; none: one text a row."""
    texts = [one for one in _free(found, columns) if (one.is_text and not one.is_numeric) or one.is_chat]
    names = {one.name for one in texts}
    for pair in PAIRS:
        if set(pair) <= names:
            return {name: name for name in pair}, "two texts for one source"
    if any(_is_whole_system(one, columns) for one in _free(found, columns)):
        own = [one.name for one in _free(found, columns) if _is_whole_system(one, columns) or _may_answer(one)]
        return {name: name for name in own}, "a text, and a column of its own for a system"
    by_word: dict[str, dict[str, str]] = {}
    for name in (one.name for one in texts if not is_reference(one.name)):
        if part := parts(name, (*CANDIDATE, *CHAT)):
            by_word.setdefault(part.word, {})[name] = part.rest
    for word, systems in by_word.items():
        if len(systems) > 1 and len(set(systems.values())) == len(systems) and not set(systems.values()) & set(KNOWN):
            return systems, f"one of {len(systems)} columns that are named {word} and a system"
    return {}, ""


def _is_whole_system(profile: Profile, columns: Mapping[str, Profile]) -> bool:
    """Whether the column is a system's as docs/data.md describes: beside `NAME.scores.overall`, or an object."""
    dotted = tuple(f"{profile.name}.{field}." for field in (*INNER, "system"))
    return (profile.num_objects == profile.num and "candidate" in profile.keys) or (
        profile.is_text and any(f"{other}.".startswith(dotted) for other in columns)
    )


def _may_answer(profile: Profile) -> bool:
    """Whether the column may hold the texts of a system, by its values and because its name says nothing else."""
    return profile.is_free_text and not means(profile.name, SOURCE) and may_be_text(profile.name)


def _take_candidate(found: Guess, columns: Mapping[str, Profile]) -> None:
    if found.column_of("candidate") is not None:
        return
    texts = [one for one in _free(found, columns) if one.is_text or one.is_chat]
    named = [one for one in texts if means(one.name, CANDIDATE) and not is_reference(one.name)]
    chats = [one for one in texts if one.is_chat and one.last_role == "assistant"]
    if len(named) == 1:
        _take(found, named[0].name, "candidate", "its name")
    elif not named and len(chats) == 1:
        _take(found, chats[0].name, "candidate", "chat messages that end with the assistant's")
    elif not named and not chats:
        rest = [one for one in texts if _may_answer(one)]
        has_source = found.column_of("source") or any(means(one.name, SOURCE) for one in texts)
        systems = [one for one in _free(found, columns) if is_system(one.name)]
        if has_source and len(rest) == 1:
            _take(found, rest[0].name, "candidate", "the only other text of several words")
        elif has_source and len(rest) > 1 and not systems and all(one.is_varied for one in rest):
            for one in rest:
                _take(found, one.name, one.name, f"one of {len(rest)} texts beside the source")
            found.systems = tuple(one.name for one in rest)
        else:
            found.texts = tuple(one.name for one in rest)
    else:
        found.texts = tuple(one.name for one in named or chats)


def _take_source(found: Guess, columns: Mapping[str, Profile]) -> None:
    if found.column_of("source") is not None:
        return
    texts = [one for one in _free(found, columns) if (one.is_text or one.is_chat) and one.name not in found.texts]
    named = {means(one.name, (*SOURCE, *CHAT)): one.name for one in reversed(texts)}
    word = next((word for word in (*SOURCE, *CHAT) if word in named), None)
    others = [one.name for one in texts if one.is_free_text or one.is_chat]
    if word:
        _take(found, named[word], "source", "its name")
    elif len(others) == 1 and may_be_text(others[0]) and not _holds_source(found, columns):
        _take(found, others[0], "source", "the only other text of several words")


def _holds_source(found: Guess, columns: Mapping[str, Profile]) -> bool:
    """Whether the candidates are conversations, whose earlier messages are the source."""
    texts = [name for name, ours in found.fields.items() if ours in ("candidate", *found.systems) and name in columns]
    return bool(texts) and all(columns[name].is_chat and columns[name].mean_messages > 1 for name in texts)


def _take_names(found: Guess, columns: Mapping[str, Profile]) -> None:
    """Group, id and system: short values that name something."""
    for profile in _free(found, columns):
        name = profile.name
        is_value = profile.num_objects == profile.num_chats == 0 < profile.num
        if not is_value or (profile.is_free_text and profile.is_unique):
            continue
        if name == "id" and not profile.is_unique and not found.has_group:
            _take(found, name, "group", "repeats, so it names the source")
        elif is_system(name) and found.column_of("system") is None and not found.systems:
            _take(found, name, "system", "its name")
        elif is_id_of(name, GROUP) and not found.has_group:
            _take(found, name, "group", "the id of the source")
        elif is_id_of(name, ("", *IDS)) and profile.is_unique and found.column_of("id") is None and not found.systems:
            _take(found, name, "id", "an id that never repeats")


def _take_scores(found: Guess, columns: Mapping[str, Profile]) -> None:
    if found.systems:
        return
    aspects = tuple(load_task(found.task).aspects)
    taken = set(found.fields.values())
    for profile in _free(found, columns):
        if not profile.is_numeric or not (aspect := aspect_of(profile.name, aspects)):
            continue
        if f"scores.{aspect}" not in taken and "scores" not in taken:
            taken.add(f"scores.{aspect}")
            _take(found, profile.name, f"scores.{aspect}", f"numbers from {profile.low:g} to {profile.high:g}")


def _why_text(profile: Profile, found: Guess) -> str:
    """Why the column is only a further text."""
    if profile.is_numeric:
        return f"numbers, but the name is no aspect of {found.task}: {', '.join(load_task(found.task).aspects)}"
    return f"{'a reference' if is_reference(profile.name) else 'no other use found'}; a task file may show it"


def _kept(found: Guess, mapped: Mapping[str, str]) -> dict[str, str]:
    """Further texts that the reader would refuse as misspelt names of a field: each is mapped to itself."""
    kept: dict[str, str] = {}
    own = tuple(f"{system}." for system in found.systems)
    names = [name for name, ours in found.fields.items() if ours != IGNORED and not f"{ours}.".startswith(own)]
    row = {name: found.task if found.fields[name] == "task" else "1" for name in names}
    for _ in names:
        try:
            renamed(row, {**mapped, **kept}, found.task)
            break
        except RowError as error:
            if found.fields.get(error.key) != error.key or error.key in kept:
                break
            kept[error.key] = error.key
    return kept
