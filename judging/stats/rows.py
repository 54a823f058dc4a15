"""Columns of rows -> sorted arrays in one canonical order, and the parts of a level of agreement.

Legend: N rows, G groups, B resamples, K statistics, R raters.
The order follows the content only, so every statistic, resample and shuffle is the same for any order of the input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from judging.stats.bootstrap import Floats, Resample
from judging.stats.correlation import equalised

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Columns:
    """Rated and scored candidates, one entry per row, in any order.

    `group`: label of the source that the candidate answers. `human`: the human score, a finite number.
    `score`: the model's score; None or NaN: unscored. `system`: the author of the candidate, None where unknown, or
    None for the whole column. `ratings`: the single raters' scores of each row, one position per rater, None or NaN:
    not rated.
    """

    group: Sequence[str]
    human: Sequence[float] | Floats
    score: Sequence[float | None] | Floats
    system: Sequence[str | None] | None = None
    ratings: Sequence[Sequence[float | None] | None] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.group), len(self.human), len(self.score)}
        lengths |= {len(column) for column in (self.system, self.ratings) if column is not None}
        if len(lengths) != 1:
            raise ValueError(f"the columns have different lengths: {sorted(lengths)}")

    @staticmethod
    def from_rows(rows: Iterable[Mapping[str, Any]], *, human: str = "human", score: str = "score") -> Columns:
        """Columns from mappings with `group`, `human`, `score` and, where rows have them, `system` and `ratings`.

        Args:
            rows: the mappings.
            human: key of the human score.
            score: key of the model's score.
        """
        rows = list(rows)
        has_system = any(row.get("system") is not None for row in rows)
        has_ratings = any(row.get("ratings") is not None for row in rows)
        return Columns(
            group=[row["group"] for row in rows],
            human=[row[human] for row in rows],
            score=[row.get(score) for row in rows],
            system=[row.get("system") for row in rows] if has_system else None,
            ratings=[row.get("ratings") for row in rows] if has_ratings else None,
        )


@dataclass(frozen=True)
class Rows:
    """Complete rows, sorted by group, system, human and score. Groups without a row are possible.

    `system_N`: -1 where a row has none. Values of a column that are equal within rounding are the same number.
    """

    group_N: Codes
    system_N: Codes | None
    human_N: Floats
    score_N: Floats
    num_groups: int
    num_systems: int

    @staticmethod
    def sort(
        group_N: Codes, system_N: Codes | None, human_N: Floats, score_N: Floats, num_groups: int, num_systems: int
    ) -> Rows:
        """Sorted rows from columns in any order.

        Args:
            group_N: group codes.
            system_N: system codes, -1 where a row has none; None: no systems.
            human_N: human scores.
            score_N: the model's scores, without NaN.
            num_groups: groups, those without a row included.
            num_systems: systems.
        """
        human_N, score_N = equalised(human_N[None])[0], equalised(score_N[None])[0]
        keys = [score_N, human_N, *([] if system_N is None else [system_N]), group_N]
        order_N = np.lexsort(keys)
        systems_N = None if system_N is None else system_N[order_N]
        return Rows(group_N[order_N], systems_N, human_N[order_N], score_N[order_N], num_groups, num_systems)

    @property
    def has_system_N(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.human_N), bool) if self.system_N is None else self.system_N >= 0

    def group_sizes(self) -> Codes:
        return np.bincount(self.group_N, minlength=self.num_groups)

    def groups_by_size(self) -> dict[int, tuple[Codes, Codes]]:
        """size -> (groups_G, rows_GN): all groups of that size and the positions of their rows; empty ones left out."""
        size_G = self.group_sizes()
        start_G = np.cumsum(size_G) - size_G
        found = {}
        for size in np.unique(size_G[size_G > 0]):
            groups_G = np.flatnonzero(size_G == size)
            found[int(size)] = (groups_G, start_G[groups_G][:, None] + np.arange(size))
        return found


@dataclass(frozen=True)
class Level:
    """The statistics of one level: exact values, what entered, and their values under group weights (W_BG -> BK)."""

    names: tuple[str, ...]
    values: Floats
    n: tuple[int, ...]
    num_undefined: tuple[int, ...]
    resample: Resample


def numbers(column: Sequence[float | None] | Floats, name: str, *, missing: bool) -> Floats:
    """The column as floats, None as NaN.

    Args:
        column: numbers, None or NaN: missing.
        name: of the column, for errors.
        missing: whether values may be missing.

    Raises:
        ValueError: for infinite numbers, and for a missing one where `missing` is false.
    """
    values_N = np.array([math.nan if value is None else value for value in column], dtype=float)
    if np.isinf(values_N).any():
        raise ValueError(f"the column {name} must hold finite numbers")
    if not missing and np.isnan(values_N).any():
        raise ValueError(f"the column {name} must not have missing values")
    return values_N


def encode(labels: Sequence[str]) -> tuple[Codes, int]:
    """Labels as numbers in the order of the sorted labels, and how many labels there are."""
    names = [str(label) for label in labels]
    code = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.fromiter((code[name] for name in names), dtype=np.intp, count=len(names)), len(code)


def encode_systems(labels: Sequence[str | None]) -> tuple[Codes, int]:
    """As `encode`; -1 for None."""
    codes_N = np.full(len(labels), -1, dtype=np.intp)
    named = [place for place, label in enumerate(labels) if label is not None]
    codes_N[named], num_systems = encode([str(labels[place]) for place in named])
    return codes_N, num_systems


def complete_rows(columns: Columns, score_N: Floats, keep_N: npt.NDArray[np.bool_]) -> Rows:
    """The rows of `keep_N` with `score_N`; groups and systems are numbered among the kept rows.

    Args:
        columns: the rows; `columns.score` is not used.
        score_N: scores, without NaN where kept.
        keep_N: whether to keep each row.
    """
    kept = np.flatnonzero(keep_N)
    group_N, num_groups = encode([columns.group[i] for i in kept])
    system_N, num_systems = None, 0
    if columns.system is not None:
        system_N, num_systems = encode_systems([columns.system[i] for i in kept])
    human_N = numbers(columns.human, "human", missing=False)
    return Rows.sort(group_N, system_N, human_N[kept], score_N[kept], num_groups, num_systems)
