"""The configurations of the study on other data sets are valid, and name no folder of another run."""

from pathlib import Path

import pytest

from cluster.config import load
from cluster.jobs import sections
from tests.bench.study_data import JOBS, changes, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("part", JOBS)
def test_every_place_of_the_study_follows_the_data_set(part: str) -> None:
    asked = changes(part, "hanna", "relevance", "0.5")[1::2]
    run = load(ROOT / "configs" / f"study-{part}.yaml", asked, sections())
    text = run.model_dump_json()
    assert "topical_chat" not in text and '"overall"' not in text
    assert f"runs/study-{part}/" not in text
    assert run.data.groups_share == 0.5


def test_wrong_arguments_are_told_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "hanna"]) == 2
    assert "SHARE" in capsys.readouterr().out
