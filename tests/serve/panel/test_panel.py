"""The panel: votes, deadlines, quorum, both orders of a pair. Engines by hand."""

import asyncio
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.engine import Engine, ScriptedEngine
from cluster.exchange import Reply, Request
from cluster.model_specs import ScriptedSpec
from evaluation.judges.aggregation import Ballot, VoteConfig
from evaluation.judges.integrator import Integrator, IntegratorConfig
from judging.records import Record
from serve.panel.panel import Ask, Asked, Panel
from tests.evaluation.making import judge

RECORD = Record("r", "qa", "g", "Why?", "Because it is good.")


def scored(score: int) -> ScriptedEngine:
    """All probability on one label."""
    logprobs = {str(label): 0.0 if label == score else -1e9 for label in range(1, 6)}
    return ScriptedEngine(ScriptedSpec(backend="scripted", rules=({"contains": "", "label_logprobs": logprobs},)))


class Hung:
    """Never answers, and notes that its request was cancelled."""

    cancelled = 0

    async def generate(self, request: Request) -> Reply:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


class Failing:
    """Fails so many times, then gives the middle of the scale."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.asked = 0

    async def generate(self, request: Request) -> Reply:
        self.asked += 1
        if self.left:
            self.left -= 1
            return Reply(error="error", detail="ActorDiedError")
        return await scored(3).generate(request)


class Broken:
    async def generate(self, request: Request) -> Reply:
        raise RuntimeError("the judged text: secret")


def panel(**engines: Engine) -> Panel:
    return Panel({name: Asked(judge(name), engine) for name, engine in engines.items()})


def ask(**changes: Any) -> Ask:
    return Ask(**{"record": RECORD, "aspects": ("overall",), "timeout_s": 5.0, **changes})


async def test_all_judges_vote() -> None:
    (found,) = await panel(a=scored(2), b=scored(5)).judge(ask())
    assert found.score.score == pytest.approx(3.5)
    assert [vote.verdict.score for vote in found.votes] == [pytest.approx(2), pytest.approx(5)]
    assert (found.has_quorum, found.is_degraded) == (True, False)


async def test_a_hung_judge_costs_its_vote_not_the_answer() -> None:
    hung = Hung()
    began = time.monotonic()
    (found,) = await panel(a=scored(2), b=hung).judge(ask(timeout_s=0.3))
    assert time.monotonic() - began < 2
    assert found.score.score == pytest.approx(2)
    assert found.votes[1].verdict.unscored == "timeout"
    assert (found.has_quorum, found.is_degraded) == (True, True)
    await asyncio.sleep(0)
    assert hung.cancelled == 1


async def test_below_the_quorum_there_is_no_score_and_every_reason() -> None:
    (found,) = await panel(a=scored(2), b=Hung(), c=Broken()).judge(ask(timeout_s=0.2, min_votes=2))
    assert (found.score.score, found.score.unscored, found.has_quorum) == (None, "no_quorum", False)
    assert [vote.verdict.unscored for vote in found.votes] == [None, "timeout", "error"]
    assert found.may_be_mended
    assert "secret" not in str(found.votes)


async def test_a_failure_of_the_server_is_tried_once_more() -> None:
    once, twice = Failing(1), Failing(2)
    (found,) = await panel(a=once, b=twice).judge(ask())
    assert found.votes[0].verdict.score == pytest.approx(3)
    assert found.votes[1].verdict.unscored == "error"
    assert (once.asked, twice.asked) == (2, 2)


async def test_only_those_named_are_asked() -> None:
    (found,) = await panel(a=scored(2), b=scored(5), c=Broken()).judge(ask(judges=("b",)))
    assert [vote.verdict.judge for vote in found.votes] == ["b"]
    assert found.score.score == pytest.approx(5)


async def test_a_client_that_leaves_ends_the_work() -> None:
    hung = Hung()
    work = asyncio.create_task(panel(a=hung).judge(ask(timeout_s=30)))
    await asyncio.sleep(0.05)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.sleep(0.05)
    assert hung.cancelled == 1


def cascaded(rule: str = "mean", **engines: Engine) -> Panel:
    """A panel that asks `a` first, and the others where its labels' entropy is above a half."""
    config = VoteConfig.model_validate({"rule": rule, "cascade": {"first": "a", "max_entropy": 0.5}})
    return Panel({name: Asked(judge(name), engine) for name, engine in engines.items()}, ballot=Ballot(config))


def unsure() -> ScriptedEngine:
    rule = {"contains": "", "label_logprobs": {str(label): math.log(0.2) for label in range(1, 6)}}
    return ScriptedEngine(ScriptedSpec(backend="scripted", rules=(rule,)))


async def test_a_sure_first_judge_is_asked_alone() -> None:
    (found,) = await cascaded(a=scored(2), b=Broken()).judge(ask())
    assert [vote.verdict.judge for vote in found.votes] == ["a"]
    assert (found.score.score, found.score.num_votes, found.is_degraded) == (pytest.approx(2), 1, False)


