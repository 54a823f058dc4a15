"""Which judges share the start of an engine."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import load
from cluster.generate import Sampling
from cluster.jobs import sections
from cluster.model_specs import VllmSpec
from evaluation.batch.config import fingerprint, prepared
from evaluation.batch.inference import Start, _names, starts
from evaluation.judges.judge_config import JudgeConfig
from tests.evaluation.batch.running import configuration
from tests.evaluation.making import row

GREEDY = Sampling(seed=7)


def grouped(**judges: JudgeConfig) -> list[Start]:
    # `x` and `y` are LoRA adapters of `v`.
    plain = {name: VllmSpec(source="org/v") for name in "vw"}
    adapted = {name: VllmSpec(source="org/v", base="v", adapter=f"/{name}") for name in "xy"}
    return starts(judges, {**plain, **adapted}, 7)


def expected(model: str, **more: Any) -> JudgeConfig:
    return JudgeConfig(model=model, **more)


def parsed(model: str, **more: Any) -> JudgeConfig:
    return JudgeConfig(model=model, score_mode="parsed", **more)


def test_one_start_a_model_for_judges_that_read_probabilities() -> None:
    # What only parsed replies feel does not part them.
    found = grouped(a=expected("v"), b=expected("w"), c=expected("v", prompt="inverse", max_tokens=99, temperature=1))
    assert found == [Start("v", GREEDY, ["a", "c"]), Start("w", GREEDY, ["b"])]


def test_one_start_a_model_and_sampling_for_judges_that_reply() -> None:
    hot = Sampling(max_tokens=200, temperature=0.5, seed=7)
    found = grouped(
        a=parsed("v", max_tokens=99),
        b=parsed("v", temperature=0.5),
        c=parsed("v", temperature=0.5, prompt="forward"),
        d=parsed("w", temperature=0.5),
    )
    assert found == [
        Start("v", Sampling(max_tokens=99, seed=7), ["a"]),
        Start("v", hot, ["b", "c"]),
        Start("w", hot, ["d"]),
    ]


def test_both_kinds_never_share_a_start_even_where_nothing_is_drawn() -> None:
    found = grouped(a=parsed("v", max_tokens=GREEDY.max_tokens), b=expected("v"), c=parsed("v", max_tokens=256))
    assert found == [Start("v", GREEDY, ["a", "c"]), Start("v", GREEDY, ["b"])]


def test_the_adapters_of_one_base_and_the_base_share_a_start() -> None:
    found = grouped(a=expected("x"), b=expected("v"), c=expected("w"), d=expected("y"), e=parsed("y"))
    assert found == [
        Start("v", GREEDY, ["a", "b", "d"]),
        Start("w", GREEDY, ["c"]),
        Start("v", Sampling(max_tokens=200, seed=7), ["e"]),
    ]


def test_without_judges_nothing_is_started() -> None:
    assert grouped() == []


@pytest.mark.parametrize(
    ("judges", "words"), [("a", "a"), ("abc", "a, b, c"), ("abcd", "m: 4 prompts"), ("abcdefghijkl", "m: 12 prompts")]
)
def test_the_judges_in_a_line_of_progress(judges: str, words: str) -> None:
    assert _names(Start("m", GREEDY, list(judges))) == words


def identity(folder: Path, judge: dict[str, Any], **evaluate: Any) -> dict[str, Any]:
    folder.mkdir()
    scripted = {"m": {"backend": "scripted"}}
    path = configuration(folder, [row("r")], scripted, judges={"j": {"model": "m", **judge}}, **evaluate)
    found = prepared(load(Path(path), [], sections()))
    return fingerprint(found.evaluation, found.asked)


def test_only_what_is_sampled_is_known_by_how_its_seeds_are_made(tmp_path: Path) -> None:
    drawn = {"score_mode": "parsed", "temperature": 0.7}
    for number, judge in enumerate(({}, {"temperature": 0.7}, {"score_mode": "parsed"})):
        assert "seeds" not in identity(tmp_path / str(number), judge, integrator={"model": "m"})
    assert identity(tmp_path / "drawn", drawn)["seeds"] == "by prompt"
    integrator = {"model": "m", "temperature": 0.7}
    assert identity(tmp_path / "integrated", {}, integrator=integrator)["seeds"] == "by prompt"
