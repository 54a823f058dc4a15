"""`agreement(df)` and `compare(df)`: the statistics for scores of any tool, in a data frame.

The same checks as of `inverdict agreement`, with the row's number as the place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral
from typing import TYPE_CHECKING, Any

from inverdict.results import AGREEMENT, DIFFERENCE, SYSTEM
from judging.columns import is_missing, number_as_text
from judging.errors import InputError
from judging.in_memory import raw_rows
from judging.readers import RowError
from judging.stats.cli import checked_label, checked_number

if TYPE_CHECKING:
    import pandas as pd

    from judging.stats.estimate import Estimate
    from judging.stats.systems import Ranking


@dataclass(frozen=True)
class SystemComparison:
    """`systems`: from best to worst; `differences`: all pairs of them. Columns: docs/python.md.

    `sentence`: what was found; `notes`: what else a reader has to know, such as systems that are not compared.
    """

    systems: pd.DataFrame
    differences: pd.DataFrame
    sentence: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"{self.sentence}{notes}\n{self.systems.to_string(index=False, float_format='%.2f'.__mod__)}"

    def _repr_html_(self) -> str:
        from markupsafe import escape

        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p><b>{escape(self.sentence)}</b></p>{notes}{self.systems.to_html(index=False, float_format='%.2f')}"


# Long because of its documentation and example.
def agreement(
    scores: pd.DataFrame | Iterable[Mapping[str, Any]],
    *,
    human: str = "human",
    score: str = "score",
    group: str = "group",
    system: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Agreement of scores with people's: a row for each statistic, with its 95 % interval over groups, n and coverage.

    Args:
        scores: one row per text, or per group and system; a missing score is an unscored text and lowers the coverage.
        human: column of people's scores, which may not be missing.
        score: column of the scores.
        group: column of the source that a text answers.
        system: column of the author of the text. Default: `system`, where there is such a column.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

    Raises:
        InputError: a column is missing or a value is none of its column's kind (`row 17: ...`), two rows have the same
            group and system, or no row has a score.

    Example:
        >>> import pandas as pd
        >>> from inverdict import agreement
        >>> scores = pd.DataFrame({"group": [1, 1, 2, 2], "human": [1, 2, 3, 5], "score": [1, 3, 2, 4]})
        >>> agreement(scores).set_index("statistic").loc["group.spearman", ["value", "n"]].round(6).tolist()
        [1.0, 2.0]
    """
    import pandas as pd

    from judging.stats.agreement import agreement as measured
    from judging.stats.rows import Columns

    _check_counts(resamples, seed)
    rows = _rows(scores)
    name = _optional(rows, system, "system")
    groups, people = _labels(rows, group), _numbers(rows, human, why="Every row needs a human score")
    known, systems = _scores(rows, score), _labels(rows, name, may_miss=True) if name else None
    if systems is not None:
        _check_once(groups, systems, group)
    found = measured(Columns(groups, people, known, systems), resamples=resamples, seed=seed)
    table = [{"statistic": name, **one.to_json()} for name, one in found.items() if not name.startswith("floor.")]
    floors = {row["statistic"]: found[f"floor.{row['statistic']}"].value for row in table}
    table = [{**row, "chance": floors[row["statistic"]]} for row in table]
    return pd.DataFrame(table, columns=[one for one in AGREEMENT if one != "judge"])


# Long because of its documentation and example.
def compare(
    scores: pd.DataFrame | Iterable[Mapping[str, Any]],
    *,
    score: str = "score",
    group: str = "group",
    system: str = "system",
    length: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> SystemComparison:
    """Which system is better: means, ranks and all pairs, paired over groups (docs/systems.md).

    Args:
        scores: one row per group and system.
        score: column of the scores, in points, higher is better; missing: unscored.
        group: column of the source that a text answers.
        system: column of the author of the text.
        length: column of the text's length in characters, or of the texts. Default: `length`, where there is such a
            column; without it nothing is said of equal length.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

    Raises:
        InputError: as for `agreement`.

    Example:
        >>> import pandas as pd
        >>> from inverdict import compare
        >>> scores = pd.DataFrame({"group": [1, 1, 2, 2], "system": ["a", "b"] * 2, "score": [4, 3, 5, 3]})
        >>> compare(scores).systems[["system", "mean"]].values.tolist()
        [['a', 4.5], ['b', 3.0]]
    """
    import numpy as np
    import pandas as pd

    from evaluation.measure.headline import headline
    from evaluation.measure.system_comparison import ranking_notes
    from judging.stats.systems import rank_systems

    _check_counts(resamples, seed)
    rows = _rows(scores)
    name = _optional(rows, length, "length")
    groups, systems, known_N = _labels(rows, group), _labels(rows, system), np.array(_scores(rows, score))
    lengths_N = np.array(_lengths(rows, name), dtype=float) if name else np.zeros(len(rows))
    _check_once(groups, systems, group)
    ranking = rank_systems(groups, systems, known_N, lengths_N, resamples=resamples, seed=seed)
    return SystemComparison(
        pd.DataFrame(_systems(ranking), columns=list(SYSTEM)),
        pd.DataFrame(_differences(ranking), columns=list(DIFFERENCE)),
        headline(ranking, score),
        tuple(ranking_notes(ranking)),
    )


def _systems(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "system": one.system,
            **_estimate("mean", one.mean),
            "rank": one.rank,
            "rank_low": one.rank_low,
            "rank_high": one.rank_high,
            "share_of_groups_won": one.won,
            "share_of_groups_tied": one.tied,
            "at_equal_length": one.controlled.value if one.controlled else None,
        }
        for one in ranking.systems
    ]


