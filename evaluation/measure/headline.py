"""A ranking of systems -> one sentence that says what was found and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evaluation.measure.formatting import one_line, with_interval
from judging.stats.systems import Difference, Ranking

MOST_NAMES = 4  # of systems in a list; more are counted


def headline(ranking: Ranking, aspect: str) -> str:
    """What the scores say about the systems, in one sentence.

    Args:
        ranking: by one column of scores.
        aspect: its name.
    """
    ranking = _readable(ranking)
    names = [one.system for one in ranking.systems]
    first = ranking.systems[0]
    if len(names) == 1:
        return f"{names[0]} has a mean of {with_interval(first.mean)} on {aspect}; no other system is compared."
    told = {(one.first, one.second): one for one in ranking.differences}
    equals = [name for name in names[1:] if not told[names[0], name].is_told]
    if not equals:
        runner_up = told[names[0], names[1]]
        better = f"{names[0]} is better than {_others(names)} on {aspect}"
        than = "" if len(names) == 2 else f", than {names[1]}"
        return f"{better}{than} by {_by(runner_up)}{_rest(ranking)}."
    rest = [name for name in names[1:] if name not in equals]
    if not rest:
        return _without_a_best(ranking, aspect)
    least = told[names[0], rest[0]]
    return (
        f"{names[0]} has the highest mean on {aspect} and cannot be told apart from {_listed(equals)}; "
        f"it is better than {_listed(rest)}{f', than {rest[0]}' if len(rest) > 1 else ''} by {_by(least)}."
    )


def _readable(ranking: Ranking) -> Ranking:
    """With names of one line."""
    return replace(
        ranking,
        systems=[replace(one, system=one_line(one.system)) for one in ranking.systems],
        differences=[
            replace(one, first=one_line(one.first), second=one_line(one.second)) for one in ranking.differences
        ],
    )


def _without_a_best(ranking: Ranking, aspect: str) -> str:
    """Of systems of which none can be told apart from the one with the highest mean."""
    names = [one.system for one in ranking.systems]
    told = [one for one in ranking.differences if one.is_told]
    if told:
        surest = min(told, key=lambda one: one.p)
        more = (
            f", and {len(told) - 1} more {'pair differs' if len(told) == 2 else 'pairs differ'}"
            if len(told) > 1
            else ""
        )
        return (
            f"No system can be called the best on {aspect}; but {surest.first} is better than {surest.second} by "
            f"{_by(surest)}{more}."
        )
    largest = max(ranking.differences, key=lambda one: one.value.value)
    which = _listed(names) if len(names) == 2 else f"The {len(names)} systems"
    of_many = "" if len(names) == 2 else "largest difference: "
    return (
        f"{which} cannot be told apart on {aspect} ({of_many}{largest.first} minus {largest.second}, {_by(largest)})."
    )


def _others(names: Sequence[str]) -> str:
    return names[1] if len(names) == 2 else f"the other {len(names) - 1} systems"


def _by(one: Difference) -> str:
    return f"{with_interval(one.value)} points"


def _rest(ranking: Ranking) -> str:
    """Which neighbours among the others cannot be told apart."""
    names = [one.system for one in ranking.systems]
    open_pairs = [
        f"{one.first} and {one.second}"
        for one in ranking.differences
        if not one.is_told and abs(names.index(one.first) - names.index(one.second)) == 1
    ]
    return f"; not told apart: {', '.join(open_pairs)}" if open_pairs else ""


def _listed(names: Sequence[str]) -> str:
    """a; a and b; a, b and c; of many the first and the number of the others."""
    if len(names) > MOST_NAMES:
        names = [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
