"""Pairs in batch with scripted judges: a fair one and one with a position bias, every value worked out by hand."""

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.__main__ import main
from cluster.engine import ScriptedEngine
from cluster.model_specs import ScriptedSpec
from evaluation.judges.aggregation import Ballot, VoteConfig
from judging.records import Record
from serve.panel.panel import Ask, Asked, Panel
from tests.cluster.fake_endpoint import Answer, said, serving
from tests.evaluation.batch.comparing import BIASED, FAIR, FIRST, LABELS, asked, compared, run, scripted, texts
from tests.evaluation.certification.certifying import without_ray
from tests.evaluation.making import judge


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("ray") is None:
        without_ray(monkeypatch)


def test_both_orders_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    rows = compared(tmp_path)
    # Three pairs in each of six groups, systems in alphabetical order; both orders of each are asked of both judges.
    assert len(rows) == 18 and len(asked(tmp_path, "biased")) == len(asked(tmp_path, "first")) == 36
    plain, tricky = rows["good5", "mid5"], rows["good0", "mid0"]
    near = {f"biased.{name}": pytest.approx(0.9) for name in ("given", "turned", "first_wins")}
    assert near.items() <= plain.items()
    assert (plain["biased.winner"], plain["biased.order_changed"]) == ("first", False)
    # Shown first by .9; shown second, the other one by .9.
    assert (tricky["biased.given"], tricky["biased.turned"]) == (pytest.approx(0.9), pytest.approx(0.1))
    assert (tricky["biased.winner"], tricky["biased.order_changed"]) == ("tie", True)
    # The judge `first` ties all; the panel's mean of .9 and .5 is .7.
    assert (plain["first.winner"], plain["first.order_changed"]) == ("tie", True)
    assert (plain["panel.first_wins"], plain["panel.winner"]) == (pytest.approx(0.7), "first")
    assert rows["bad5", "good5"]["panel.winner"] == "second"
    assert (plain["first_system"], plain["second_system"], plain["group"]) == ("good", "mid", "g5")
    assert (plain["first_label"], plain["second_label"], plain["first_chars"]) == (5, 3, len("good answer 5."))
    said = capsys.readouterr().out
    assert "18 comparisons of 18 pairs" in said


def test_the_summary_and_the_report_by_hand(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    assert main(["report", str(tmp_path / "c.yaml")]) == 0
    [part] = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())["pairs"]
    found = part["judges"]["biased"]
    # Two of six groups are tricky: all three pairs of each change with the order.
    assert found["order_changed"]["value"] == pytest.approx(6 / 18)
    # Each of these six prefers the first place by .9 - .1 = .8, the others none: 6 x .8 / 18.
    assert found["first_position"]["value"] == pytest.approx(6 * 0.8 / 18)
    # Good wins 8 of 12 and ties 4, mid wins 4, loses 4 and ties 4.
    rates = {name: one["value"] for name, one in found["win_rates"].items()}
    assert rates == {"good": pytest.approx(10 / 12), "mid": 0.5, "bad": pytest.approx(2 / 12)}
    # Right in 12 pairs, a tie in 6: (12 + 3) / 18.
    assert found["accuracy"]["pairs"]["value"] == pytest.approx(15 / 18)
    assert part["judges"]["first"]["order_changed"]["value"] == 1
    assert part["judges"]["panel"]["order_changed"] is None


