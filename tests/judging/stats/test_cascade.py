"""The cascade's curve of agreement against cost."""

from __future__ import annotations

import math

import pytest

from judging.stats.cascade import cascade, label_entropy
from judging.stats.rows import Columns

GROUPS = [f"g{place // 4}" for place in range(40)]
HUMAN = [float(1 + place % 4) for place in range(40)]
COLUMNS = Columns(GROUPS, HUMAN, [None] * 40)
# The first judge is right on 1 and 4, and turns 2 and 3 around, where it is unsure.
FIRST = [{1.0: 1.0, 2.0: 3.0, 3.0: 2.0, 4.0: 4.0}[value] for value in HUMAN]
UNSURE = [0.9 if value in (2.0, 3.0) else 0.1 for value in HUMAN]


def test_entropy_by_hand() -> None:
    assert label_entropy([0.2] * 5) == pytest.approx(1)
    assert label_entropy([0, 1, 0]) == 0
    # Two of four labels at a half: ln 2 / ln 4 = 1/2.
    assert label_entropy([0.5, 0.5, 0, 0]) == pytest.approx(0.5)
    assert label_entropy([1.0]) == 0


def test_the_unsure_rows_go_first() -> None:
    points = cascade(COLUMNS, FIRST, HUMAN, UNSURE, first_cost=1, panel_cost=5, resamples=50)
    # Two uncertainties: nobody above .9, half above .1, all.
    assert [(point.threshold, point.share) for point in points] == [(0.9, 0.0), (0.1, 0.5), (-math.inf, 1.0)]
    assert [point.cost for point in points] == [1, 3, 5]
    assert [point.cost_share for point in points] == pytest.approx([0.2, 0.6, 1])
    # Spearman of 1 3 2 4 with 1 2 3 4 is .8; with the unsure half from the panel it is whole.
    assert [point.agreement.value for point in points] == pytest.approx([0.8, 1, 1])
    assert points[1].minus_panel.value == pytest.approx(0) and points[0].minus_panel.value == pytest.approx(-0.2)


def test_what_the_first_judge_did_not_score_is_always_escalated() -> None:
    first = [None if place < 4 else value for place, value in enumerate(FIRST)]
    unsure = [None if place < 4 else value for place, value in enumerate(UNSURE)]
    points = cascade(COLUMNS, first, HUMAN, unsure, first_cost=1, panel_cost=2, resamples=50)
    assert points[0].share == pytest.approx(0.1) and points[0].agreement.coverage == 1
    silent = cascade(COLUMNS, [None] * 40, HUMAN, [None] * 40, first_cost=1, panel_cost=2, resamples=50)
    assert [point.share for point in silent] == [1.0]


def test_shares_are_met_where_the_uncertainties_differ() -> None:
    unsure = [place / 40 for place in range(40)]
    points = cascade(COLUMNS, FIRST, HUMAN, unsure, first_cost=0, panel_cost=1, shares=(0, 0.25, 0.5, 1), resamples=50)
    assert [point.share for point in points] == [0, 0.25, 0.5, 1]
    assert [point.cost for point in points] == [0, 0.25, 0.5, 1]
