"""Two texts compared in both orders: the preference by hand, with two labels, with a tie label, and parsed."""

import math

import pytest

from judging.comparison import both_orders, in_order, pair_id, pairwise, winner
from judging.judge import Judge
from judging.records import Verdict
from tests.evaluation.making import judge, record


def verdict(*probabilities: float, mass: float = 0.9) -> Verdict:
    score = sum(place * one for place, one in enumerate(probabilities, 1))
    return Verdict("j", "overall", score, "expected", label_mass=mass, label_probabilities=probabilities)


def parsed(score: float | None, unscored: str | None = None) -> Verdict:
    return Verdict("j", "overall", score, "parsed", unscored)


def test_two_orders_make_one_preference() -> None:
    # Second text: .1 when shown second, 1 - .8 = .2 when shown first; the mean is .15, and both prefer the first.
    found = both_orders(verdict(0.9, 0.1), verdict(0.2, 0.8, mass=0.4))
    assert (found.given, found.turned, found.is_consistent) == (pytest.approx(0.1), pytest.approx(0.2), True)
    assert (found.verdict.score, found.verdict.label_mass) == (pytest.approx(0.15), 0.4)
    assert found.verdict.label_probabilities is None


def test_a_judge_of_positions_prefers_nothing() -> None:
    # The text shown first by .8 in both orders: second text .2 and .8.
    found = both_orders(verdict(0.8, 0.2), verdict(0.8, 0.2))
    assert (found.verdict.score, found.is_consistent) == (pytest.approx(0.5), False)


def test_a_tie_label_is_half_a_win_for_both() -> None:
    # Given: .2 + .3 / 2 = .35 for the second; turned: 1 - (.1 + .6 / 2) = .6. Their mean is .475.
    found = both_orders(verdict(0.5, 0.2, 0.3), verdict(0.3, 0.1, 0.6))
    assert (found.given, found.turned) == (pytest.approx(0.35), pytest.approx(0.6))
    assert (found.verdict.score, found.is_consistent) == (pytest.approx(0.475), False)


@pytest.mark.parametrize(
    ("given", "turned", "second", "is_consistent"),
    [
        (1, 2, 0.0, True),
        (2, 1, 1.0, True),
        (1, 1, 0.5, False),
        (3, 3, 0.5, True),
        (2, 3, 0.75, True),
        (1, 3, 0.25, True),
    ],
)
def test_parsed_labels(given: float, turned: float, second: float, is_consistent: bool) -> None:
    # 3 is a tie, which contradicts no order.
    found = both_orders(parsed(given), parsed(turned))
    assert (found.verdict.score, found.is_consistent) == (second, is_consistent)


def test_without_one_of_its_orders_a_pair_is_unscored_for_that_reason() -> None:
    first = both_orders(parsed(None, "too_long"), parsed(1))
    assert (first.verdict.unscored, first.given, first.turned, first.is_consistent) == ("too_long", None, 1, None)
    second = both_orders(parsed(1), parsed(None, "timeout"))
    assert (second.verdict.unscored, second.given, second.turned) == ("timeout", 0, None)


@pytest.mark.parametrize(
    ("second", "margin", "who"),
    [(0.52, 0.02, "tie"), (0.48, 0.02, "tie"), (0.521, 0.02, "second"), (0.479, 0.02, "first"), (0.5, 0, "tie")],
)
def test_the_winner_and_the_margin_of_a_tie(second: float, margin: float, who: str) -> None:
    assert winner(second, margin) == who


def test_a_pair_in_one_order_is_a_record() -> None:
    one, other = record("a", candidate="One."), record("b", candidate="Two.", label=None)
    first, turned = in_order(one, other), in_order(other, one)
    assert (first.candidate, first.fields["other"]) == ("One.", "Two.")
    assert (turned.candidate, turned.fields["other"]) == ("Two.", "One.")
    assert (first.id, turned.id) == (pair_id("a", "b"), pair_id("b", "a")) and first.id != turned.id
    assert first.scores == {}  # only one of the two was rated


def test_the_judge_compares_by_the_pairwise_template_without_examples() -> None:
    own = judge("j", examples={("qa", "overall"): [record("e", "h")]}, pool={"e": record("e", "h")})
    found = pairwise(own, [("qa", "overall"), ("qa", "utility")])
    asked = found.request(in_order(record("a", candidate="One."), record("b", candidate="Two.")), "utility")
    assert asked["labels"] == ["1", "2"] and asked["reply_prefix"] == "Score: "
    assert "Text 1:\n<candidate>\nOne.\n</candidate>\nText 2:\n<other>\nTwo.\n</other>" in asked["prompt"]
    assert "Example" not in asked["prompt"] and not found.pool
    with_tie = pairwise(own, [("qa", "overall")], with_tie=True)
    asked = with_tie.request(in_order(record("a"), record("b")), "overall")
    assert asked["labels"] == ["1", "2", "3"] and "3 where neither is better" in asked["prompt"]


def test_low_label_mass_is_an_abstention_as_for_points() -> None:
    found = pairwise(judge("j", min_label_mass=0.5), [("qa", "overall")])
    columns = {"reply": "", "finish_reason": "stop", "error": "", "detail": ""}
    little = {**columns, "label_logprobs": [math.log(0.3), math.log(0.1)]}
    assert found.verdict("qa", "overall", little).unscored == "low_label_mass"
    enough = {**columns, "label_logprobs": [math.log(0.6), math.log(0.2)]}
    assert found.verdict("qa", "overall", enough).score == pytest.approx(1.25)


def test_a_fitted_judge_does_not_compare() -> None:
    with pytest.raises(AssertionError):
        pairwise(Judge("j", "fitted", {}), [("qa", "overall")])