@pytest.mark.parametrize("vote", [{}, {"cascade": {"first": "biased", "max_entropy": 0.5}}])
def test_batch_and_online_agree_row_by_row(tmp_path: Path, vote: dict[str, Any]) -> None:
    assert run(tmp_path, vote=vote) == 0
    models = {"biased": BIASED, "first": FIRST}
    engines = {name: ScriptedEngine(ScriptedSpec(backend="scripted", rules=rules)) for name, rules in models.items()}
    asked = {name: Asked(judge(name), engine) for name, engine in engines.items()}
    panel = Panel(asked, ballot=Ballot(VoteConfig.model_validate(vote)))
    by_id = {one["id"]: one for one in texts()}
    for (first, second), one in compared(tmp_path).items():
        shown = by_id[first]
        record = Record(first, "qa", shown["group"], shown["source"], shown["candidate"])
        ask = Ask(record, ("overall",), other=by_id[second]["candidate"])
        (answer,) = asyncio.run(panel.judge(ask))
        assert answer.score.score == pytest.approx(1 - one["panel.first_wins"])
        by_name = {given.verdict.judge: given for given in answer.votes}
        assert set(by_name) == {name for name in models if one[f"{name}.unscored"] is None}
        for name, given in by_name.items():
            assert given.verdict.score == pytest.approx(1 - one[f"{name}.first_wins"])
            assert given.is_consistent is not one[f"{name}.order_changed"]


def test_a_system_may_be_named_by_a_number(tmp_path: Path) -> None:
    rows = [{**one, "system": place % 3} for place, one in enumerate(texts(num_groups=2))]
    assert run(tmp_path, rows, {"against": 1}, models={"m": scripted(FAIR)}) == 0
    assert {(one["first_system"], one["second_system"]) for one in compared(tmp_path).values()} == {
        ("0", "1"),
        ("1", "2"),
    }


def test_blank_identical_and_own_texts_are_not_asked_about(tmp_path: Path) -> None:
    rows = texts(num_groups=2, num_tricky=0)
    by_id = {one["id"]: one for one in rows}
    by_id["mid0"]["candidate"] = by_id["good0"]["candidate"]
    by_id["bad1"]["candidate"] = ""
    judges = {"m": {"model": "m"}, "kin": {"model": "m", "not_systems": ["GOOD*"]}}
    assert run(tmp_path, rows, models={"m": scripted(FAIR)}, judges=judges) == 0
    found = {
        key: (one["m.unscored"], one["kin.unscored"], one["panel.unscored"]) for key, one in compared(tmp_path).items()
    }
    assert found == {
        ("good0", "mid0"): (None,) * 3,
        ("bad0", "good0"): (None, "own_family", None),
        ("bad0", "mid0"): (None, None, None),
        ("bad1", "good1"): ("empty",) * 3,
        ("bad1", "mid1"): ("empty",) * 3,
        ("good1", "mid1"): (None, "own_family", None),
    }
    # The same text twice is a tie of all, which says nothing about order.
    same = compared(tmp_path)["good0", "mid0"]
    columns = ("winner", "first_wins", "given", "turned", "order_changed")
    assert [same[f"m.{name}"] for name in columns] == ["tie", 0.5, None, None, None]
    assert (same["panel.winner"], same["kin.winner"]) == ("tie", "tie")
    # Neither order of a pair with a text of its own family was sent to the model.
    assert [one["num_prompt_tokens"] > 0 for one in asked(tmp_path, "kin") if one["unscored"] is None] == [True, True]
    assert {one["num_prompt_tokens"] for one in asked(tmp_path, "kin") if one["unscored"] == "own_family"} == {0}


def test_a_cascade_asks_the_others_in_both_orders_or_not_at_all(tmp_path: Path) -> None:
    judges = {name: {"model": name} for name in ("first", "biased")}
    # The entropy of .9 and .1 is .47 bits: both verdicts of every pair are sure, and contradict each other on tricky
    # ones.
    vote = {"cascade": {"first": "biased", "max_entropy": 0.5}}
    assert run(tmp_path, judges=judges, vote=vote) == 0
    for (first, _), one in compared(tmp_path).items():
        is_tricky = first[-1] in "01"
        assert one["first.unscored"] == (None if is_tricky else "not_asked")
        # The mean of .5 and .5, or the first judge alone.
        assert one["panel.first_wins"] == pytest.approx(0.5 if is_tricky else one["biased.first_wins"])
    # Two of six groups with three pairs in two orders.
    assert sum(one["num_prompt_tokens"] > 0 for one in asked(tmp_path, "first")) == 12
    whole = compared(tmp_path)
    for lost in (tmp_path / "run" / "evaluate" / "pairs").glob("*.*"):
        lost.unlink()
    assert main(["evaluate", str(tmp_path / "c.yaml")]) == 0 and compared(tmp_path) == whole
    assert len(asked(tmp_path, "first")) == 36
    assert main(["report", str(tmp_path / "c.yaml")]) == 0
    stricter = {"cascade": {"first": "biased", "max_entropy": 0.4}}
    (tmp_path / "unsure").mkdir()
    assert run(tmp_path / "unsure", judges=judges, vote=stricter) == 0
    assert {one["first.unscored"] for one in compared(tmp_path / "unsure").values()} == {None}


