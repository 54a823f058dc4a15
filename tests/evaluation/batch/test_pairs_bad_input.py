"""Pairs that cannot be compared: one line, exit 2, no files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from cluster.config import load
from cluster.jobs import sections
from evaluation.batch import evaluate as batch
from tests.evaluation.making import jsonl, row
from tests.refusals import refused

TWO = [row("a", system="one"), row("b", system="two")]
PAIRS = "evaluate.pairs"
# Rows, the section `evaluate`, and the error's code, key and a part of its message.
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str, str, str]] = {
    "no system names": ([row("a"), row("b")], {}, "no_systems", PAIRS, "`system`"),
    "one system": ([row("a", system="one"), row("b", system="one")], {}, "not_enough_systems", PAIRS, "one"),
    "pairs of one candidate": ([row("a", "g", system="one"), row("b", "h", system="two")], {}, "no_pairs", PAIRS, ""),
    "identical candidates alone": (
        [row("a", system="one", candidate="Same."), row("b", system="two", candidate="Same. ")],
        {},
        *("no_pairs", PAIRS, "same text"),
    ),
    "an unknown system": (
        TWO,
        {"pairs": {"against": "three"}},
        *("unknown_system", f"{PAIRS}.against", "The records have one, two."),
    ),
    "an aspect that the task lacks": (
        TWO,
        {"pairs": {"aspects": ["beauty"]}},
        *("unknown_aspect", f"{PAIRS}.aspects", "'beauty'"),
    ),
    "an aspect twice": (
        TWO,
        {"pairs": {"aspects": ["overall", "overall"]}},
        *("invalid_value", f"{PAIRS}.aspects", "duplicate"),
    ),
    "an unknown judge": (TWO, {"pairs": {"judges": ["k"]}}, "unknown_judge", f"{PAIRS}.judges", "'k'"),
    "a judge that cannot compare": (
        TWO,
        {"judges": {"j": {"model": "m"}, "w": {"model": "w"}}, "pairs": {"judges": ["w"]}},
        *("unsupported", f"{PAIRS}.judges", "'w'"),
    ),
    "no judge that can compare": ([*TWO], {"judges": {"w": {"model": "w"}}}, "unsupported", PAIRS, ""),
    "two judges with the same answers": (
        TWO,
        {"judges": {"j": {"model": "m"}, "k": {"model": "m", "prompt": "p.txt"}}, "pairs": {"judges": ["j", "k"]}},
        *("conflict", f"{PAIRS}.judges", "'k' would repeat 'j'"),
    ),
    "judges without the cascade's first": (
        TWO,
        {
            "judges": {"j": {"model": "m"}, "k": {"model": "w2"}},
            "vote": {"cascade": {"first": "j", "max_entropy": 0.5}},
            "pairs": {"judges": ["k"]},
        },
        *("conflict", f"{PAIRS}.judges", "the cascade's first judge 'j' is missing"),
    ),
    "judges without a weight": (
        TWO,
        {
            "judges": {"j": {"model": "m"}, "w": {"model": "w"}},
            "vote": {"rule": "weighted", "weights": {"j": 0, "w": 1}},
        },
        *("conflict", "evaluate.vote.weights", "j, which compare the pairs"),
    ),
    "more votes than judges": (
        TWO,
        {"judges": {"j": {"model": "m"}, "w": {"model": "w"}}, "vote": {"min_votes": 2}},
        *("infeasible", "evaluate.vote.min_votes", "2 votes"),
    ),
    "a margin of everything": (TWO, {"pairs": {"tie": {"margin": 0.5}}}, "invalid_value", f"{PAIRS}.tie.margin", ""),
    "a sample of nothing": (
        TWO,
        {"pairs": {"against": {"sample": 0}}},
        *("invalid_value", f"{PAIRS}.against", "{sample: K}"),
    ),
    "against nothing": (TWO, {"pairs": {"against": ""}}, "invalid_value", f"{PAIRS}.against", "all"),
    "against two systems": (TWO, {"pairs": {"against": ["one", "two"]}}, "invalid_value", f"{PAIRS}.against", "all"),
    "an unknown key": (TWO, {"pairs": {"with": "all"}}, "unknown_key", f"{PAIRS}.with", ""),
}
PROMPT = """---
task: qa
aspects: {overall: [1, 5]}
fields: [{name: source, title: Question}, {name: candidate, title: Answer}]
origin: inverse
about: {groups: []}
---
Rate {{candidate}} as an answer to {{source}}.
"""


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    rows, evaluate, code, key, named = CASES[name]
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "in.jsonl", rows)
    (tmp_path / "p.txt").write_text(PROMPT)
    config = {
        "run": "runs/x",
        "data": {"records": ["in.jsonl"]},
        "models": {
            "m": {"backend": "scripted"},
            "w": {"backend": "features", "feature": "length"},
            "w2": {"backend": "scripted"},
        },
        "evaluate": {"judges": {"j": {"model": "m"}}, "pairs": {}, **evaluate},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with refused(code, key, naming=named):
        batch.main(load(Path("c.yaml"), [], sections()))
    assert main(["evaluate", "c.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("inverdict evaluate: ") and named in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
