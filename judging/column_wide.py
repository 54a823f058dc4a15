"""Guesses wide form: which columns each hold one system's text, and which belong to one system alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from judging.column_names import (
    CANDIDATE,
    CHAT,
    PAIRS,
    PREFERENCE,
    SOURCE,
    aspect_of,
    is_reference,
    is_score,
    is_system,
    may_be_text,
    means,
    parts,
)
from judging.column_profile import Profile
from judging.column_taken import Guess
from judging.columns import INNER, KNOWN, folded
from judging.preferences import PREFERRED
from judging.tasks import load_task
from judging.wide import owner_of, rest_of


def take_systems(found: Guess, columns: Mapping[str, Profile], systems: Sequence[str]) -> None:
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
        found.take(name, system, why)
    found.systems = tuple(chosen.values())


def take_of_systems(found: Guess, columns: Mapping[str, Profile]) -> None:
    """Wide form: names and scores that belong to one system alone."""
    aspects = tuple(load_task(found.task).aspects)
    for profile in found.free(columns):
        for system in sorted(found.systems, key=len, reverse=True):
            rest = rest_of(profile.name, system)
            if rest is None:
                continue
            if owner_of(profile.name, found.systems) == system:
                found.take(profile.name, profile.name, f"a column of {system!r}")
            elif is_system(rest) and not profile.is_numeric:
                found.take(profile.name, f"{system}.system", f"names the system of {system!r}")
            elif aspect := aspect_of(rest, aspects):
                ours = f"{system}.scores.{aspect}"
                if profile.is_numeric and is_score(rest):
                    found.take(profile.name, ours, f"a number about {system!r}")
                elif profile.is_numeric or (profile.num and not is_reference(rest)):
                    found.unread[profile.name] = ours
            break


def take_preferred(found: Guess, columns: Mapping[str, Profile]) -> None:
    """Wide form: the system that people prefer."""
    named = [one for one in found.free(columns) if folded(one.name) in PREFERENCE and found.systems]
    if len(named) == 1 and found.column_of(PREFERRED) is None:
        found.take(named[0].name, PREFERRED, "names the preferred system")


def _wide(found: Guess, columns: Mapping[str, Profile]) -> tuple[dict[str, str], str]:
    """Columns whose names differ in a system alone (`answer_a`, `answer_b`), with the systems; none: one text a row."""
    texts = [one for one in found.free(columns) if (one.is_text and not one.is_numeric) or one.is_chat]
    names = {one.name for one in texts}
    for pair in PAIRS:
        if set(pair) <= names:
            return {name: name for name in pair}, "two texts for one source"
    whole = [one.name for one in found.free(columns) if _is_whole_system(one, columns)]
    if len(whole) == 1:  # the other one has no column of its own
        others = [one.name for one in found.free(columns) if one.name not in whole and may_answer(one)]
        whole = [*whole, *others] if len(others) < 2 else []
    if whole:
        return {name: name for name in whole}, "a text, and a column of its own for a system"
    aspects = tuple(load_task(found.task).aspects)
    answers = [one.name for one in found.free(columns) if may_answer(one) and not means(one.name, CANDIDATE)]
    scored = [name for name in answers if _has_scores(name, columns, aspects)]
    if len(scored) > 1:
        return {name: name for name in scored}, "a text, and a score of its own"
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
    if profile.name.partition(".")[0] in KNOWN:
        return False
    return (profile.num_objects == profile.num and "candidate" in profile.keys) or (
        profile.is_text and any(f"{other}.".startswith(dotted) for other in columns)
    )


def _has_scores(name: str, columns: Mapping[str, Profile], aspects: tuple[str, ...]) -> bool:
    """Whether a column of numbers is named like a score of this one: `x_score` beside `x`."""
    rests = [rest_of(other, name) for other, one in columns.items() if one.is_numeric]
    return any(rest and aspect_of(rest, aspects) for rest in rests)


def may_answer(profile: Profile) -> bool:
    """Whether the column may hold the texts of a system, by its values and because its name says nothing else."""
    return profile.is_free_text and not means(profile.name, SOURCE) and may_be_text(profile.name)
