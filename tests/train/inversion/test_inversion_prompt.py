"""`invert.inversion_prompt`: what an inversion model that was trained elsewhere reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.config import load
from cluster.jobs import sections
from judging.datasets import read_pool
from tests.train.inversion.making import configuration
from train.inversion.config import Config
from train.inversion.one_shot import as_reply, units
from train.inversion.stages import Inversion

ROOT = Path(__file__).parents[3]


def question(folder: Path, **invert: Any) -> tuple[dict[str, Any], str]:
    """The request to the inversion model for the first example, and the example as a judge's reply."""
    run: Any = load(Path(configuration(folder, **invert)), [], sections())
    unit = units(read_pool(run.data), ("a",), aspects=("overall",), together=True, seed=0)[0]
    spec = run.models["inv"]
    inversion = Inversion(run, run.invert, "judge", run.models["judge"], spec, folder)
    return inversion._question("inverse", spec, unit, unit.examples[0], {"number": 0}), as_reply(
        unit, unit.examples[0], with_score=True
    )


def test_the_form_of_our_own_training_is_the_default(tmp_path: Path) -> None:
    asked, reply = question(tmp_path)
    assert (asked["prompt"], asked["reply_prefix"]) == (reply, "")


def test_another_form_has_the_response_in_it(tmp_path: Path) -> None:
    asked, reply = question(tmp_path, inversion_prompt="Response: {response}\nWhich {instruction}?")
    assert asked["prompt"] == f"Response: {reply}\nWhich {{instruction}}?" and asked["reply_prefix"] == ""


@pytest.mark.parametrize("form", ["", "the response", "{response} and {response}"])
def test_a_form_without_the_response_is_refused(form: str) -> None:
    with pytest.raises(ValidationError, match=r"must have \{response\} once"):
        Config(models=("m",), inversion_prompt=form)


def test_the_published_model_is_used_without_training() -> None:
    run: Any = load(ROOT / "configs" / "published.yaml", [], sections())
    assert (run.distill, run.sft, run.instructions) == (None, None, None)
    assert run.models[run.invert.inversion["qwen"]].source == "kou199024/Inverse-Qwen2.5-7B-BlackBox"
    assert run.invert.request("A reply.") == "A reply."
