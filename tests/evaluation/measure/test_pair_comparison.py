"""Pairs of a run: the order of systems that met different opponents, single scores on two scales, the panel's ones."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.measure.pair_comparison import compared_pairs
from tests.evaluation.making import scores_file
from tests.evaluation.reporting.test_pairs_section import pairs_at


def scored_texts(run: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of `scores.parquet`: `id` is the group and the system."""
    known = [{"id": f"{row['group']}{row['system']}", "label": 3.0, **row} for row in rows]
    scales = [row.pop("scale", (1.0, 5.0)) for row in known]
    file = scores_file(run / "evaluate", known)
    table = pq.read_table(file)
    for place, name in enumerate(("scale_low", "scale_high")):
        column = pa.array([float(scale[place]) for scale in scales])
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, file)


def met(first: str, second: str, wins: int, pairs: int) -> list[Any]:
    """The first wins so many of the pairs, each in a group of its own."""
    outcomes = [0.9] * wins + [0.1] * (pairs - wins)
    return [(f"{first}{second}{n}", first, second, one, one, (3.0, 3.0)) for n, one in enumerate(outcomes)]


def test_systems_that_met_different_opponents_are_in_the_order_of_strengths(tmp_path: Path) -> None:
    scored_texts(tmp_path, [{"group": "g", "system": "a", "scores": {"j": 3.0}}])
    rows = [*met("a", "c", 18, 20), *met("b", "d", 20, 40), *met("b", "c", 19, 20)]
    [part] = compared_pairs(pairs_at(tmp_path, rows))
    rates = {name: one.value for name, one in part.judges["panel"].wins.of.items()}
    # b: 39 of 60, d: 20 of 40, c: 3 of 40. By rates a is far ahead; but b beats c more often, and d is equal to b.
    assert rates == pytest.approx({"a": 0.9, "b": 0.65, "c": 0.075, "d": 0.5})
    strengths = {name: one.value for name, one in part.judges["panel"].strengths.strengths.items()}
    assert strengths["b"] == pytest.approx(strengths["d"]) and strengths["b"] > strengths["a"] > strengths["c"]
    assert part.ranking()[2:] == ["a", "c"] and not part.is_balanced


def test_every_two_systems_in_every_group_are_balanced(tmp_path: Path) -> None:
    scored_texts(tmp_path, [{"group": "g", "system": "a", "scores": {"j": 3.0}}])
    rows = [(f"g{n}", *both, 0.9, 0.9, (1.0, 1.0)) for n in range(6) for both in ("ab", "ac", "bc")]
    [part] = compared_pairs(pairs_at(tmp_path, rows))
    assert part.is_balanced and part.ranking() == ["a", "b", "c"] and part.shape == "18 pairs, 6 groups, 3 systems"
    # The judge always prefers the first text of the pair by .9, shown first or second: no preference for a position.
    first = part.judges["j"].first_position
    assert first is not None and first.value == 0 and first.low < 0 < first.high


def test_single_scores_on_two_scales_are_compared_as_shares_of_their_scales(tmp_path: Path) -> None:
    # a has 4 of 1 to 5, b 50 of 0 to 100: a is better, by people and by the judge, which compared them the same way.
    texts: list[dict[str, Any]] = [
        {"group": "g", "system": "a", "scores": {"j": 4.0}},
        {"group": "g", "system": "b", "scores": {"j": 50.0}, "scale": (0, 100)},
    ]
    scored_texts(tmp_path, texts)
    [part] = compared_pairs(pairs_at(tmp_path, [("g", "a", "b", 0.9, 0.9, (4.0, 3.0))]))
    accuracy = part.judges["j"].accuracy
    assert (accuracy["points"].value, accuracy["pairs_minus_points"].value) == (1.0, 0.0)


def test_the_panels_single_scores_are_those_of_the_judges_that_compared(tmp_path: Path) -> None:
    # A fitted judge compares nothing; with it the panel prefers b, by 3.25 to 3.5, and j alone prefers a.
    texts: list[dict[str, Any]] = [
        {"group": "g", "system": "a", "scores": {"j": 4.0, "fitted": 2.5}},
        {"group": "g", "system": "b", "scores": {"j": 3.0, "fitted": 4.0}},
    ]
    scored_texts(tmp_path, texts)
    [part] = compared_pairs(pairs_at(tmp_path, [("g", "a", "b", 0.9, 0.9, (4.0, 3.0))]))
    assert part.judges["panel"].accuracy["points"].value == 1.0
    assert list(part.judges) == ["j", "panel"]


def test_what_one_text_of_a_pair_lacks_is_not_compared(tmp_path: Path) -> None:
    scored_texts(tmp_path, [{"group": "g", "system": "a", "scores": {"j": 4.0}}])
    [part] = compared_pairs(pairs_at(tmp_path, [("g", "a", "b", 0.9, 0.9, (4.0, 3.0))]))
    assert (part.judges["j"].accuracy["points"].n, part.judges["j"].accuracy["pairs"].n) == (0, 1)