def _differences(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "first": one.first,
            "second": one.second,
            **_estimate("difference", one.value),
            "p_holm": one.p,
            "can_be_told_apart": one.is_told,
            "groups_won": one.won,
            "groups_tied": one.tied,
            "groups_lost": one.lost,
            "at_equal_length": one.controlled.value if one.controlled else None,
        }
        for one in ranking.differences
    ]


def _estimate(name: str, one: Estimate) -> dict[str, Any]:
    return {name: one.value, "low": one.low, "high": one.high, "n": one.n, "coverage": one.coverage}


# ---------------------------------------------------------------------- the checks


def _check_counts(resamples: Any, seed: Any) -> None:
    for name, value, least in (("resamples", resamples, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            words = f"`{name}` must be a whole number of at least {least}, not {value!r}."
            raise InputError(words, code="invalid_value", key=name)


def _rows(scores: Any) -> list[dict[str, Any]]:
    """The rows as plain values; at least one."""
    rows = []
    for number, row in raw_rows(scores):
        if isinstance(row, RowError):
            raise InputError(f"row {number}: {row}.", code=row.code, key=row.key) from row
        rows.append(row)
    if not rows:
        raise InputError("There are no rows, so there is nothing to measure.", code="no_scores")
    return rows


def _optional(rows: Sequence[Mapping[str, Any]], given: str | None, default: str) -> str | None:
    """The name of a column that may be absent where none is given; else it must exist."""
    columns = dict.fromkeys(name for row in rows for name in row)
    if given is not None or default in columns:
        return given if given is not None else default
    if near := [name for name in columns if name.strip().lower() == default]:
        words = f"Unknown column {near[0]!r}. Did you mean {default!r}? Pass {default}={near[0]!r} to use it."
        raise InputError(words, code="unknown_key", key=near[0])
    return None


def _each(rows: Sequence[Mapping[str, Any]], name: str, checked: Callable[[Any], Any]) -> list[Any]:
    """The checked values of a column; None: missing. Raises InputError with the row's number."""
    if not any(name in row for row in rows):
        columns = ", ".join(dict.fromkeys(name for row in rows for name in row))
        raise InputError(f"Column not found: {name!r}. Columns: {columns}.", code="missing_column", key=name)
    found = []
    for number, row in enumerate(rows, start=1):
        value = row.get(name)
        try:
            found.append(None if is_missing(value) or value == "" else checked(value))
        except InputError as error:
            raise InputError(f"row {number}: {error}.", code=error.code, key=error.key) from error
    return found


def _complete(found: list[Any], name: str, why: str = "Drop these rows first") -> list[Any]:
    if None in found:
        words = f"row {found.index(None) + 1}: column {name!r} has a missing value. {why}."
        raise InputError(words, code="missing_value", key=name)
    return found


def _labels(rows: Sequence[Mapping[str, Any]], name: str, *, may_miss: bool = False) -> list[Any]:
    found = _each(rows, name, lambda value: checked_label({name: number_as_text(value)}, name))
    return found if may_miss else _complete(found, name)


def _numbers(rows: Sequence[Mapping[str, Any]], name: str, *, why: str | None = None) -> list[float]:
    """The column as floats, NaN where missing. `why`: no value may be missing."""
    found = _each(rows, name, lambda value: _number(value, name))
    return _complete(found, name, why) if why else [math.nan if value is None else value for value in found]


def _lengths(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The column of lengths, or the lengths of its texts; none may be missing."""
    found = _each(rows, name, lambda value: len(value) if isinstance(value, str) else _number(value, name))
    return _complete(found, name)


def _number(value: Any, name: str) -> float:
    if isinstance(value, Decimal):
        value = float(value)
    return checked_number(value if isinstance(value, int | float) else str(value), name)


def _scores(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The column as floats, NaN where missing; not all are."""
    found = _numbers(rows, name)
    if all(math.isnan(score) for score in found):
        words = f"Column {name!r} has no number, so there is nothing to measure."
        raise InputError(words, code="no_scores", key=name)
    return found


def _check_once(groups: Sequence[str], systems: Sequence[str | None], name: str) -> None:
    """Raises InputError for a second row of one group and system."""
    first: dict[tuple[str, str], int] = {}
    for number, (group, system) in enumerate(zip(groups, systems, strict=True), start=1):
        if system is not None and (known := first.setdefault((group, system), number)) != number:
            raise InputError(
                f"row {number}: duplicate row of group {group!r}, system {system!r}, first in row {known}. "
                "Keep one, or their mean.",
                code="duplicate_record",
                key=name,
            )