def test_a_tie_label_and_parsed_replies(tmp_path: Path) -> None:
    tie = {
        "contains": "3 where neither",
        "label_logprobs": {"1": math.log(0.2), "2": math.log(0.1), "3": math.log(0.6)},
    }
    reply = {"contains": "Text 1", "reply": '{"reason": "alike", "overall_score": 3}'}
    models = {"label": scripted([tie, *FAIR]), "said": scripted([reply, {"contains": "", "reply": "Score: 4"}])}
    judges = {"label": {"model": "label"}, "said": {"model": "said", "score_mode": "parsed"}}
    pairs = {"tie": {"label": True, "margin": 0.1}}
    assert run(tmp_path, models=models, judges=judges, pairs=pairs) == 0
    for one in compared(tmp_path).values():
        # Of the mass .9 on the labels: 2/9 first, 1/9 second, 6/9 tie, so 5/9 for the text shown first, in both orders.
        assert (one["label.given"], one["label.turned"]) == (pytest.approx(5 / 9), pytest.approx(4 / 9))
        assert (one["label.winner"], one["label.order_changed"]) == ("tie", True)
        assert (one["said.first_wins"], one["said.winner"], one["said.order_changed"]) == (0.5, "tie", False)


def test_an_endpoint_is_asked_for_both_orders_of_each_pair(tmp_path: Path) -> None:
    with serving() as endpoint:
        # The label 1 in every reply: the first text, whichever it is.
        endpoint.answer = lambda body: Answer(said('{"reason": "fine", "overall_score": 1}'))
        models = {"h": {"backend": "http", "base_url": endpoint.base_url, "model": "m"}}
        judges = {"h": {"model": "h", "score_mode": "parsed"}}
        rows = texts(num_groups=1)
        assert run(tmp_path, rows, {"against": "good"}, models=models, judges=judges) == 0
        asked_for = [body["messages"][0]["content"] for body in endpoint.requests]
    prompts = [text for text in asked_for if "Text 1:" in text]
    # Three single texts, and two pairs in two orders.
    assert (len(asked_for), len(prompts)) == (7, 4)
    orders = {tuple(word for word in re.findall(r">\n(\w+) answer", text)) for text in prompts}
    assert orders == {("good", "mid"), ("mid", "good"), ("good", "bad"), ("bad", "good")}
    assert {one["h.order_changed"] for one in compared(tmp_path).values()} == {True}


def test_aspects_of_their_own_and_labels_where_people_gave_them(tmp_path: Path) -> None:
    assert run(tmp_path, texts(num_groups=1), {"aspects": ["overall", "utility"]}, models={"m": scripted(FAIR)}) == 0
    rows = pq.read_table(tmp_path / "run" / "evaluate" / "pairs" / "pairs.parquet").to_pylist()
    labels = {(one["first"], one["second"], one["aspect"]): one["first_label"] for one in rows}
    assert labels == {
        (first, second, aspect): LABELS[first[:-1]] if aspect == "overall" else None
        for first, second in (("bad0", "good0"), ("bad0", "mid0"), ("good0", "mid0"))
        for aspect in ("overall", "utility")
    }
