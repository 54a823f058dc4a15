"""`pairs.parquet` -> win rates, strengths, position bias and accuracy of each judge and the panel, by slice.

A slice is one task, data set and aspect. The pointwise scores of the same texts come from `scores.parquet`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evaluation.batch.pairs import FOLDER
from evaluation.batch.pairs_table import TABLE
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import part_title
from evaluation.measure.system_comparison import MOST_SYSTEMS
from judging.stats.additive_model import MIN_GROUPS
from judging.stats.bootstrap import Floats
from judging.stats.bradley_terry import Strengths, bradley_terry
from judging.stats.correlation import known_mean
from judging.stats.estimate import Estimate
from judging.stats.pairs import DIFFERENCE, Comparisons, WinRates, mean, preference_accuracy, win_rates

PART = ("task", "dataset", "aspect")
OUTCOMES = {"first": 1.0, "tie": 0.5, "second": 0.0, None: math.nan}
NO_STRENGTHS = Strengths({}, {}, None, [], [], [])


@dataclass(frozen=True)
class Judged:
    """What one judge, or the panel, says about the pairs of a slice.

    `order_changed`: share of pairs where each order prefers another text; `first_position`: preference for the position
    (-1 to 1); None for the panel. `accuracy`: see `preference_accuracy`; empty without human scores. `tie_share`: of
    the scored pairs; NaN without any.
    """

    wins: WinRates
    strengths: Strengths
    order_changed: Estimate | None
    first_position: Estimate | None
    accuracy: Mapping[str, Estimate]
    tie_share: float
    coverage: float
    unscored: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        strengths = self.strengths
        return {
            "coverage": self.coverage,
            "unscored": dict(self.unscored),
            "tie_share": None if math.isnan(self.tie_share) else self.tie_share,
            "order_changed": self.order_changed.to_json() if self.order_changed else None,
            "first_position": self.first_position.to_json() if self.first_position else None,
            "win_rates": _json(self.wins.of),
            "win_rates_of_two": [
                {"system": one, "against": other, "win_rate": found.to_json()}
                for (one, other), found in self.wins.against.items()
            ],
            "strengths": _json(strengths.strengths),
            "length_controlled_win_rates": _json(strengths.controlled),
            "length_effect": strengths.length_effect.to_json() if strengths.length_effect else None,
            "not_connected": strengths.apart if len(strengths.apart) > 1 else [],
            "no_upper_end": strengths.no_upper_end,
            "no_lower_end": strengths.no_lower_end,
            "accuracy": _json(self.accuracy),
        }


@dataclass(frozen=True)
class PairSlice:
    """The comparisons of one task, data set and aspect, by judge; the panel last."""

    task: str
    dataset: str
    aspect: str
    num_pairs: int
    num_groups: int
    num_rated: int
    systems: tuple[str, ...]
    judges: Mapping[str, Judged]

    @property
    def title(self) -> str:
        return part_title(self.task, self.dataset, self.aspect)

    @property
    def shape(self) -> str:
        few = f"; fewer than {MIN_GROUPS} groups, so no intervals" if self.num_groups < MIN_GROUPS else ""
        return f"{self.num_pairs} pairs, {self.num_groups} groups, {len(self.systems)} systems{few}"

    @property
    def is_balanced(self) -> bool:
        """Whether the panel compared every two systems in every group, so that win rates can be compared."""
        against, num = self.judges[PANEL].wins.against, len(self.systems)
        is_everywhere = all(one.n == self.num_groups for one in against.values())
        return is_everywhere and len(against) == num * (num - 1) // 2

    def ranking(self) -> list[str]:
        """The systems by the panel's strengths, or else its win rates; those without a scored pair last."""
        panel = self.judges[PANEL]
        known = panel.strengths.strengths or panel.wins.of
        return sorted(self.systems, key=lambda name: (-known[name].value if name in known else math.inf, name))

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "dataset": self.dataset,
            "aspect": self.aspect,
            "num_pairs": self.num_pairs,
            "num_groups": self.num_groups,
            "num_rated": self.num_rated,
            "systems": list(self.systems),
            "judges": {name: found.to_json() for name, found in self.judges.items()},
        }


def compared_pairs(run: Path) -> list[PairSlice]:
    """The slices of a run's finished pairs, in the order of their first row.

    Args:
        run: the run folder.
    """
    table = pq.read_table(run / "evaluate" / FOLDER / TABLE)
    scores = _single_scores(run / "evaluate" / "scores.parquet", table)
    keys = table.select(list(PART)).group_by(list(PART), use_threads=False).aggregate([]).to_pylist()
    found = []
    for key in keys:
        chosen = pc.and_(pc.equal(table["task"], key["task"]), pc.equal(table["aspect"], key["aspect"]))
        part = table.filter(pc.and_(chosen, pc.equal(table["dataset"], key["dataset"])))
        found.append(_slice(key, part, scores))
    return found


