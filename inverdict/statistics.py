"""`agreement(df)` and `compare(df)`: the statistics for scores of any tool, in a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from judging.errors import InputError

PAIR_COLUMNS = ["first", "second", "difference", "low", "high", "p", "can_be_told_apart", "won", "tied", "lost"]

if TYPE_CHECKING:
    import pandas as pd

    from judging.stats.systems import Ranking


@dataclass(frozen=True)
class SystemComparison:
    """`systems`: from best to worst; `differences`: all pairs of them. Columns: docs/systems.md.

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
    scores: pd.DataFrame,
    *,
    human: str = "human",
    score: str = "score",
    group: str = "group",
    system: str = "system",
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Agreement of scores with people's: a row for each statistic, with its 95 % interval over groups, n and coverage.

    Args:
        scores: one row per text; a missing score is an unscored text and lowers the coverage.
        human: column of people's scores, which may not be missing.
        score: column of the scores.
        group: column of the source that a text answers.
        system: column of the author of the text; it may be absent.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

    Raises:
        InputError: a column is missing or is no number.

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

    columns = Columns(
        [str(one) for one in _column(scores, group)],
        _numbers(scores, human),
        _numbers(scores, score),
        [None if pd.isna(one) else str(one) for one in scores[system]] if system in scores else None,
    )
    if not len(scores) or pd.isna(scores[score]).all():
        words = f"Column {score!r} has no number, so there is nothing to measure."
        raise InputError(words, code="no_scores", key=score)
    if pd.isna(scores[human]).any():
        raise InputError(
            f"Column {human!r} has missing values. Drop these rows first.", code="missing_value", key=human
        )
    found = measured(columns, resamples=resamples, seed=seed)
    rows = [{"statistic": name, **one.to_json()} for name, one in found.items() if not name.startswith("floor.")]
    floors = {row["statistic"]: found[f"floor.{row['statistic']}"].value for row in rows}
    return pd.DataFrame([{**row, "chance": floors[row["statistic"]]} for row in rows])


# Long because of its documentation and example.
def compare(
    scores: pd.DataFrame,
    *,
    score: str = "score",
    group: str = "group",
    system: str = "system",
    length: str = "length",
    resamples: int = 2000,
    seed: int = 0,
) -> SystemComparison:
    """Which system is better: means, ranks and all pairs, paired over groups (docs/systems.md).

    Args:
        scores: one row per text.
        score: column of the scores, in points, higher is better; missing: unscored.
        group: column of the source that a text answers.
        system: column of the author of the text.
        length: column of the text's length in characters, or of the texts; it may be absent.
        resamples: bootstrap resamples of groups.
        seed: of the resamples.

    Raises:
        InputError: a column is missing or is no number, or no row has a score.

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

    known = _numbers(scores, score)
    if np.isnan(known).all():
        raise InputError(
            f"Column {score!r} has no number, so there is nothing to compare.", code="no_scores", key=score
        )
    lengths = _lengths(scores, length) if length in scores else np.zeros(len(scores))
    ranking = rank_systems(
        [str(one) for one in _column(scores, group)],
        [str(one) for one in _column(scores, system)],
        known,
        lengths,
        resamples=resamples,
        seed=seed,
    )
    differences = pd.DataFrame(_differences(ranking), columns=PAIR_COLUMNS)
    return SystemComparison(
        pd.DataFrame(_systems(ranking)), differences, headline(ranking, score), tuple(ranking_notes(ranking))
    )


def _systems(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "system": one.system,
            "mean": one.mean.value,
            "low": one.mean.low,
            "high": one.mean.high,
            "rank": one.rank,
            "rank_low": one.rank_low,
            "rank_high": one.rank_high,
            "won": one.won,
            "at_equal_length": one.controlled.value if one.controlled else None,
            "n": one.mean.n,
            "coverage": one.mean.coverage,
        }
        for one in ranking.systems
    ]


def _differences(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "first": one.first,
            "second": one.second,
            "difference": one.value.value,
            "low": one.value.low,
            "high": one.value.high,
            "p": one.p,
            "can_be_told_apart": one.is_told,
            "won": one.won,
            "tied": one.tied,
            "lost": one.lost,
        }
        for one in ranking.differences
    ]


def _column(scores: pd.DataFrame, name: str) -> Sequence[Any]:
    if name not in scores:
        raise InputError(
            f"Column not found: {name!r}. Columns: {', '.join(map(str, scores.columns))}.",
            code="missing_column",
            key=name,
        )
    if scores[name].isna().any():
        raise InputError(f"Column {name!r} has missing values. Drop these rows first.", code="missing_value", key=name)
    return list(scores[name])


def _lengths(scores: pd.DataFrame, name: str) -> Any:
    """The column of lengths, or the lengths of its texts; none may be missing."""
    import numpy as np

    given = _column(scores, name)
    is_text = any(isinstance(one, str) for one in given)
    return np.array([len(str(one)) for one in given], dtype=float) if is_text else _numbers(scores, name)


def _numbers(scores: pd.DataFrame, name: str) -> Any:
    """The column as floats, NaN where missing."""
    import numpy as np
    import pandas as pd

    if name not in scores:
        _column(scores, name)
    try:
        found = pd.to_numeric(scores[name], errors="raise").to_numpy(dtype=float, na_value=float("nan"))
    except (ValueError, TypeError) as error:
        raise InputError(f"Column {name!r} must hold numbers: {error}.", code="wrong_type", key=name) from error
    if np.isinf(found).any():
        raise InputError(f"Column {name!r} must hold finite numbers.", code="invalid_value", key=name)
    return found