async def test_the_others_are_asked_where_the_first_is_unsure_or_silent() -> None:
    # All labels alike: 3 with entropy 1. (3 + 5) / 2 = 4.
    (found,) = await cascaded(a=unsure(), b=scored(5)).judge(ask())
    assert [vote.verdict.judge for vote in found.votes] == ["a", "b"] and found.score.score == pytest.approx(4)
    (silent,) = await cascaded(a=Broken(), b=scored(5)).judge(ask())
    assert silent.score.score == pytest.approx(5) and silent.is_degraded
    (hung,) = await cascaded(a=Hung(), b=scored(5)).judge(ask(timeout_s=0.6))
    assert hung.score.score == pytest.approx(5) and hung.votes[0].verdict.unscored == "timeout"


async def test_judges_of_the_clients_choice_know_no_cascade() -> None:
    (found,) = await cascaded(a=scored(2), b=scored(5)).judge(ask(judges=("b",)))
    assert [vote.verdict.judge for vote in found.votes] == ["b"]


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_the_judges_never_matters(names: list[str]) -> None:
    scores = {"a": 1, "b": 2, "c": 2, "d": 5}
    for rule, value in (("mean", 2.5), ("median", 2.0)):
        given_order = panel(**{name: scored(scores[name]) for name in names})
        (found,) = asyncio.run(given_order.judge(ask(rule=rule)))
        assert found.score.score == pytest.approx(value)


class Prefers:
    """Says 1 or 2: by place, or for the text that holds a word."""

    def __init__(self, *, place: int = 0, word: str = "") -> None:
        self._place, self._word = place, word

    async def generate(self, request: Request) -> Reply:
        first = request.prompt.split("Text 1:")[1].split("Text 2:")[0]
        wanted = self._place or (1 if self._word in first else 2)
        return Reply(label_logprobs=tuple(math.log(0.9 if int(one) == wanted else 0.1) for one in request.labels))


async def test_a_pair_is_judged_in_both_orders() -> None:
    pair = ask(other="Nonsense.", timeout_s=5)
    (found,) = await panel(by_place=Prefers(place=1), by_word=Prefers(word="good")).judge(pair)
    place, word = found.votes
    assert (place.verdict.score, place.is_consistent) == (pytest.approx(0.5), False)
    assert (word.verdict.score, word.is_consistent) == (pytest.approx(0.1), True)
    assert found.score.score == pytest.approx(0.3)


async def test_a_majority_is_no_rule_for_preferences() -> None:
    # Of .5 and .1 the rounded labels would be 1 and 0: a vote for the second text that nobody gave.
    judges = panel(by_place=Prefers(place=1), by_word=Prefers(word="good"))
    (found,) = await judges.judge(ask(other="Nonsense.", rule="majority"))
    assert (found.score.score, found.rule) == (pytest.approx(0.3), "mean")


async def test_a_pair_without_one_of_its_orders_is_unscored() -> None:
    class OnlyFirst(Prefers):
        asked = 0

        async def generate(self, request: Request) -> Reply:
            self.asked += 1
            return await super().generate(request) if self.asked == 1 else Reply(error="too_long")

    (found,) = await panel(a=OnlyFirst(place=1)).judge(ask(other="x"))
    assert (found.votes[0].verdict.score, found.votes[0].verdict.unscored) == (None, "too_long")
    assert not found.may_be_mended


async def test_the_integrating_model_decides_and_its_failure_falls_back_to_the_vote() -> None:
    def integrated(**rule: Any) -> Panel:
        spec = ScriptedSpec(backend="scripted", rules=({"contains": "", **rule},))
        integrator = Integrator(IntegratorConfig(model="i"), ScriptedEngine(spec))
        return Panel({"a": Asked(judge("a"), scored(2)), "b": Asked(judge("b"), scored(5))}, integrator)

    (found,) = await integrated(reply='{"reason": "both", "overall_score": 4}').judge(ask())
    assert (found.score.score, found.is_degraded) == (4, False)
    for rule, error in (({"reply": "hm"}, "unparsed"), ({"error": "error"}, "error")):
        (found,) = await integrated(**rule).judge(ask())
        assert found.score.score == pytest.approx(3.5)
        assert found.integration is not None
        assert (found.integration.error, found.is_degraded) == (error, True)
    (found,) = await integrated(reply="4").judge(ask(integrate=False))
    assert (found.integration, found.score.score) == (None, pytest.approx(3.5))


async def test_a_hung_integrator_leaves_the_vote() -> None:
    both = {"a": Asked(judge("a"), scored(2)), "b": Asked(judge("b"), scored(5))}
    began = time.monotonic()
    (found,) = await Panel(both, Integrator(IntegratorConfig(model="i"), Hung())).judge(ask(timeout_s=0.4))
    assert time.monotonic() - began < 2
    assert found.score.score == pytest.approx(3.5)
    assert found.integration is not None
    assert found.integration.error == "timeout"


def test_nothing_of_the_panel_knows_http() -> None:
    text = (Path(__file__).parents[3] / "serve" / "panel" / "panel.py").read_text()
    assert not {"fastapi", "starlette", "httpx"} & set(text.split())