class _Scores:
    """The single scores of the compared texts by judge, from 0 to 1 on the scale of each."""

    def __init__(self, table: pa.Table) -> None:
        keys = zip(table["id"].to_pylist(), table["aspect"].to_pylist(), strict=True)
        self._place = {key: place for place, key in enumerate(keys)}
        low, high = _floats(table["scale_low"]), _floats(table["scale_high"])
        names = [name for name in table.column_names if name.endswith(".score")]
        # The last row, without a score, is that of texts that are not there.
        self._score = {
            name.removesuffix(".score"): np.append((_floats(table[name]) - low) / (high - low), math.nan)
            for name in names
        }

    def differences(self, part: pa.Table, judge: str) -> Floats:
        """The score of the first text minus that of the second, for each pair; NaN: one of them is not scored."""
        if judge not in self._score:
            return np.full(len(part), math.nan)
        aspects = part["aspect"].to_pylist()
        first_N, second_N = (
            self._score[judge][[self._place.get(key, -1) for key in zip(part[end].to_pylist(), aspects, strict=True)]]
            for end in ("first", "second")
        )
        return np.asarray(first_N - second_N)


def _single_scores(file: Path, pairs: pa.Table) -> _Scores:
    names = [name for name in pq.read_schema(file).names if name.endswith(".score")]
    table = pq.read_table(file, columns=["id", "aspect", "scale_low", "scale_high", *names])
    ids = pa.concat_arrays([part for end in ("first", "second") for part in pairs[end].chunks])
    return _Scores(table.filter(pc.is_in(table["id"], value_set=ids)))


def _slice(key: Mapping[str, str], part: pa.Table, scores: _Scores) -> PairSlice:
    judges = [name.removesuffix(".given") for name in part.column_names if name.endswith(".given")]
    systems = {name for end in ("first", "second") for name in pc.unique(part[f"{end}_system"]).to_pylist()}
    differences = {name: scores.differences(part, name) for name in judges}
    # The panel's single scores may come from judges that compare nothing: those of the judges that compared this pair.
    both = [np.where(np.isnan(_outcomes(part, name)), math.nan, one) for name, one in differences.items()]
    differences[PANEL] = known_mean(np.stack(both))
    return PairSlice(
        **key,
        num_pairs=len(part),
        num_groups=pc.count_distinct(part["group"]).as_py(),
        num_rated=len(part) - part["first_label"].null_count,
        systems=tuple(sorted(systems)),
        judges={name: _judged(name, part, len(systems), difference_N) for name, difference_N in differences.items()},
    )


def _judged(name: str, part: pa.Table, num_systems: int, difference_N: Floats) -> Judged:
    group, outcome_N = part["group"].to_pylist(), _outcomes(part, name)
    comparisons = Comparisons(
        group=group,
        first=part["first_system"].to_pylist(),
        second=part["second_system"].to_pylist(),
        outcome=outcome_N,
        longer=_floats(part["first_chars"]) - _floats(part["second_chars"]),
    )
    order_changed = first_position = None
    if name != PANEL:
        order_changed = mean(_floats(part[f"{name}.order_changed"]), group)
        # How far the text shown first is preferred, in one order and in the other, less what is left for the second.
        first_position = mean(_floats(part[f"{name}.given"]) - _floats(part[f"{name}.turned"]), group, DIFFERENCE)
    scored_N = outcome_N[~np.isnan(outcome_N)]
    reasons = Counter(filter(None, part[f"{name}.unscored"].to_pylist()))
    human_N = _floats(part["first_label"]) - _floats(part["second_label"])
    return Judged(
        wins=win_rates(comparisons),
        strengths=bradley_terry(comparisons) if num_systems <= MOST_SYSTEMS else NO_STRENGTHS,
        order_changed=order_changed,
        first_position=first_position,
        accuracy=preference_accuracy(outcome_N, human_N, difference_N, group),
        tie_share=float((scored_N == OUTCOMES["tie"]).mean()) if len(scored_N) else math.nan,
        coverage=len(scored_N) / len(part),
        unscored=dict(sorted(reasons.items())),
    )


def _outcomes(part: pa.Table, name: str) -> Floats:
    return np.array([OUTCOMES[winner] for winner in part[f"{name}.winner"].to_pylist()])


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), math.nan), dtype=float)


def _json(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.to_json() for name, one in found.items()}
